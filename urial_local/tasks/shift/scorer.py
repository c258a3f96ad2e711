"""Takes one question after another through the open contexts of an aligned model and the base."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from urial_local.base.errors import ContextOverflow, UrialError
from urial_local.base.placeholders import restore
from urial_local.prompting.prompts import Rendered
from urial_local.records.datasets import Item, unsound
from urial_local.runtime.rows import Completion, Request
from urial_local.runtime.sampling import row_seed
from urial_local.runtime.teacher_forced import TeacherForced
from urial_local.runtime.threads import default_threads
from urial_local.tasks.prompted import PromptedModel
from urial_local.tasks.shift.kept import kept_ids
from urial_local.tasks.shift.record import (
    ALIGNED_COLUMNS,
    CONTEXT_COLUMNS,
    SHAPE_COLUMNS,
    noise_to_json,
    to_json,
)
from urial_local.tasks.shift.scoring import Bridge, Side, score_answer
from urial_local.tasks.shift.setup import Setup

SHAPE_POSITIONS = 32  # of a row that is scored again in batches of another shape


@dataclass(frozen=True, slots=True)
class GivenAnswer:
    """An answer to score: ids with the end token where it ended."""

    ids: list[int]
    text: str
    ended: bool
    end_token: bool
    finish_reason: str


@dataclass
class Scorer:
    """The open contexts of one aligned model and the base, and how rows go through them."""

    setup: Setup
    bridge: Bridge
    asker: PromptedModel
    aligned: TeacherForced
    contexts: Mapping[str, PromptedModel]
    bases: TeacherForced
    noise: tuple[PromptedModel, TeacherForced] | None

    def request(self, item: Item, sample: int = 0) -> Request:
        """To the engine: as long an answer as every context has room for. Each of the samples of a
        question has a seed of its own."""
        if item.error:
            raise UrialError(item.error)
        request = self.asker.request(item.query)
        room = self.aligned.room - len(request.tokens)
        for asker in self.contexts.values():
            room = min(room, self.bases.room - len(asker.request(item.query).tokens))
        if room < 1:
            raise ContextOverflow(
                f"The question and its prompts leave no room for an answer in"
                f" {min(self.bases.room, self.aligned.room):,} tokens."
            )
        sampling = replace(request.sampling, seed=row_seed(request.sampling.seed, item.id, sample))
        # An answer that is empty says something of the model: none is forced upon it here.
        return replace(
            request,
            max_tokens=min(self.setup.options.max_tokens, room),
            sampling=sampling,
            retry_empty=False,
        )

    def generated(self, done: Completion) -> GivenAnswer:
        if done.finish_reason == "error":
            raise UrialError(done.error)
        ids = kept_ids(done, self.asker.model.vocab.piece)
        if done.finish_reason not in ("frame", "stop") and done.end_token is not None:
            ids.append(done.end_token)
        if not ids:
            raise UrialError("The aligned model's answer is empty.")
        return GivenAnswer(
            ids, done.text, done.ended, done.end_token is not None, done.finish_reason
        )

    def given(self, item: Item, text: str | None) -> GivenAnswer:
        """A given answer, tokenised once, with the aligned model's end of turn after it."""
        if text is None:
            raise UrialError("There is no answer to this question among those given.")
        if problem := unsound(text):
            raise UrialError(f"The answer given to this question {problem}.")
        vocab = self.asker.model.vocab
        rendered = self.asker.render(item.query)
        end = vocab.end_of_turn
        name = vocab.text(end)
        if name and text.endswith(name):
            text = text[: -len(name)].rstrip(" ")
        ids = vocab.continuation(
            rendered.text, text, parse_special=rendered.parse_special, literals=rendered.literals
        ).tolist()
        if end >= 0:
            ids.append(end)
        if not ids:
            raise UrialError("The answer given to this question is empty.")
        return GivenAnswer(ids, text, True, end >= 0, "given")

    def score(self, item: Item, answer: GivenAnswer, again: bool = False) -> dict[str, Any]:
        """The parts of a row that hold statistics. `again`: the first positions are also scored one
        at a time, as they are decoded in writing, to see what the shape of a batch changes."""
        request = self.asker.request(item.query)
        aligned = Side(self.aligned, 0, request.tokens, request.shared)
        requests = {name: asker.request(item.query) for name, asker in self.contexts.items()}
        bases = [
            (Side(self.bases, i, r.tokens, r.shared), self.bridge)
            for i, r in enumerate(requests.values())
        ]
        noise = None
        if self.noise:
            asker, forced = self.noise
            r = asker.request(item.query)
            noise = Side(forced, 0, r.tokens, r.shared)
        threads = self.setup.options.runtime.threads or default_threads(self.asker.model.n_params)
        scored = score_answer(aligned, bases, answer.ids, threads, noise)
        row: dict[str, Any] = to_json(scored.contexts[0], ALIGNED_COLUMNS)
        row["contexts"] = {
            name: to_json(columns, CONTEXT_COLUMNS)
            for name, columns in zip(requests, scored.contexts, strict=True)
        }
        if scored.noise is not None:
            row["noise_floor"] = noise_to_json(scored.noise)
        if again:
            few = score_answer(aligned, bases[:1], answer.ids[:SHAPE_POSITIONS], threads, most=1)
            row["batch_shape"] = to_json(few.contexts[0], SHAPE_COLUMNS)
        if self.setup.options.save_prompts:
            asked = [("aligned", self.asker, request)]
            asked += [(n, self.contexts[n], r) for n, r in requests.items()]
            row["prompts"] = {
                name: {"text": _shown(asker.render(item.query)), "ids": list(r.tokens)}
                for name, asker, r in asked
            }
        return row

    def forget(self) -> None:
        for forced in (self.aligned, self.bases, *(self.noise or ())[1:]):
            forced.forget()


def _shown(rendered: Rendered) -> str:
    """The text as the model reads it: with the user's own text for its placeholders."""
    return restore(rendered.text, rendered.literals)
