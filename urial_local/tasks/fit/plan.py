"""What a fit is asked to do: its model, what it scores by, and among what it chooses."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from urial_local.base.errors import UrialError, UsageError
from urial_local.prompting.frames import load_frame
from urial_local.prompting.library import load_prompt, prompt_files
from urial_local.prompting.prompts import Prompt, Turn
from urial_local.records.datasets import Item
from urial_local.runtime import llama_api
from urial_local.runtime.model import Model
from urial_local.runtime.open import RuntimeOptions
from urial_local.runtime.prefix_cache import PrefixCache
from urial_local.runtime.sequences import Sequences
from urial_local.runtime.teacher_forced import TeacherForced
from urial_local.tasks.benchmark.probes import Probe, digest
from urial_local.tasks.fit.objectives import Likelihood, Objective, Probes
from urial_local.tasks.fit.space import Space, space_of
from urial_local.tasks.model_file import ModelFile
from urial_local.tasks.prompt_choice import base_prompts

FRAMES = ("fenced", "user-assistant", "user-assistant-tight")
MOST_POOL = 200  # examples of a pool that are looked at
MOST_ANSWERS = 200  # given answers that are scored
LONGEST = 400  # tokens of a given answer that are scored
ROOM = 768  # tokens that a prompt must leave for a question and its answer


@dataclass(frozen=True, slots=True)
class FitOptions:
    """What the user chose. `most`: examples of a prompt, at most."""

    most: int = 3
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

    @property
    def by_likelihood(self) -> bool:
        return bool(self.answers)

    def halves(self) -> tuple[list[str], list[str]]:
        """Ids of questions to tune on, and of those held out: in an order in which every beginning
        holds all kinds about equally."""
        if self.by_likelihood:
            names = sorted(self.answers, key=_shuffled)
            return names[::2], names[1::2]
        return tuple(_round_robin([p for p in self.probes if p.half == h]) for h in (0, 1))  # type: ignore[return-value]

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
        """The objective over an open model."""
        runtime = self.options.runtime
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
                forced = TeacherForced(sequences, _cache(model, sequences, runtime), ctx)
                yield Likelihood(model, forced, self.answers)
            finally:
                sequences.close()


def plan(
    file: ModelFile,
    options: FitOptions,
    probes: Sequence[Probe],
    pool: Sequence[Turn] = (),
    answers: Mapping[str, tuple[str, str]] | None = None,
) -> Plan:
    """What a fit is to do. Raises UsageError where there is too little to go by, PromptError for a
    prompt of the library that is malformed."""
    if answers is not None and len(answers) < 8:
        raise UsageError(
            f"A fit by likelihood needs 8 answers at least, and there are {len(answers)}."
        )
    with file.vocabulary() as vocab:
        room = file.context(options.runtime.ctx_size) - ROOM
        library = _library(file, options.most, lambda text: vocab.count(text) <= room)
        usable = [e for e in pool[:MOST_POOL] if vocab.count(e.answer) * options.most <= room]
    frames = [load_frame(name) for name in FRAMES]
    space = space_of(library, frames, usable, options.most)
    return Plan(file, options, library, space, tuple(probes), dict(answers or {}))


def _library(file: ModelFile, most: int, fits: Callable[[str], bool]) -> tuple[Prompt, ...]:
    """The prompts to begin with: the model's default, then all others for base models that leave
    room for an answer."""
    defaults = [load_prompt(name) for name in base_prompts(file, fitted=False)]
    default = next((p for p in defaults if fits(p.prefix())), defaults[-1])
    found = {default.name: default}
    for name in sorted(prompt_files()):
        try:
            prompt = load_prompt(name)
        except UrialError:
            continue  # a file of the user's own that is malformed: `prompts list` says so
        if name in ("urial-demo", "raw") or prompt.frame.template == "model":
            continue
        if len(prompt.examples) <= most and fits(prompt.prefix()):
            found.setdefault(prompt.name, prompt)
    return tuple(found.values())


def given(items: Sequence[Item]) -> dict[str, tuple[str, str]]:
    """Questions with answers of a dataset, by id; rows without one are left out."""
    rows = [i for i in items if not i.error and i.answer and i.answer.strip()]
    return {i.id: (i.query, str(i.answer)) for i in rows[:MOST_ANSWERS]}


def _round_robin(probes: Sequence[Probe]) -> list[str]:
    """One of each kind, then the next of each."""
    kinds: dict[str, list[str]] = {}
    for probe in probes:
        kinds.setdefault(probe.kind, []).append(probe.id)
    # By the share of its kind that is before it, so that large kinds are spread over all.
    placed = [(i / len(ids), k, name) for k, ids in kinds.items() for i, name in enumerate(ids)]
    return [name for _, _, name in sorted(placed)]


def _shuffled(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode("ascii")).hexdigest()[:16]


def _cache(model: Model, sequences: Sequences, runtime: RuntimeOptions) -> PrefixCache | None:
    if not runtime.disk_cache:
        return None
    parts = (model.fingerprint, llama_api.build_id(), sequences.cache_id, "scoring")
    return PrefixCache("\n".join(parts), per_token=model.state_bytes_per_token)
