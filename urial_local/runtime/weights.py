"""A model's weights, once in memory for all who open the same file at the same time: a base model
and the same with an adapter, a guide, the two models of a pair.

Weights are never written to, and contexts keep all that differs, so sharing changes no number.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from urial_local.base import gguf_parts
from urial_local.base.errors import ModelError
from urial_local.base.gguf_header import GGUFHeader
from urial_local.runtime import llama_api
from urial_local.runtime.adapters import Adapter, load_lora
from urial_local.runtime.llama_api import lib

_Key = tuple[Any, ...]
_open: dict[_Key, Weights] = {}
_lock = threading.RLock()


class Weights:
    """One llama_model and the adapters beside it. `taken` and `release` count who needs it; the
    last to leave frees it. Contexts over it must be closed before."""

    def __init__(self, key: _Key, handle: Any) -> None:
        self._key, self.handle = key, handle
        self._users = 0
        self._loras: dict[str, tuple[Any, int]] = {}  # by sha256: the handle, and its users

    def release(self) -> None:
        with _lock:
            self._users -= 1
            if not self._users:
                del _open[self._key]
                lib.llama_model_free(self.handle)

    def take_lora(self, adapter: Adapter) -> Any:
        """The adapter's handle, loaded by the first who asks. Raises ModelError."""
        with _lock:
            handle, users = self._loras.get(adapter.sha256) or (None, 0)
            handle = handle or load_lora(self.handle, adapter.path)
            self._loras[adapter.sha256] = handle, users + 1
            return handle

    def release_lora(self, adapter: Adapter) -> None:
        with _lock:
            handle, users = self._loras.pop(adapter.sha256)
            if users > 1:
                self._loras[adapter.sha256] = handle, users - 1
            else:
                lib.llama_adapter_lora_free(handle)


def take(path: Path, header: GGUFHeader, gpu_layers: int) -> Weights:
    """A file's weights, memory-mapped by the first who asks; each who takes them releases them.

    Raises ModelError where llama.cpp cannot load them.
    """
    with _lock:
        key = _key(path, header, gpu_layers)
        if key not in _open:
            _open[key] = Weights(key, _load(path, gpu_layers))
        found = _open[key]
        found._users += 1
        return found


def _key(path: Path, header: GGUFHeader, gpu_layers: int) -> _Key:
    """The same files, unchanged since, with the same layers on a GPU."""
    stats = [os.stat(part) for part, _ in gguf_parts.files(path, header)]
    return gpu_layers, *((s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns) for s in stats)


def _load(path: Path, gpu_layers: int) -> Any:
    params = lib.llama_model_default_params()
    params.n_gpu_layers = gpu_layers
    # The code for AMX ends the process where GCC compiled it: llama_api says why.
    params.use_extra_bufts = not llama_api.amx_built()
    llama_api.clear_errors()
    handle = lib.llama_model_load_from_file(os.fsencode(path), params)
    if not handle:
        said = llama_api.last_errors()
        raise ModelError(
            f"llama.cpp cannot load {path}" + (f": {said}." if said else "."),
            "The file may be damaged, or newer than this llama.cpp; or memory is short.",
        )
    return handle
