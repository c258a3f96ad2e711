"""One llama.cpp context: numbered token sequences whose keys and values lie in one cache.

The thinnest layer over `llama_decode`: it fills batches, hands out the logits where llama.cpp wrote
them, and copies, cuts and saves sequences. It knows nothing of requests, rows or stops.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from urial_local.base.errors import ContextOverflow, ModelError
from urial_local.base.gguf_facts import refuse_beyond_memory
from urial_local.runtime import llama_api
from urial_local.runtime.llama_api import lib
from urial_local.runtime.model import Model
from urial_local.runtime.native import native
from urial_local.runtime.pace import MACHINE
from urial_local.runtime.threads import default_threads

Logits = npt.NDArray[np.float32]
KvType = Literal["f16", "f32", "q8_0"]
_NO_ROOM, _ABORTED = 1, 2
_KV_TYPES = {"f32": 0, "f16": 1, "q8_0": 8}  # ggml's numbers


class Aborted(Exception):
    """The abort flag was set while llama.cpp computed; the caches of the batch are in doubt."""


class BatchToken(NamedTuple):  # a tuple, since one is made for every token that is decoded
    """One token to decode: its id, its position and sequence, and whether its logits are wanted."""

    token: int
    position: int
    sequence: int
    wanted: bool


class Sequences:
    """Sequences 0 … n_seq-1 over `cells` cells of one cache; close it before its model."""

    def __init__(
        self,
        model: Model,
        *,
        cells: int,
        n_seq: int,
        batch: int = 512,
        threads: int | None = None,
        flash_attention: bool | None = None,
        kv_type: KvType = "f16",
        unified: bool = True,
        abort_flag: npt.NDArray[np.int32] | None = None,
    ) -> None:
        """`unified`: sequences share all cells, and can share those of a common prefix. Otherwise
        each has an equal part of its own, and attention does not walk the others' cells. Contexts
        that are to stop together are given one abort flag, an int32 [1].

        Raises ModelError when llama.cpp cannot make the context, mostly for lack of memory.

        Flash attention is left to llama.cpp on a GPU and off on a CPU, where it rounds keys and
        values and makes logits depend on the shape of the batch.
        """
        self.model, self.n_seq, self._unified = model, n_seq, unified
        self.n_vocab = model.vocab.size
        # A number that the user chose stays; ours leaves cores to those who keep them busy.
        self._most_threads = 0 if threads else default_threads(model.n_params)
        self.threads = threads or self._most_threads
        params = _shape(cells, n_seq, batch, unified)
        params.n_threads = params.n_threads_batch = self.threads
        params.type_k = params.type_v = _KV_TYPES[kv_type]
        params.flash_attn_type = _flash_attention(flash_attention, model, kv_type)
        if not model.gpu_layers:
            refuse_beyond_memory(model.header, params.n_ctx, kv_type)
        self._handles = ExitStack()
        self.handle = _context(model, params, cells, kv_type)
        self._handles.callback(lib.llama_free, self.handle)
        try:
            model.adapt(self.handle)
        except BaseException:
            self.close()
            raise
        self._memory = lib.llama_get_memory(self.handle)
        # Whether a sequence can be cut back to any beginning of it; recurrent states cannot.
        self.cuttable = not model.recurrent
        self.cells: int = lib.llama_n_ctx(self.handle)
        # llama.cpp rounds and clamps: what it says is what it takes.
        self.batch_size = min(batch, lib.llama_n_batch(self.handle))
        # All that decides whether, and with which numbers, a state of this model can be loaded.
        self.cache_id = (
            f"{kv_type} fa={params.flash_attn_type} gpu={model.gpu_layers}"
            f" streams={1 if unified else n_seq} batch={self.batch_size}"
        )
        self._make_batch(self.batch_size)
        # Set from any thread, or by SIGINT, to stop a decode that is under way.
        self.abort_flag = np.zeros(1, np.int32) if abort_flag is None else abort_flag
        self._listen()

    def close(self) -> None:
        self._handles.close()

    def _listen(self) -> None:
        """Let llama.cpp look at the abort flag while it computes."""
        callback = ctypes.cast(native.abort_callback(), lib.ggml_abort_callback)
        address = ctypes.c_void_p(self.abort_flag.ctypes.data)
        lib.llama_set_abort_callback(self.handle, callback, address)

    def _make_batch(self, size: int) -> None:
        """A llama_batch over numpy arrays, written through memoryviews: the fastest way."""
        self._tokens = np.zeros(size, np.int32)
        self._positions = np.zeros(size, np.int32)
        self._ids = np.zeros(size, np.int32)
        self._wanted = np.zeros(size, np.int8)
        arrays = self._tokens, self._positions, self._ids, self._wanted
        self._columns = [array.data for array in arrays]
        self._counts = np.ones(size, np.int32)
        base, step = self._ids.ctypes.data, self._ids.itemsize
        self._pointers = np.arange(base, base + size * step, step, dtype=np.uintp)
        batch = lib.llama_batch()
        for name, array in (
            ("token", self._tokens),
            ("pos", self._positions),
            ("n_seq_id", self._counts),
            ("seq_id", self._pointers),
            ("logits", self._wanted),
        ):
            kind = dict(lib.llama_batch._fields_)[name]
            setattr(batch, name, ctypes.cast(array.ctypes.data, kind))
        self._batch = batch
        self._view: tuple[int, int, Logits] | None = None

    def decode(self, tokens: Sequence[BatchToken]) -> Logits:
        """Decode one batch of at most `batch_size` tokens.

        Returns float32 [n_wanted, n_vocab], one row for each wanted token in the order given: a
        view of llama.cpp's own buffer, valid until the next call. Raises Aborted when the abort
        flag was set, ContextOverflow when the cache has no room, ModelError when llama.cpp fails.
        """
        n = len(tokens)
        ids, positions, sequences, wanted = self._columns
        rows = 0
        for i, t in enumerate(tokens):
            ids[i], positions[i], sequences[i], wanted[i] = t
            rows += t.wanted
        self._batch.n_tokens = n
        if self._most_threads > 1:
            self._follow(MACHINE.threads(self._most_threads, self.threads))
        status = lib.llama_decode(self.handle, self._batch)
        if status == 0:
            return self._logits(rows)
        if status == _ABORTED:
            raise Aborted
        if status == _NO_ROOM:
            raise ContextOverflow(
                f"The cache of {self.cells:,} tokens is full.", "Use a larger `ctx_size`."
            )
        raise ModelError(f"llama.cpp failed to decode ({status}): {llama_api.last_errors()}")

    def _follow(self, threads: int) -> None:
        """Compute with so many threads from now on. It changes no number: each of llama.cpp's sums
        is one thread's, whichever that is."""
        if threads != self.threads:
            self.threads = threads
            lib.llama_set_n_threads(self.handle, threads, threads)

    def _logits(self, rows: int) -> Logits:
        if rows == 0:
            return np.empty((0, self.n_vocab), np.float32)
        address = ctypes.cast(lib.llama_get_logits(self.handle), ctypes.c_void_p).value or 0
        if self._view is None or self._view[:2] != (address, rows):
            buffer = (ctypes.c_float * (rows * self.n_vocab)).from_address(address)
            view: Logits = np.frombuffer(memoryview(buffer), np.float32).reshape(rows, self.n_vocab)
            self._view = (address, rows, view)
        return self._view[2]

    def copy(self, source: int, target: int, n: int) -> bool:
        """Let `target`, which is cleared, begin with the first n tokens of `source`. False where
        that cannot be done: sequences with parts of their own can be copied as a whole only, and
        llama.cpp ends the process over anything else."""
        self.clear(target)
        end = -1 if n == self.length(source) else n
        if not self.holds(source, n) or (end >= 0 and not self._unified):
            return False
        lib.llama_memory_seq_cp(self._memory, source, target, 0 if end >= 0 else -1, end)
        return self.holds(target, n) or self._give_up(target)

    def cut(self, sequence: int, n: int) -> bool:
        """Keep the first n tokens. False, and nothing is kept, where that cannot be done."""
        if n == 0:
            self.clear(sequence)
            return True
        if not self.holds(sequence, n):
            return self._give_up(sequence)
        if self.length(sequence) > n:
            lib.llama_memory_seq_rm(self._memory, sequence, n, -1)
        return self.length(sequence) == n or self._give_up(sequence)

    def holds(self, sequence: int, n: int) -> bool:
        """Whether the first n tokens are there with all that the next token attends to.

        A recurrent state is there as a whole only. A state from disk holds of a windowed layer the
        cells in the window alone, so it serves no shorter beginning of the sequence.
        """
        length = self.length(sequence)
        if self.model.recurrent or n == 0:
            return length == n
        if self.model.window:
            least = int(lib.llama_memory_seq_pos_min(self._memory, sequence))
            return length >= n and least <= max(0, n - self.model.window)
        return length >= n

    def _give_up(self, sequence: int) -> bool:
        self.clear(sequence)
        return False

    def clear(self, sequence: int) -> None:
        lib.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    def length(self, sequence: int) -> int:
        """Tokens that a sequence holds."""
        return int(lib.llama_memory_seq_pos_max(self._memory, sequence)) + 1

    def save(self, sequence: int) -> bytes:
        """The sequence's keys and values (or recurrent state) as bytes that `load` takes."""
        size = lib.llama_state_seq_get_size(self.handle, sequence)
        buffer = (ctypes.c_uint8 * size)()
        written = lib.llama_state_seq_get_data(self.handle, buffer, size, sequence)
        return bytes(memoryview(buffer)[:written])

    def load(self, sequence: int, state: memoryview, n: int) -> bool:
        """Put a saved state of n tokens, in writable memory, in place.

        False, with nothing kept, if it does not fit.
        """
        self.clear(sequence)
        buffer = (ctypes.c_uint8 * len(state)).from_buffer(state)
        read = lib.llama_state_seq_set_data(self.handle, buffer, len(state), sequence)
        if read == len(state) and self.length(sequence) == n and self.holds(sequence, n):
            return True
        return self._give_up(sequence)

    def settle(self, sequence: int, keep: bool) -> bytes:
        """Let the cells of a decoded sequence lie as `load` puts them; its state, if to `keep`.

        Where layers are windowed, a loaded state lies in other cells than a decoded one. Then sums
        run in another order, which a quantised model amplifies to tenths of a nat. So both starts,
        with and without a state on disk, take this one path.
        """
        if not (keep or self.model.window):
            return b""
        state = self.save(sequence)
        if self.model.window:
            length = self.length(sequence)
            if not self.load(sequence, memoryview(bytearray(state)), length):
                raise ModelError("llama.cpp does not accept the state that it saved.")
        return state


def _shape(cells: int, n_seq: int, batch: int, unified: bool) -> Any:
    """llama.cpp's parameters of a context of that size, as they are but for it."""
    params = lib.llama_context_default_params()
    # llama.cpp aborts where a batch, or the context, has no room for a token of each sequence.
    params.n_ctx, params.n_batch = max(cells, n_seq), max(batch, n_seq)
    params.n_ubatch = min(params.n_batch, 512)
    params.n_seq_max, params.kv_unified = n_seq, unified
    params.no_perf = True
    return params


def _flash_attention(chosen: bool | None, model: Model, kv_type: KvType) -> int:
    """llama.cpp's number: off, on, or -1 where it decides. Quantised values need it."""
    if chosen is None:
        return -1 if model.gpu_layers else int(kv_type == "q8_0")
    return int(chosen)


def _context(model: Model, params: Any, cells: int, kv_type: KvType) -> Any:
    """A llama_context, to be freed by the caller. Raises ModelError."""
    llama_api.clear_errors()
    handle = lib.llama_init_from_model(model.handle, params)
    if handle:
        return handle
    raise ModelError(
        f"llama.cpp cannot make a context of {cells:,} tokens: {llama_api.last_errors()}",
        "Choose `kv_type=f16`: not every model supports a quantised KV cache."
        if kv_type == "q8_0"
        else "Choose a smaller `ctx_size`, a smaller model or a stronger quantisation.",
    )
