"""Opens a GGUF model: weights, vocabulary, metadata. Knows nothing of prompts or sequences."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from urial_local.base import gguf_parts
from urial_local.base.errors import ModelError, UsageError
from urial_local.base.gguf_facts import kv_bytes_per_token
from urial_local.base.gguf_header import GGUFHeader, TensorInfo
from urial_local.runtime import llama_api
from urial_local.runtime.adapters import (
    Adapter,
    directions,
    set_directions,
    set_loras,
    titled,
    with_adapters,
)
from urial_local.runtime.llama_api import lib
from urial_local.runtime.vocabulary import Vocabulary
from urial_local.runtime.weights import Weights, take

GpuLayers = int | Literal["auto", "all"]
_READ_WHOLE = 1 << 22  # bytes of weights up to which a fingerprint reads them all
_SAMPLES, _OF_EACH, _SAMPLE_BYTES = 256, 3, 1 << 13


class Model:
    """A model in memory; close it, or use it as a context manager."""

    def __init__(
        self,
        path: Path | str,
        *,
        gpu_layers: GpuLayers = "auto",
        header: GGUFHeader | None = None,
        adapters: Sequence[Adapter] = (),
    ) -> None:
        """Check the file's header (those of all its parts), unless it is given, then load it
        (memory-mapped), unless it is in memory already. Contexts of this model apply `adapters`.

        Raises ModelError for a file that is missing, malformed or not a text-generating model.
        """
        self.path = Path(path)
        self.header: GGUFHeader = header or gguf_parts.read_model(self.path)
        self._handles = ExitStack()
        self.gpu_layers: int = _layers(gpu_layers)
        weights = take(self.path, self.header, self.gpu_layers)
        self._handles.callback(weights.release)
        self.handle: Any = weights.handle
        self.adapters = tuple(adapters)
        try:
            self._ask()
            self._load_adapters(weights)
        except BaseException:
            self.close()
            raise

    def _ask(self) -> None:
        """What llama.cpp says of the weights. Raises ModelError where they do not go on with a
        text."""
        if lib.llama_model_has_encoder(self.handle) or not lib.llama_model_has_decoder(self.handle):
            raise ModelError(
                f"{self.path} is not a decoder-only language model, so it cannot continue text."
            )
        self.vocab = Vocabulary(lib.llama_model_get_vocab(self.handle))
        self.ctx_train: int = lib.llama_model_n_ctx_train(self.handle)
        self.n_layer: int = lib.llama_model_n_layer(self.handle)
        self.n_params: int = lib.llama_model_n_params(self.handle)
        # Tokens that windowed layers attend to; 0 where every layer attends to all.
        self.window: int = lib.llama_model_n_swa(self.handle)
        # Recurrent state cannot be cut back to an earlier position.
        self.recurrent = bool(
            lib.llama_model_is_recurrent(self.handle) or lib.llama_model_is_hybrid(self.handle)
        )

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._handles.close()

    def _load_adapters(self, weights: Weights) -> None:
        """A scale of 0 is none at all: such a model's numbers are the base's, bit by bit. The same
        adapter twice is once with both scales, since a context keeps one scale for each."""
        loras = [a for a in self.adapters if a.named.kind == "lora"]
        scales: dict[str, float] = {}
        for adapter in loras:
            scales[adapter.sha256] = scales.get(adapter.sha256, 0.0) + adapter.scale
        self._loras: list[tuple[Any, float]] = []
        for adapter in {a.sha256: a for a in loras}.values():
            if scale := scales[adapter.sha256]:
                self._loras.append((weights.take_lora(adapter), scale))
                self._handles.callback(weights.release_lora, adapter)
        width = lib.llama_model_n_embd(self.handle)
        self._directions = directions(self.adapters, self.n_layer, width)

    def adapt(self, context: Any) -> None:
        """Let a new context of this model apply its adapters. Raises ModelError."""
        set_loras(context, self._loras)
        set_directions(context, self._directions)

    @property
    def name(self) -> str:
        own = str(self.header.metadata.get("general.name") or self.path.stem)
        return titled(own, self.adapters)

    @cached_property
    def description(self) -> str:
        """llama.cpp's own one-line description, such as "llama 7B Q4_K - Medium"."""
        buffer = ctypes.create_string_buffer(256)
        lib.llama_model_desc(self.handle, buffer, 256)
        return buffer.value.decode("utf-8", "replace")

    @property
    def chat_template(self) -> str:
        """The chat template in the file, or an empty string."""
        return str(self.header.metadata.get("tokenizer.chat_template") or "")

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of keys and values that one token takes in an f16 cache, all layers together."""
        return kv_bytes_per_token(self.header)

    @property
    def state_bytes_per_token(self) -> int | None:
        """Bytes of a sequence's state for each token: no more than this, with room for f32 and for
        layouts that the header does not tell. None where the state does not grow by the token."""
        return None if self.recurrent else 4 * self.kv_bytes_per_token or None

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (first 32 hex digits) that tells this file, with these adapters, from others; see
        `fingerprint` and `with_adapters`."""
        return with_adapters(fingerprint(self.path, self.header), self.adapters)


@contextlib.contextmanager
def open_vocabulary(path: Path | str) -> Iterator[Vocabulary]:
    """A file's vocabulary without its weights. The file's header must have been checked.

    Raises ModelError where there is none.
    """
    params = lib.llama_model_default_params()
    params.vocab_only = True
    llama_api.clear_errors()
    handle = lib.llama_model_load_from_file(os.fsencode(path), params)
    if not handle:
        raise ModelError(f"llama.cpp cannot read {path}'s vocabulary: {llama_api.last_errors()}")
    try:
        yield Vocabulary(lib.llama_model_get_vocab(handle))
    finally:
        lib.llama_model_free(handle)


def fingerprint(path: Path, header: GGUFHeader) -> str:
    """Identifies a model's content without reading all of it.

    Hashes the size, the whole header, and samples of 8 KiB of each tensor: its start, its middle,
    its end, and more the larger it is (all of the weights up to 4 MiB); of each part where there
    are several. A tensor that was replaced is seen, a change between two samples is not.
    """
    digest = hashlib.sha256()
    for part, own in gguf_parts.files(path, header):
        digest.update(own.file_size.to_bytes(8, "little"))
        with part.open("rb") as file:
            digest.update(file.read(own.data_start))
            if own.file_size - own.data_start <= _READ_WHOLE:
                digest.update(file.read())
                continue
            for start, size in _samples(own.tensors):
                file.seek(own.data_start + start)
                digest.update(file.read(size))
    return digest.hexdigest()[:32]


def _samples(tensors: Sequence[TensorInfo]) -> Iterator[tuple[int, int]]:
    """(start, size) in bytes of what a fingerprint reads of the data section."""
    total = sum(tensor.size for tensor in tensors)
    for tensor in tensors:
        count = _OF_EACH + round(_SAMPLES * tensor.size / total)
        if tensor.size <= count * _SAMPLE_BYTES:
            yield tensor.offset, tensor.size
            continue
        step = (tensor.size - _SAMPLE_BYTES) / (count - 1)
        for i in range(count):
            yield tensor.offset + round(i * step), _SAMPLE_BYTES


def _layers(gpu_layers: GpuLayers) -> int:
    if gpu_layers == "auto":
        return -1 if llama_api.gpu_offload() else 0
    if gpu_layers == "all":
        return -1
    if gpu_layers < 0:
        raise UsageError(f"`gpu_layers` {gpu_layers} must be auto, all, or 0 and more.")
    return gpu_layers
