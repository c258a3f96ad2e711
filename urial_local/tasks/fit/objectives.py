"""What a prompt is scored by: probes that it gets right, or the likelihood of given answers.

Both score one question under one prompt, higher is better:

probes       1 where the answer is right by its probe's rule and has no fault but for being cut off
             (see generate.flags), else 0
likelihood   (1/n) Σ_t ln p(a_t | prompt, question, a_<t), in nats a token: of the first n ≤ LONGEST
             tokens a_t of a given answer, as the base model's vocabulary spells it after the
             prompt, without an end token or the frame's closing, teacher-forced; WORST at least
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from urial_local.base.errors import UrialError
from urial_local.prompting.prompts import Prompt
from urial_local.runtime.engine import Engine
from urial_local.runtime.model import Model
from urial_local.runtime.row_scores import score_rows
from urial_local.runtime.teacher_forced import TeacherForced
from urial_local.tasks.benchmark.probes import Probe
from urial_local.tasks.benchmark.rules import verdict
from urial_local.tasks.benchmark.setup import item_of
from urial_local.tasks.fit.material import LONGEST
from urial_local.tasks.generate.flags import FAULTS
from urial_local.tasks.generate.job import Job, JobOptions
from urial_local.tasks.generate.methods import Method
from urial_local.tasks.prompted import PromptedModel, recommended

WORST = -50.0  # nats a token, the least there is: of an answer that cannot be read under a prompt


def never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Scored:
    """A question's score under a prompt, and what else is worth keeping. `error` in place of a
    score: then the score is the worst there is."""

    item: str
    score: float
    answer: str = ""
    flags: tuple[str, ...] = ()
    why: str = ""  # a probe's answer is not right
    tokens: int = 0
    error: str = ""


class Objective(Protocol):
    """Scores questions under a prompt, one at a time, in any order. Once `enough` says so, no
    further one is begun."""

    def score(
        self, prompt: Prompt, items: Sequence[str], enough: Callable[[], bool] = never
    ) -> Iterator[Scored]: ...
    def stop(self) -> None: ...
    def abort(self) -> None: ...


class Probes:
    """Answers probes, greedily but for the prompt's own sampling, many at a time."""

    def __init__(self, model: Model, engine: Engine, probes: Mapping[str, Probe]) -> None:
        self.model, self.engine, self.probes = model, engine, probes
        self._job: Job | None = None
        self._stopped = False

    def score(
        self, prompt: Prompt, items: Sequence[str], enough: Callable[[], bool] = never
    ) -> Iterator[Scored]:
        asker = PromptedModel(self.model, prompt, sampling=recommended(prompt, {}))
        self._job = Job(self.engine, Method(asker), JobOptions())
        if self._stopped:
            return
        todo = ((item_of(self.probes[name], n), 0) for n, name in enumerate(items))
        for row in self._job.rows(todo):
            yield self._scored(row)
            if enough():
                self._job.stop()

    def _scored(self, row: Mapping[str, Any]) -> Scored:
        name = str(row["id"])
        if row.get("error"):  # such as a prompt that does not fit: it answers nothing
            return Scored(name, 0.0, error=str(row["error"]))
        last = row["turns"][-1] if row.get("turns") else row
        found = verdict(self.probes[name].rule, last["answer"])
        faults = [f for f in row["flags"] if f in FAULTS and f != "truncated"]
        return Scored(
            name,
            float(found.right and not faults),
            answer=last["answer"],
            flags=tuple(row["flags"]),
            why=found.why,
            tokens=sum(t["completion_tokens"] for t in row.get("turns") or [row]),
        )

    def stop(self) -> None:
        self._stopped = True
        if self._job:
            self._job.stop()

    def abort(self) -> None:
        self.engine.abort()


class Likelihood:
    """Reads given answers under a prompt, one at a time; the prompt's prefix is decoded once."""

    def __init__(
        self, model: Model, forced: TeacherForced, answers: Mapping[str, tuple[str, str]]
    ) -> None:
        """answers: by id, a question and the answer that is to be made likely."""
        self.model, self.forced, self.answers = model, forced, answers
        self._stopped = False

    def score(
        self, prompt: Prompt, items: Sequence[str], enough: Callable[[], bool] = never
    ) -> Iterator[Scored]:
        asker = PromptedModel(self.model, prompt)
        for name in items:
            if self._stopped:
                return
            try:
                found = self._scored(asker, name)
            except UrialError as error:
                self.forced.forget()  # it may have failed between two steps
                found = Scored(name, WORST, error=error.message)
            yield found
            if enough():
                return

    def _scored(self, asker: PromptedModel, name: str) -> Scored:
        query, answer = self.answers[name]
        request, rendered = asker.request(query), asker.render(query)
        ids = self.model.vocab.continuation(
            rendered.text,
            answer,
            parse_special=rendered.parse_special,
            literals=rendered.literals,
        )[:LONGEST]
        if not len(ids):
            raise UrialError("The answer is empty.")
        self.forced.begin(0, request.tokens, request.shared, len(ids))
        read = [int(request.tokens[-1]), *ids[:-1].tolist()]
        total = 0.0
        for start in range(0, len(ids), self.forced.chunk):
            part = read[start : start + self.forced.chunk]
            logits = self.forced.logits(0, part, [True] * len(part))
            targets = ids[start : start + len(part)].astype(np.int32)
            scored = score_rows(logits, np.arange(len(part), dtype=np.int32), targets)
            if scored.status.any():
                raise UrialError("The model's logits are not finite (NaN or infinite).")
            total += float(scored.logprob.sum())
        return Scored(name, max(WORST, total / len(ids)), tokens=len(ids))

    def stop(self) -> None:
        self._stopped = True

    def abort(self) -> None:
        self.forced.sequences.abort_flag[0] = 1
