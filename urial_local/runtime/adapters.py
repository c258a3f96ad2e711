"""Adapters of a model: which, how strongly, and what of them a context is told.

llama.cpp keeps adapters beside a model's weights and applies them by context, so one copy of the
weights serves a base model and as many adapted ones as there are contexts.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from urial_local.base.adapter_file import AdapterFacts, check_fits, read_adapter
from urial_local.base.errors import ModelError
from urial_local.base.gguf_header import GGUFHeader
from urial_local.base.model_names import AdapterName
from urial_local.runtime import llama_api
from urial_local.runtime.llama_api import lib

_READ = 1 << 20  # bytes at once


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter's file, checked, and how strongly it is applied."""

    named: AdapterName
    header: GGUFHeader
    facts: AdapterFacts
    sha256: str  # of the whole file

    @property
    def path(self) -> Path:
        return self.named.path

    @property
    def scale(self) -> float:
        return self.named.scale

    def about(self) -> dict[str, Any]:
        """For run.json: all that decides what it does. The same file under another name is the same
        adapter."""
        return {"kind": self.named.kind, "sha256": self.sha256, "scale": self.scale}


def checked_adapters(named: Iterable[AdapterName], model: GGUFHeader) -> tuple[Adapter, ...]:
    """Read the headers of adapters and hold them against that of the model that they are to change.
    Raises ModelError."""
    found = []
    for one in named:
        header, facts = read_adapter(one.path, one.kind)
        check_fits(one.path, facts, model)
        found.append(Adapter(one, header, facts, _sha256(one.path)))
    return tuple(found)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while data := file.read(_READ):
                digest.update(data)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}.", "Check the path.") from None
    return digest.hexdigest()


def with_adapters(fingerprint: str, adapters: Sequence[Adapter]) -> str:
    """A model's fingerprint, with adapters: sha256 (first 32 hex digits) over that of its file and,
    of each adapter in turn, its kind, its file's sha256 and its scale. Without any it is the
    model's own."""
    if not adapters:
        return fingerprint
    parts = [fingerprint, *(f"{a.named.kind} {a.sha256} {a.scale!r}" for a in adapters)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def titled(title: str, adapters: Sequence[Adapter]) -> str:
    """A model's title with what changes it: Gemma 3 270M + lora@0.5."""
    return " + ".join([title, *(a.named.label for a in adapters)])


def load_lora(model: Any, path: Path) -> Any:
    """Read an adapter's weights beside those of an open model; before the contexts that are to use
    it are made, since these reserve room for it. Freed with the model. Raises ModelError."""
    llama_api.clear_errors()
    handle = lib.llama_adapter_lora_init(model, bytes(path))
    if not handle:
        said = llama_api.last_errors()
        raise ModelError(
            f"llama.cpp cannot load the adapter {path}" + (f": {said}." if said else "."),
            "The file may be damaged or made for another model, or there is too little memory.",
        )
    return handle


def set_loras(context: Any, loras: Sequence[tuple[Any, float]]) -> None:
    """Let a context apply these adapters, each with its scale. Raises ModelError."""
    if not loras:
        return
    handle = lib.llama_adapter_lora_p_ctypes
    handles = (handle * len(loras))(*(ctypes.cast(h, handle) for h, _ in loras))
    scales = (ctypes.c_float * len(loras))(*(scale for _, scale in loras))
    if lib.llama_set_adapters_lora(context, handles, len(loras), scales):
        raise ModelError(f"llama.cpp refused the adapter: {llama_api.last_errors()}")


def directions(
    adapters: Iterable[Adapter], layers: int, width: int
) -> npt.NDArray[np.float32] | None:
    """What control vectors add to the layers from the second on, with their scales: float32
    [layers - 1, width], Σ over vectors of scale · direction; None where there are none.

    Raises ModelError where one holds something else than finite numbers.
    """
    vectors = [a for a in adapters if a.named.kind == "cvec" and a.scale]
    if not vectors:
        return None
    total = np.zeros((layers - 1, width), np.float32)
    for adapter in vectors:
        with adapter.path.open("rb") as file:
            for tensor in adapter.header.tensors:
                file.seek(adapter.header.data_start + tensor.offset)
                data = np.frombuffer(file.read(tensor.size), "<f4")
                layer = int(tensor.name.rpartition(".")[2])
                if layer >= layers or data.size != width or not np.isfinite(data).all():
                    raise ModelError(
                        f"{adapter.path}, {tensor.name}: its numbers are not finite, or not as many"
                        " as its header says.",
                        "Download or make it again.",
                    )
                total[layer - 1] += np.float32(adapter.scale) * data
    return total


def set_directions(context: Any, found: npt.NDArray[np.float32] | None) -> None:
    """Let a context add these to what its layers hand on. Raises ModelError."""
    if found is None:
        return
    layers, width = found.shape
    data = found.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    if lib.llama_set_adapter_cvec(context, data, found.size, width, 1, layers):
        raise ModelError(f"llama.cpp refused the control vector: {llama_api.last_errors()}")
