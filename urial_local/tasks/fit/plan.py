"""What a fit is asked to do: its model, what it scores by, and among what it chooses."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from urial_local.base.errors import UsageError
from urial_local.base.formats import counted
from urial_local.prompting.frames import load_frame
from urial_local.prompting.prompts import Prompt, Turn
from urial_local.runtime.open import RuntimeOptions
from urial_local.runtime.sequences import Sequences
from urial_local.runtime.teacher_forced import TeacherForced
from urial_local.tasks.benchmark.probes import Probe, digest
from urial_local.tasks.fit.material import (
    LENGTHS,
    MOST_ANSWERS,
    MOST_POOL,
    ROOM,
    library,
    readable,
    same,
    shown_questions,
    usable,
)
from urial_local.tasks.fit.objectives import Likelihood, Objective, Probes
from urial_local.tasks.fit.space import Space, space_of
from urial_local.tasks.model_file import ModelFile

FRAMES = ("fenced", "user-assistant", "user-assistant-tight")
FEWEST = 8  # questions


@dataclass(frozen=True, slots=True)
class FitOptions:
    """What the user chose. `most`: examples of a prompt, at most."""

    most: int = 4
    seed: int = 0
    parallel: int = 8  # probes answered at a time
    runtime: RuntimeOptions = field(default_factory=RuntimeOptions)


@dataclass(frozen=True)
class Plan:
    """All that is known of a fit before weights are loaded. `answers`, where the objective is their
    likelihood: by id, a question and its answer."""

    file: ModelFile
    options: FitOptions
    library: tuple[Prompt, ...]  # the model's default first
    space: Space
    probes: tuple[Probe, ...]
    answers: Mapping[str, tuple[str, str]]
    remarks: tuple[str, ...] = ()  # on what was left out

    @property
    def by_likelihood(self) -> bool:
        return bool(self.answers)

    def halves(self) -> tuple[list[str], list[str]]:
        """Ids of questions to tune on, and of those held out: in an order in which every beginning
        holds all kinds about equally."""
        if self.by_likelihood:
            names = sorted(self.answers, key=_shuffled)
            return names[::2], names[1::2]
        tuning, held_out = ([p for p in self.probes if p.half == h] for h in (0, 1))
        return _round_robin(tuning), _round_robin(held_out)

    def config(self) -> dict[str, Any]:
        """All that decides a score; another one is refused when a run is resumed."""
        return {
            "task": "fit",
            "model": self.file.about(),
            "objective": "likelihood" if self.by_likelihood else "probes",
            "questions": _digest(sorted(self.answers.items()))
            if self.by_likelihood
            else digest(self.probes),
            "library": [[p.name, p.fingerprint()] for p in self.library],
            "examples": _digest([[e.query, e.answer] for e in self.space.examples]),
            "most": self.options.most,
            "seed": self.options.seed,
            "ctx_size": self.options.runtime.ctx_size,
            "kv_type": self.options.runtime.kv_type,
        }

    @contextmanager
    def open(self) -> Iterator[Objective]:
        """The objective over an open model. Prefixes are kept on no disk: those of prompts that are
        tried once would push out others that are asked under every day."""
        runtime = replace(self.options.runtime, disk_cache=False)
        if not self.by_likelihood:
            with self.file.open(replace(runtime, parallel=self.options.parallel)) as (model, eng):
                yield Probes(model, eng, {p.id: p for p in self.probes})
            return
        ctx = self.file.context(runtime.ctx_size)
        with self.file.load(runtime.gpu_layers) as model:
            model.vocab.most = ctx
            sequences = Sequences(
                model,
                cells=ctx,
                n_seq=1,
                batch=min(runtime.batch, ctx),
                threads=runtime.threads,
                flash_attention=False,
                kv_type=runtime.kv_type,
            )
            try:
                yield Likelihood(model, TeacherForced(sequences, None, ctx), self.answers)
            finally:
                sequences.close()


def plan(
    file: ModelFile,
    options: FitOptions,
    probes: Sequence[Probe],
    pool: Sequence[Turn] = (),
    answers: Mapping[str, tuple[str, str]] | None = None,
) -> Plan:
    """What a fit is to do. Raises UsageError where there is too little to go by, PromptError where
    the model's own default is malformed."""
    with file.vocabulary() as vocab:
        ctx = file.context(options.runtime.ctx_size)
        left = min(ROOM, ctx // 2)  # for a question and its answer
        prompts = library(file, options.most, vocab.count, ctx - left)
        shown = shown_questions(prompts)
        if answers is not None:
            questions = readable(dict(answers), shown, vocab.count, left)
            asked: tuple[Probe, ...] = ()
            scored = {same(query) for query, _ in questions.values()}
        else:
            questions = {}
            asked = tuple(p for p in probes if not shown & set(map(same, p.turns)))
            scored = {same(turn) for p in asked for turn in p.turns}
        frames = [load_frame(name) for name in FRAMES]
        each = (ctx - left) // max(1, options.most)
        examples = usable(pool, frames, scored, vocab.count, each)
    space = space_of(prompts, frames, examples if options.most else (), options.most)
    if answers is not None:  # which says nothing of a penalty: it stays what it is
        space = replace(space, penalties=(space.place(prompts[0]).penalty,))
    remarks = tuple(_remarks(pool, examples, answers, questions, probes, asked))
    found = Plan(file, options, prompts, space, asked, questions, remarks)
    halves = found.halves()
    if min(map(len, halves)) < FEWEST // 2:
        what = "answers" if answers is not None else "probes"
        raise UsageError(
            f"A fit needs {FEWEST} {what} at least, one half to choose by and the other to compare"
            f" on; of those given, {sum(map(len, halves))} can be asked.",
        )
    return found


def _remarks(
    pool: Sequence[Turn],
    examples: Sequence[Turn],
    answers: Mapping[str, tuple[str, str]] | None,
    questions: Mapping[str, tuple[str, str]],
    probes: Sequence[Probe],
    asked: Sequence[Probe],
) -> Iterator[str]:
    """What was left out."""
    if len(examples) < len(pool):
        yield (
            f"{len(examples)} of the pool's {counted(len(pool), 'example')} can be used: of"
            f" {LENGTHS[0]} to {LENGTHS[1]:,} characters, in words the model can read, without a"
            f" frame's own marks, and no scored question; at most {MOST_POOL}."
        )
    if answers is not None and len(questions) < len(answers):
        yield (
            f"{len(questions)} of {counted(len(answers), 'answer')} are scored: such as the model"
            " can read, that leave room for a prompt, each question once and none that is an"
            f" example; at most {MOST_ANSWERS}."
        )
    if answers is None and len(asked) < len(probes):
        left = counted(len(probes) - len(asked), "probe is", "probes are")
        yield f"{left} left out, since a prompt has the question as an example."


def _round_robin(probes: Sequence[Probe]) -> list[str]:
    """One of each kind, then the next of each; large kinds are spread over all."""
    kinds: dict[str, list[str]] = {}
    for probe in probes:
        kinds.setdefault(probe.kind, []).append(probe.id)
    # By the share of its kind that is before it.
    placed = [(i / len(ids), k, name) for k, ids in kinds.items() for i, name in enumerate(ids)]
    return [name for _, _, name in sorted(placed)]


def _shuffled(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode("ascii")).hexdigest()[:16]
