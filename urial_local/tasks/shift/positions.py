"""All positions of one aligned model's answers in one base context, as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from urial_local.tasks.shift.classes import CLASSES, classes
from urial_local.tasks.shift.curves import RELATIVE_BINS
from urial_local.tasks.shift.record import NOT_FINITE, Answer, jaccard, same_top
from urial_local.tasks.shift.scoring import INFINITE, NOT_IN_BASE

Mask = npt.NDArray[np.bool_]
Singles = npt.NDArray[np.float32]
Whole = npt.NDArray[np.integer]
Tags = Mapping[str, Sequence[str]]
SHIFTED = CLASSES.index("shifted")


@dataclass(frozen=True, slots=True)
class Positions:
    """One entry for each position; `answer` says whose it is, from 0. Divergences and entropies in
    nats."""

    position: Whole  # in its answer, from 0
    relative: Whole  # the same in parts of the answer, 0 … RELATIVE_BINS - 1
    id: Whole
    end: Mask  # the token that ended the answer
    status: Whole
    kind: Whole  # index into CLASSES, -1 without two distributions
    rank: Whole
    same_top: Mask
    jaccard: Singles
    prob: Singles
    base_top: Singles  # probability of the base's most probable token
    kl: Singles
    kl_back: Singles
    js: Singles
    base_entropy: Singles
    aligned_entropy: Singles
    gain: Singles  # ln of the aligned model's probability over the base's, of the token; nats
    overlap: Singles  # NaN in rows of earlier releases, as is `above`
    above: Singles  # probability of what the base puts before the token
    answer: Whole  # of one question, where several were sampled for it: the unit of intervals
    row: Whole  # of rows.jsonl, by id and sample
    tags: tuple[Tags, ...]  # of each answer

    @property
    def n_answers(self) -> int:
        return len(self.tags)

    @property
    def ranked(self) -> Mask:
        """Where there are two distributions, so that the position has a class."""
        found: Mask = self.kind >= 0
        return found

    @property
    def sound(self) -> Mask:
        """Where both KLs are finite too: what enters a mean of one."""
        found: Mask = (self.status & (NOT_FINITE | INFINITE)) == 0
        return found

    @property
    def known(self) -> Mask:
        """Where the base has two distributions and the token, so that it gives it a rank."""
        found: Mask = self.ranked & (self.status & NOT_IN_BASE == 0)
        return found

    @property
    def shifted(self) -> Mask:
        """Shifted, or not in the base at all."""
        found: Mask = self.kind >= SHIFTED
        return found

    def per_answer(self, mask: Mask, values: Singles | None = None) -> npt.NDArray[np.float64]:
        """[answers]: how many positions of a mask each has, or the sum of values [positions]."""
        weights = None if values is None else values[mask]
        found = np.bincount(self.answer[mask], weights, minlength=self.n_answers)
        return found.astype(np.float64)


class Collector:
    """Gathers answers in one context, in whatever order they come."""

    def __init__(self) -> None:
        self._answers: list[tuple[str, int, Tags, dict[str, npt.NDArray[Any]]]] = []

    def add(self, answer: Answer, context: str) -> None:
        columns, n = answer.contexts[context], len(answer.ids)
        end = np.zeros(n, bool)
        end[-1:] = answer.end_token
        values: dict[str, npt.NDArray[Any]] = {
            "position": np.arange(n, dtype=np.int32),
            "relative": ((np.arange(n) * RELATIVE_BINS) // max(n, 1)).astype(np.int8),
            "id": answer.ids,
            "end": end,
            "status": columns["status"],
            "kind": classes(columns["status"], columns["base_rank"]),
            "rank": columns["base_rank"],
            "same_top": same_top(answer, context),
            "jaccard": jaccard(answer, context).astype(np.float32),
            # A token of probability zero has a rank, but no logarithm that JSON could hold.
            "prob": np.nan_to_num(np.exp(columns["base_logprob"])).astype(np.float32),
            "base_top": np.exp(columns["base_top_logprobs"][:, 0]).astype(np.float32),
            "kl": columns["kl_base_aligned"].astype(np.float32),
            "kl_back": columns["kl_aligned_base"].astype(np.float32),
            "js": columns["js"].astype(np.float32),
            "base_entropy": columns["base_entropy"].astype(np.float32),
            "aligned_entropy": answer.aligned_columns["aligned_entropy"].astype(np.float32),
            "gain": (answer.aligned_columns["aligned_logprob"] - columns["base_logprob"]).astype(
                np.float32
            ),
            "overlap": columns["overlap"].astype(np.float32),
            "above": columns["base_above"].astype(np.float32),
        }
        self._answers.append((answer.id, answer.sample or 0, answer.tags, values))

    def joined(self) -> Positions:
        """All that was added, by the answers' ids: the order of writing changes nothing."""
        answers = sorted(self._answers, key=lambda a: a[:2])
        left_out = ("answer", "row", "tags")
        names = [f.name for f in fields(Positions) if f.name not in left_out]
        lengths = [len(values["id"]) for *_, values in answers]
        rows = np.repeat(np.arange(len(answers), dtype=np.int32), lengths)
        questions = {answer: tags for answer, _, tags, _ in answers}
        numbers = {name: i for i, name in enumerate(questions)}
        asked = np.array([numbers[answer] for answer, *_ in answers], np.int32)
        return Positions(
            **{n: np.concatenate([values[n] for *_, values in answers]) for n in names},
            answer=asked[rows],
            row=rows,
            tags=tuple(questions.values()),
        )
