"""Scores every token of a prompt that is given: log-probability after those before it, rank, and
the most probable tokens in its place.

What was scored is kept beside the ids that a sequence holds. So a context that many prompts share,
as those of a multiple-choice task, is decoded and scored once. A job goes on by a batch at a time,
so that an engine on the same thread can take its turns in between; and of logits there are never
more than LOGITS_BYTES, whatever the vocabulary.

Every log-probability is x[t] - ln Σ exp(x), the chosen token's and the most probable ones' by the
same sum, so that a token that is the most probable has the identical number in both places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from urial_local.base.errors import ContextOverflow, ModelError, UrialError
from urial_local.runtime.choosers import NOT_FINITE
from urial_local.runtime.draw_rows import DrawTask, draw_rows
from urial_local.runtime.residency import Residency, common_prefix
from urial_local.runtime.row_scores import score_rows
from urial_local.runtime.sampling import Sampling
from urial_local.runtime.sequences import BatchToken
from urial_local.runtime.teacher_forced import LOGITS_BYTES, Forcible

TOP = 20  # tokens that are told of each position
_GREEDY = Sampling()
_NONE = np.zeros(0, np.int32)


@dataclass(frozen=True, slots=True)
class Scored:
    """A token, by the distribution that the model has at its place. Nats."""

    token: int
    logprob: float
    rank: int  # from 1
    ids: tuple[int, ...]  # the most probable first; of equals the lower id
    logprobs: tuple[float, ...]


Scores = list[Scored | None]  # of a sequence's tokens; None where there is none (the first)


class ScoreJob:
    """One prompt on its way. `scores` has an entry for each token once it is done, and `next` the
    most probable token after the last."""

    def __init__(self, tokens: Sequence[int], first: int = 1) -> None:
        """`first`: the first token whose score is wanted."""
        if not len(tokens):
            raise UrialError("The prompt is empty, so there is nothing to score.")
        self.tokens = [int(t) for t in tokens]
        self.first = max(1, first)
        self.scores: Scores = []
        self.next: Scored | None = None
        self.cached = 0  # tokens that were not decoded for it
        self.sequence = -1
        self.at = 0

    @property
    def done(self) -> bool:
        return self.next is not None


class PromptScorer:
    """Prompts over the sequences of one context, each with a part of its own."""

    def __init__(self, sequences: Forcible, exact: bool = False) -> None:
        """exact: what is kept of an earlier prompt ends where a batch of this one ends, so that all
        batches have the shape that they would have alone, and a number does not hang on what was
        asked before."""
        self.sequences = sequences
        self.room = sequences.cells // sequences.n_seq
        self.chunk = max(1, min(sequences.batch_size, LOGITS_BYTES // (4 * sequences.n_vocab)))
        self._step = self.chunk if exact else 1
        self._held = Residency(sequences)
        self._scores: list[Scores] = [[] for _ in range(sequences.n_seq)]
        self._next: list[Scored | None] = [None] * sequences.n_seq
        self.decoded = 0  # tokens

    def advance(self, job: ScoreJob) -> None:
        """Decode one batch of a job. One job at a time, to its end or until it is left.

        Raises ContextOverflow for one that does not fit, ModelError where the model fails; then
        nothing is kept of it.
        """
        try:
            if job.sequence < 0:
                self._begin(job)
            if not job.done:
                self._decode(job)
        except Exception:
            self.forget()
            raise

    def forget(self) -> None:
        """Keep nothing: after a fault, what the sequences hold is in doubt."""
        self._held.evict_all()
        self._scores = [[] for _ in self._scores]
        self._next = [None] * len(self._next)

    def _begin(self, job: ScoreJob) -> None:
        if len(job.tokens) > self.room:
            raise ContextOverflow(
                f"The prompt has {len(job.tokens):,} tokens and the context {self.room:,}.",
                "Use a larger context or a shorter prompt.",
            )
        if self._step > 1:
            job.first = 1  # positions without logits would change the last layer's batch
        every = range(self.sequences.n_seq)
        kept = {s: self._kept(s, job) for s in every}
        oldest = self._held.oldest_first(list(every))[0]
        best = max(every, key=lambda s: (kept[s], s == oldest))
        at = kept[best]
        if at == len(job.tokens):
            job.next = self._next[best]
            self._held.touch(best)
        elif not self._held.cut(best, at):
            at = 0
        # The score of the token at which decoding begins is known from the one before it.
        job.scores = self._scores[best][: at + 1] or [None]
        job.sequence, job.at, job.cached = best, at, at
        if not job.done:
            self._scores[best], self._next[best] = job.scores[:at], None

    def _kept(self, sequence: int, job: ScoreJob) -> int:
        """How many leading tokens need not be decoded again. The last of those in common is, for
        the logits after it."""
        held, scores = self._held.tokens(sequence), self._scores[sequence]
        common = common_prefix(held, job.tokens)
        missing = next((i for i in range(job.first, common) if scores[i] is None), common)
        if missing == len(job.tokens) == len(held) and self._next[sequence] is not None:
            return len(job.tokens)
        kept = max(0, min(missing, common) - 1) // self._step * self._step
        return kept if kept and self.sequences.holds(sequence, kept) else 0

    def _decode(self, job: ScoreJob) -> None:
        piece = job.tokens[job.at : job.at + self.chunk]
        last = len(job.tokens) - 1
        wanted = [job.at + i >= min(job.first - 1, last) for i in range(len(piece))]
        logits = self.sequences.decode(
            [
                BatchToken(t, job.at + i, job.sequence, w)
                for i, (t, w) in enumerate(zip(piece, wanted, strict=True))
            ]
        )
        self._held.wrote(job.sequence, piece)
        self.decoded += len(piece)
        # Logits at a place are about the token after it: the piece's own first one is scored.
        following = job.tokens[job.at + 1 : job.at + len(piece) + 1]
        unwanted = wanted.count(False)
        job.scores += [None] * unwanted
        if any(wanted):
            job.scores += self._scored(logits, following[unwanted:])
        job.at += len(piece)
        if job.at == len(job.tokens):
            job.next = job.scores.pop()
        self._scores[job.sequence] = job.scores[: job.at]
        self._next[job.sequence] = job.next

    def _scored(self, logits: npt.NDArray[np.float32], following: Sequence[int]) -> list[Scored]:
        """One for each row of logits: of the token that follows, the last one's of the best."""
        threads = self.sequences.threads
        drawn = draw_rows([DrawTask(r, r, _GREEDY, _NONE, 0.0, TOP) for r in logits], threads)
        if drawn.status.any():
            raise ModelError(NOT_FINITE, "The model file may be damaged.")
        targets = [*following, *drawn.tokens[len(following) :].tolist()]
        rows = np.arange(len(logits), dtype=np.int32)
        found = score_rows(logits, rows, np.array(targets, np.int32))
        scored = []
        for i, token in enumerate(targets):
            ids = drawn.top_ids[i][drawn.top_ids[i] >= 0]
            values = logits[i][ids].astype(np.float64) - found.log_sum_exp[i]
            logprob = float(np.float64(logits[i][token]) - found.log_sum_exp[i])
            scored.append(
                Scored(
                    int(token),
                    logprob,
                    int(found.rank[i]),
                    tuple(ids.tolist()),
                    tuple(values.tolist()),
                )
            )
        return scored
