"""Texts as vectors, by a GGUF embedding model. Knows nothing of pools or questions."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from urial_local.base.errors import ModelError
from urial_local.runtime import llama_api
from urial_local.runtime.adapters import Adapter
from urial_local.runtime.llama_api import lib
from urial_local.runtime.model import GpuLayers, Model
from urial_local.runtime.threads import default_threads

MAX_TOKENS = 512  # of a text; the rest is left out, as embedding models do
_NONE, _MEAN = 0, 1  # pooling types, see llama.h


class Embedder:
    """One embedding model; close it, or use it as a context manager.

    A model that names no pooling gets the mean over its tokens.
    """

    def __init__(
        self,
        path: Path,
        *,
        adapters: Sequence[Adapter] = (),
        threads: int | None = None,
        gpu_layers: GpuLayers = "auto",
    ) -> None:
        """Raises ModelError for a file that cannot be used."""
        self.model = Model(path, gpu_layers=gpu_layers, adapters=adapters)
        params = lib.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = MAX_TOKENS
        params.embeddings = True
        params.n_threads = params.n_threads_batch = threads or default_threads(self.model.n_params)
        self._context = self._open(params)
        if lib.llama_pooling_type(self._context) == _NONE:
            lib.llama_free(self._context)
            params.pooling_type = _MEAN
            self._context = self._open(params)
        self.size: int = lib.llama_model_n_embd(self.model.handle)

    def _open(self, params: Any) -> Any:
        llama_api.clear_errors()
        context = lib.llama_init_from_model(self.model.handle, params)
        if not context:
            self.model.close()
            raise ModelError(f"llama.cpp cannot embed with this model: {llama_api.last_errors()}")
        try:
            self.model.adapt(context)
        except ModelError:
            lib.llama_free(context)
            self.model.close()
            raise
        return context

    def __enter__(self) -> Embedder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        lib.llama_free(self._context)
        self.model.close()

    def embed(self, text: str) -> npt.NDArray[np.float32]:
        """A text's direction: float32 [size], of length one (zero for a text without tokens).

        Raises TokenizeError for a text that the vocabulary cannot express, ModelError where
        llama.cpp fails.
        """
        # No token has more than some dozens of characters, so what is cut off is not looked at.
        beginning = text[: 64 * MAX_TOKENS]
        ids = self.model.vocab.tokenize(beginning)[:MAX_TOKENS].astype(np.int32)
        if not len(ids):
            return np.zeros(self.size, np.float32)
        lib.llama_memory_clear(lib.llama_get_memory(self._context), True)
        array = (lib.llama_token * len(ids))(*ids.tolist())
        status = lib.llama_decode(self._context, lib.llama_batch_get_one(array, len(ids)))
        pointer = lib.llama_get_embeddings_seq(self._context, 0)
        if status or not pointer:
            raise ModelError(f"llama.cpp failed to embed a text ({status}).")
        buffer = ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float))
        vector = np.ctypeslib.as_array(buffer, (self.size,)).astype(np.float32)
        norm = float(np.linalg.norm(vector))
        return vector / norm if norm else vector
