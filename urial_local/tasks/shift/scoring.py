"""Scores one answer under the aligned model and under the base model in several contexts.

The answer's tokens are kept as ids. Logits after token t-1 score token t, each model in its own
prompt. The two models decode the same tokens in batches of the same shape, and the statistics are
taken from the logits where llama.cpp wrote them, before the next decode.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from urial_local.runtime.row_scores import IdArray
from urial_local.runtime.shift_rows import COLUMNS, Logits, ShiftRows, shift_rows
from urial_local.runtime.teacher_forced import TeacherForced
from urial_local.runtime.vocabulary import Vocabulary
from urial_local.runtime.vocabulary_pair import VocabularyPair

NOT_IN_BASE = 4  # status bit: the base model's vocabulary lacks the token
INFINITE = 8  # status bit: a KL is infinite, since one model rules out what the other can write
Columns = dict[str, Any]  # arrays [n] or [n, TOP] by name, as in ShiftRows


@dataclass(frozen=True, slots=True)
class Side:
    """A model with a prompt before the answer, in a sequence of its own."""

    forced: TeacherForced
    sequence: int
    prompt: Sequence[int]
    shared: int  # leading tokens of the prompt that every row has

    def begin(self, feed: Feed) -> None:
        self.forced.begin(self.sequence, self.prompt, self.shared, feed.length)

    def logits(self, feed: Feed, start: int, end: int) -> Logits:
        """float32 [end - start, n_vocab]: what follows the prompt and the answer before each
        position start … end-1."""
        groups = [list(self.prompt[-1:]), *feed.groups][start:end]
        tokens = [t for group in groups for t in group]
        wanted = [i == len(group) - 1 for group in groups for i in range(len(group))]
        return self.forced.logits(self.sequence, tokens, wanted)


@dataclass(frozen=True, slots=True)
class Feed:
    """An answer as a model reads it: for each of its tokens but the last, what is decoded."""

    groups: list[list[int]]

    @property
    def length(self) -> int:
        """Tokens that the answer takes in the context, its last one counted."""
        return sum(map(len, self.groups)) + 1


class Bridge:
    """From the aligned model's ids to the base's. Where the vocabularies agree, nothing to do.

    Otherwise statistics are over the shared ids, both distributions renormalised over them, and a
    token that the base lacks is shown to it spelled out in tokens of its own.
    """

    def __init__(self, pair: VocabularyPair, base: Vocabulary, aligned: Vocabulary) -> None:
        self.pair, self._base, self._aligned = pair, base, aligned
        self._place = pair.place()

    def missing(self, answer: IdArray) -> npt.NDArray[np.bool_]:
        """bool [n]: the answer's tokens that the base model lacks."""
        return self._place[answer] < 0

    def feed(self, answer: IdArray) -> Feed:
        """The answer as the base model reads it."""
        groups = [[int(t)] for t in answer[:-1]]
        if not self.pair.same:
            for i in np.flatnonzero(self.missing(answer[:-1])):
                groups[i] = self._spelled(int(answer[i]))
        return Feed(groups)

    def _spelled(self, token: int) -> list[int]:
        text = self._aligned.piece(token).decode("utf-8", "replace") or self._aligned.text(token)
        before = "\n"  # so that no blank is put before the text, as at the start of a document
        return self._base.continuation(before, text).tolist() or [self._base.eos]

    def compare(self, base: Logits, aligned: Logits, targets: IdArray, threads: int) -> Columns:
        """The statistics of positions, one array for each column of ShiftRows."""
        if self.pair.same:
            return columns(shift_rows(base, aligned, targets, threads=threads))
        shared = self.pair.shared
        place = self._place[targets]
        found = columns(
            shift_rows(
                np.ascontiguousarray(base[:, shared]),
                np.ascontiguousarray(aligned[:, shared]),
                np.maximum(place, 0),
                threads=threads,
            )
        )
        lacking = place < 0
        found["status"] = found["status"] | np.where(lacking, NOT_IN_BASE, 0).astype(np.int32)
        for name in ("base", "aligned"):
            found[f"{name}_rank"][lacking] = 0
            found[f"{name}_logprob"][lacking] = np.nan
            found[f"{name}_above"][lacking] = np.nan
            ids = found[f"{name}_top_ids"]
            found[f"{name}_top_ids"] = np.where(ids >= 0, shared[ids], -1).astype(np.int32)
        return found


def columns(rows: ShiftRows) -> Columns:
    """The arrays by name, with infinite divergences marked in the status."""
    found = {name: getattr(rows, name) for name in COLUMNS}
    infinite = np.isinf(rows.kl_base_aligned) | np.isinf(rows.kl_aligned_base)
    found["status"] = rows.status | np.where(infinite, INFINITE, 0).astype(np.int32)
    return found


@dataclass(frozen=True, slots=True)
class Scored:
    """Statistics of every position of an answer, arrays [n] or [n, TOP] by name."""

    contexts: list[Columns]  # one for each base context
    noise: Columns | None  # the base against its other quantisation, which stands as "aligned"


def score_answer(
    aligned: Side,
    bases: Sequence[tuple[Side, Bridge]],
    answer: Sequence[int],
    threads: int = 1,
    noise: Side | None = None,
    most: int | None = None,
) -> Scored:
    """Score an answer under the aligned model and under each of the bases.

    `answer` are the aligned model's ids, its end token included where it ended. `noise` is another
    quantisation of the first base, in the same context. `most`: positions decoded at a time; by
    default as many as fit. Raises ContextOverflow where a prompt and the answer do not fit.
    """
    targets = np.asarray(answer, np.int32)
    plain = Feed([[int(t)] for t in targets[:-1]])
    feeds = [bridge.feed(targets) for _, bridge in bases]
    starts = [(aligned, plain), *((side, f) for (side, _), f in zip(bases, feeds, strict=True))]
    if noise:
        starts.append((noise, feeds[0]))
    for side, feed in starts:
        side.begin(feed)
    chunk = min(most or len(targets), *(side.forced.chunk for side, _ in starts))
    parts: list[list[Columns]] = [[] for _ in bases]
    noise_parts: list[Columns] = []
    start = 0
    while start < len(targets):
        end = min(len(targets), start + chunk)
        while end > start + 1 and any(_size(feed, start, end) > chunk for feed in feeds):
            end -= 1
        theirs = aligned.logits(plain, start, end)
        for i, (side, bridge) in enumerate(bases):
            ours = side.logits(feeds[i], start, end)
            parts[i].append(bridge.compare(ours, theirs, targets[start:end], threads))
            if noise and i == 0:
                other = noise.logits(feeds[0], start, end)
                known = np.where(bridge.missing(targets[start:end]), 0, targets[start:end])
                noise_parts.append(
                    columns(shift_rows(ours, other, known.astype(np.int32), threads=threads))
                )
        start = end
    return Scored([_joined(part) for part in parts], _joined(noise_parts) if noise_parts else None)


def _joined(parts: list[Columns]) -> Columns:
    return {name: np.concatenate([p[name] for p in parts]) for name in COLUMNS}


def _size(feed: Feed, start: int, end: int) -> int:
    """Tokens decoded for positions start … end-1; position 0 is scored by the prompt's last."""
    return sum(map(len, feed.groups[max(0, start - 1) : end - 1])) + (start == 0)
