"""Takes stretches of text through both models, and yields a row for each."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from urial_local.base.errors import ModelError, UrialError
from urial_local.records.runlog import RunLog
from urial_local.runtime.model import Model
from urial_local.runtime.sequences import Sequences
from urial_local.runtime.shift_rows import COLUMNS, ShiftRows, shift_rows
from urial_local.runtime.teacher_forced import TeacherForced
from urial_local.runtime.threads import default_threads
from urial_local.tasks.model_file import ModelFile
from urial_local.tasks.shift.scoring import INFINITE, Feed, Side
from urial_local.tasks.shift_texts.chunks import Chunk, Reading, Tokeniser, reading
from urial_local.tasks.shift_texts.mining import Mined
from urial_local.tasks.shift_texts.record import columns_json, preferred_json
from urial_local.tasks.shift_texts.setup import TextSetup

Row = dict[str, Any]


def todo(log: RunLog, chunks: Sequence[Chunk]) -> list[Chunk]:
    """The rows that a run lacks. Raises UsageError where a text has changed."""
    return [
        chunk
        for chunk in chunks
        if log.lacks(chunk.id, str(chunk.chunk), asked=chunk.asked, what=f"The text {chunk.id!r}")
    ]


class Texts:
    """One run: opens the models it needs. It writes nothing: rows are yielded as they are made."""

    def __init__(self, setup: TextSetup) -> None:
        self.setup = setup
        self._abort_flag = np.zeros(1, np.int32)
        self._stopping = False

    def stop(self) -> None:
        """Begin no new rows. May be called from a signal handler."""
        self._stopping = True

    def abort(self) -> None:
        """Leave the one in hand, too: `rows` raises Aborted."""
        self._abort_flag[0] = 1

    def rows(self, todo: Sequence[Chunk]) -> Iterator[Row]:
        """Score these, error rows among them. Raises Aborted where that was asked for, ModelError
        where nothing can go on."""
        if not todo:
            return
        with ExitStack() as stack:
            base, ours = self._open(stack, self.setup.base)
            aligned, theirs = self._open(stack, self.setup.aligned)
            threads = self.setup.options.runtime.threads or default_threads(base.n_params)
            scorer = TextScorer(ours, theirs, base.vocab, aligned.vocab, threads)
            for chunk in todo:
                if self._stopping:
                    return
                yield self._row(scorer, chunk)

    def _open(self, stack: ExitStack, file: ModelFile) -> tuple[Model, TeacherForced]:
        o = self.setup.options
        model = stack.enter_context(file.load(o.runtime.gpu_layers))
        sequences = Sequences(
            model,
            cells=o.ctx,
            n_seq=1,
            batch=min(o.runtime.batch, 512),
            threads=o.runtime.threads,
            flash_attention=False,
            kv_type=o.runtime.kv_type,
            unified=False,
            abort_flag=self._abort_flag,
        )
        stack.callback(sequences.close)
        return model, TeacherForced(sequences, None, o.ctx)

    def _row(self, scorer: TextScorer, chunk: Chunk) -> Row:
        began = time.perf_counter()
        row: Row = {"id": chunk.id, "chunk": chunk.chunk, "number": chunk.number}
        try:
            row |= scorer.score(chunk, self.setup.options.score)
        except ModelError:
            raise  # not the row's own fault
        except UrialError as error:
            scorer.forget()
            return {**row, "error": error.message}
        return {
            **row,
            "asked_sha": chunk.asked,
            "seconds": round(time.perf_counter() - began, 4),
        }


@dataclass
class TextScorer:
    """The open contexts of both models."""

    base: TeacherForced
    aligned: TeacherForced
    base_vocab: Tokeniser
    aligned_vocab: Tokeniser
    threads: int = 1

    def score(self, chunk: Chunk, score: Any) -> Row:
        """The parts of a row that hold statistics."""
        read = reading(chunk.tokens, score, self.base_vocab, self.aligned_vocab)
        mined = Mined(self.base.sequences.n_vocab)
        rows, overlap = self._scored(read, mined)
        found = columns_json(rows, overlap)
        infinite = np.isinf(rows.kl_base_aligned) | np.isinf(rows.kl_aligned_base)
        found["status"] = (rows.status | np.where(infinite, INFINITE, 0)).tolist()
        return {"ids": read.scored, **found, "preferred": preferred_json(mined)}

    def _scored(self, read: Reading, mined: Mined) -> tuple[ShiftRows, Any]:
        targets = np.asarray(read.scored, np.int32)
        feed = Feed([[int(t)] for t in targets[:-1]])
        base = Side(self.base, 0, read.base, 0)
        aligned = Side(self.aligned, 0, read.aligned, 0)
        for side in (base, aligned):
            side.begin(feed)
        parts: list[ShiftRows] = []
        overlaps = []
        step = min(self.base.chunk, self.aligned.chunk)
        for start in range(0, len(targets), step):
            end = min(len(targets), start + step)
            theirs, ours = aligned.logits(feed, start, end), base.logits(feed, start, end)
            parts.append(shift_rows(ours, theirs, targets[start:end], k=1, threads=self.threads))
            overlaps.append(mined.add(ours, theirs))
        joined = {name: np.concatenate([getattr(p, name) for p in parts]) for name in COLUMNS}
        return ShiftRows(**joined), np.concatenate(overlaps)

    def forget(self) -> None:
        self.base.forget()
        self.aligned.forget()
