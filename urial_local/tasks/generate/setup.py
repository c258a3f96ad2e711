"""What a generation run is asked to do, and how its model, prompt and engine are opened."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from urial_local.base import gguf_facts
from urial_local.base.errors import UrialError, UsageError
from urial_local.base.model_names import parse_name
from urial_local.prompting.library import load_prompt
from urial_local.prompting.markers import MarkerPolicy
from urial_local.prompting.prompts import Prompt
from urial_local.records.datasets import Item
from urial_local.runtime.engine import Engine
from urial_local.runtime.model import Model
from urial_local.runtime.open import RuntimeOptions
from urial_local.runtime.rows import Request
from urial_local.runtime.sampling import Sampling
from urial_local.tasks.generate.job import JobOptions
from urial_local.tasks.generate.methods import Method
from urial_local.tasks.generate.parallel import fastest, fitting
from urial_local.tasks.guide import (
    GuideOptions,
    GuidePlan,
    GuidePrompts,
    opened_guide,
    plan_guide,
)
from urial_local.tasks.model_file import ModelFile
from urial_local.tasks.prompt_choice import PromptChoice, choose_prompt
from urial_local.tasks.prompted import PromptedModel, answer_limit, recommended, try_prompt
from urial_local.tasks.retrieve import Pool

Trial = Callable[[int, float], None]  # hears of rows at a time, and their tokens a second
UNMEASURED = 4  # rows at a time where the first question cannot be asked


@dataclass(frozen=True, slots=True)
class GenerateOptions:
    """What the user chose; None where a prompt's recommendation or our default stands."""

    prompt: str | None = None
    frame: str | None = None
    chat_template: str | None = None  # a file, in place of the model's own
    shots: int | None = None
    retrieve: str | None = None
    restyle: str | None = None  # the prompt that drafts
    sampling: dict[str, Any] = field(default_factory=dict)
    max_tokens: int | None = None
    markers: MarkerPolicy = "escape"
    stop: tuple[str, ...] = ()
    prefill: str = ""  # every answer begins with it; a draft does not
    guide: GuideOptions | None = None
    parallel: int | None = None  # None: measured
    exact: bool = False
    job: JobOptions = field(default_factory=JobOptions)
    runtime: RuntimeOptions = field(default_factory=RuntimeOptions)


@dataclass
class Opened:
    """An engine ready for a job."""

    engine: Engine
    method: Method
    parallel: int
    told: bool = False  # the user knows how many rows at a time from an earlier run


@dataclass(frozen=True)
class Plan:
    """All that is known of a run before weights are loaded."""

    file: ModelFile
    options: GenerateOptions
    prompt: PromptChoice
    pool: Pool | None = None
    guide: GuidePlan | None = None

    def config(self, shard: tuple[int, int] | None = None) -> dict[str, Any]:
        """All that decides a row's answer; another one is refused when a run is resumed."""
        o, prompt = self.options, self.prompt.certain
        drafter = load_prompt(o.restyle) if o.restyle else None
        return {
            "task": "generate",
            "model": self.file.about(),
            "prompt": {"name": prompt.name, "sha": prompt.fingerprint()} if prompt else "auto",
            "shots": o.shots,
            "retrieve": self.pool.digest if self.pool else None,
            "restyle": drafter.fingerprint() if drafter else None,
            "sampling": {
                k: v for k, v in sorted(o.sampling.items()) if v is not None and k != "seed"
            },
            "max_tokens": o.max_tokens,
            "markers": o.markers,
            "stop": list(o.stop),
            "job": asdict(o.job),
            "ctx_size": o.runtime.ctx_size,
            "kv_type": o.runtime.kv_type,
            "exact": o.exact,
            "shard": "/".join(map(str, shard)) if shard else None,
            # Only where it is chosen, so that runs from before it was there go on.
            **({"prefill": o.prefill} if o.prefill else {}),
            **({"guide": self.guide.config()} if self.guide else {}),
        }

    @contextmanager
    def open(
        self, rows: int, first: Item | None, tell: Trial = lambda n, rate: None
    ) -> Iterator[Opened]:
        """Model, engine and method for so many rows. `first` is a question to measure with where
        the number of rows at a time is not chosen; `tell` hears of each number tried."""
        parallel = self.at_a_time(rows, first, tell)
        runtime = replace(self.options.runtime, parallel=parallel)
        with (
            self.file.open(runtime) as (model, engine),
            self.asked(model, engine, parallel) as method,
        ):
            yield Opened(engine, method, parallel)

    @contextmanager
    def asked(self, model: Model, engine: Engine, parallel: int) -> Iterator[Method]:
        """How an open model is asked so many rows at a time, with the guide open, if any."""
        o = self.options
        runtime = replace(o.runtime, parallel=parallel)
        prompt = self._prompt(model, engine)
        with opened_guide(self.guide, model, engine, prompt, runtime, o.markers) as prompts:
            yield self.method(model, engine, prompts)

    def at_a_time(self, rows: int, first: Item | None, tell: Trial) -> int:
        """How many of so many rows are answered at a time: as chosen, or measured."""
        o = self.options
        parallel = (1 if o.exact else o.parallel) or self._measured(rows, first, tell)
        return max(1, min(parallel, rows * o.job.candidates * o.job.repeat))

    def _prompt(self, model: Model, engine: Engine) -> Prompt:
        """What the model is asked under."""
        o = self.options
        (prompt,) = self.prompt.fitting(model.vocab.count, engine.ctx_size).candidates
        if o.shots is not None and not o.retrieve and len(prompt.examples) > o.shots:
            prompt = prompt.shots(o.shots)
        return prompt

    def method(self, model: Model, engine: Engine, guide: GuidePrompts | None = None) -> Method:
        """How an open model is asked. `guide`: what the engine's guide sees."""
        o = self.options
        prompt = self._prompt(model, engine)

        def asker(prompt: Prompt, prefill: str = "") -> PromptedModel:
            return PromptedModel(
                model,
                prompt,
                sampling=recommended(prompt, o.sampling),
                max_tokens=answer_limit(prompt, o.max_tokens),
                markers=o.markers,
                stop_strings=o.stop,
                prefill=prefill,
                guide=guide,
            )

        drafter = asker(load_prompt(o.restyle)) if o.restyle else None
        return Method(
            asker(prompt, o.prefill), self.pool, 3 if o.shots is None else o.shots, drafter
        )

    def _measured(self, rows: int, first: Item | None, tell: Trial) -> int:
        """Rows at a time for this job; 1 where there is nothing to measure with."""
        if first is None or rows < 2:
            return 1
        runtime = self.options.runtime
        each = self.file.context(runtime.ctx_size) * gguf_facts.kv_bytes_per_token(self.file.header)
        candidates = fitting(each, rows)
        if len(candidates) < 2:
            return 1
        with self.file.open(replace(runtime, parallel=candidates[-1])) as (model, engine):
            method = self.method(model, engine)
            try:
                request: Request = method.request(first.query, [])
                engine.check_fits(request)
            except UrialError:
                return min(UNMEASURED, candidates[-1])  # its row will say what is wrong with it
            return fastest(engine, request, candidates, tell)


class Weights:
    """One model's weights over several plans of it, in one engine: opened for the first that needs
    them, and closed in the end. A context manager."""

    def __init__(self, rows: int) -> None:
        """rows: of the longest plan, which decides what may be tried."""
        self._rows, self._stack = rows, ExitStack()
        self._open: tuple[Model, Engine, int] | None = None

    def __enter__(self) -> Weights:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextmanager
    def open(self, plan: Plan, first: Item | None, tell: Trial) -> Iterator[Opened]:
        """As Plan.open; rows at a time are measured with the first plan only."""
        told = self._open is not None
        if self._open is None:
            parallel = plan.at_a_time(self._rows, first, tell)
            runtime = replace(plan.options.runtime, parallel=parallel)
            model, engine = self._stack.enter_context(plan.file.open(runtime))
            self._open = model, engine, parallel
        model, engine, parallel = self._open
        with plan.asked(model, engine, parallel) as method:
            yield Opened(engine, method, parallel, told)


def run_name(model: str, *parts: str) -> str:
    """What a run of several is called: its model, prompt and settings, as a folder can be."""
    return re.sub(r"[^\w.=+@-]", "_", "__".join([parse_name(model).label, *parts]))


def plan(file: ModelFile, options: GenerateOptions, pool: Pool | None = None) -> Plan:
    """What a run is to do. Raises UsageError for options that do not go together, PromptError where
    every row would fail."""
    check(options)
    file = file.with_template(options.chat_template)
    asked = options.prompt or ("system-only" if options.retrieve else None)
    choice = choose_prompt(file, asked, options.frame)
    prompt = choice.certain
    if prompt and options.shots is not None and not options.retrieve:
        choice = replace(choice, candidates=(prompt.shots(options.shots),))
    if options.restyle:
        try_prompt(load_prompt(options.restyle), file.chat_template)
    return Plan(file, options, choice, pool, plan_guide(options.guide, choice))


def check(options: GenerateOptions) -> None:
    """Raises UsageError for options that are out of range or do not go together."""
    replace(Sampling(), **{k: v for k, v in options.sampling.items() if v is not None})
    if options.retrieve == "-":
        raise UsageError("`retrieve` needs a file: its index is kept beside it.")
    if options.retrieve and options.restyle:
        raise UsageError("`retrieve` and `restyle` are two methods; choose one.")
    if options.job.candidates > 1 and not options.sampling.get("temperature"):
        raise UsageError(
            "`candidates` asks for several answers, and greedy ones are all the same.",
            "Add `temperature=0.7`.",
        )
    if options.job.repeat > 1 and not options.sampling.get("temperature"):
        raise UsageError(
            "`repeat` asks again, and greedy answers are all the same.", "Add `temperature=0.7`."
        )
