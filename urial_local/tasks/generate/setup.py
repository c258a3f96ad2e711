"""What a generation run is asked to do, and how its model, prompt and engine are opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from urial_local.base.errors import UrialError, UsageError
from urial_local.base.registry import find_model
from urial_local.prompting.library import load_prompt
from urial_local.prompting.markers import MarkerPolicy
from urial_local.prompting.prompts import Prompt
from urial_local.records.datasets import Item
from urial_local.runtime.engine import Engine
from urial_local.runtime.open import RuntimeOptions, open_engine
from urial_local.runtime.rows import Request
from urial_local.runtime.sampling import Sampling
from urial_local.tasks.generate.job import JobOptions
from urial_local.tasks.generate.methods import Method
from urial_local.tasks.generate.parallel import fastest, fitting
from urial_local.tasks.model_file import ModelFile
from urial_local.tasks.prompted import (
    PromptedModel,
    answer_limit,
    choose_prompt,
    recommended,
    try_prompt,
)
from urial_local.tasks.retrieve import Pool

UNMEASURED = 4  # rows at a time where the first question cannot be asked


@dataclass(frozen=True, slots=True)
class GenerateOptions:
    """What the user chose; None where a prompt's recommendation or our default stands."""

    prompt: str | None = None
    frame: str | None = None
    shots: int | None = None
    retrieve: str | None = None
    restyle: str | None = None  # the prompt that drafts
    sampling: dict[str, Any] = field(default_factory=dict)
    max_tokens: int | None = None
    markers: MarkerPolicy = "escape"
    stop: tuple[str, ...] = ()
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


def chosen_prompt(options: GenerateOptions, model: str, aligned: bool) -> Prompt | None:
    """The prompt by name, loaded before any weights are; None where the context decides."""
    name = options.prompt or find_model(model).prompt
    if options.retrieve and not options.prompt:
        name = "system-only"
    if name is None and aligned and not options.frame:
        name = "chat"
    if name is None:
        return None
    prompt = load_prompt(name, options.frame)
    if options.shots is not None and not options.retrieve:
        prompt = prompt.shots(options.shots)
    return prompt


def try_prompts(file: ModelFile, prompt: Prompt | None, options: GenerateOptions) -> None:
    """Raises PromptError where every row would fail, before weights are loaded."""
    for one in (prompt, load_prompt(options.restyle) if options.restyle else None):
        if one is not None:
            try_prompt(one, file.chat_template)


def config(
    file: ModelFile, prompt: Prompt | None, options: GenerateOptions, pool: Pool | None
) -> dict[str, Any]:
    """All that decides a row's answer; another one is refused when a run is resumed."""
    drafter = load_prompt(options.restyle) if options.restyle else None
    return {
        "task": "generate",
        "model": file.about(),
        "prompt": {"name": prompt.name, "sha": prompt.fingerprint()} if prompt else "auto",
        "shots": options.shots,
        "retrieve": pool.digest if pool else None,
        "restyle": drafter.fingerprint() if drafter else None,
        "sampling": {
            k: v for k, v in sorted(options.sampling.items()) if v is not None and k != "seed"
        },
        "max_tokens": options.max_tokens,
        "markers": options.markers,
        "stop": list(options.stop),
        "job": asdict(options.job),
        "ctx_size": options.runtime.ctx_size,
        "kv_type": options.runtime.kv_type,
        "exact": options.exact,
        "shard": None,
    }


@contextmanager
def open_method(
    file: ModelFile,
    prompt: Prompt | None,
    options: GenerateOptions,
    pool: Pool | None,
    rows: int,
    first: Item | None,
    tell: Callable[[int, float], None] = lambda n, rate: None,
) -> Iterator[Opened]:
    """Model, engine and method; `first` is a question to measure with where parallel is auto."""
    with ExitStack() as stack:
        parallel = 1 if options.exact else options.parallel
        if parallel is None:
            parallel = _measured(file, prompt, options, pool, rows, first, tell)
        parallel = max(1, min(parallel, rows * options.job.candidates * options.job.repeat))
        runtime = replace(options.runtime, parallel=parallel)
        model, engine = stack.enter_context(open_engine(file.path, runtime, header=file.header))
        yield Opened(engine, _method(model, engine, prompt, options, pool), parallel)


def _method(
    model: Any, engine: Engine, prompt: Prompt | None, options: GenerateOptions, pool: Pool | None
) -> Method:
    prompt = prompt or choose_prompt(model, None, options.frame, engine.ctx_size)
    if options.shots is not None and not options.retrieve and len(prompt.examples) > options.shots:
        prompt = prompt.shots(options.shots)

    def asker(prompt: Prompt) -> PromptedModel:
        return PromptedModel(
            model,
            prompt,
            sampling=recommended(prompt, options.sampling),
            max_tokens=answer_limit(prompt, options.max_tokens),
            markers=options.markers,
            stop_strings=options.stop,
        )

    drafter = asker(load_prompt(options.restyle)) if options.restyle else None
    shots = 3 if options.shots is None else options.shots
    return Method(asker(prompt), pool, shots, drafter)


def _measured(
    file: ModelFile,
    prompt: Prompt | None,
    options: GenerateOptions,
    pool: Pool | None,
    rows: int,
    first: Item | None,
    tell: Callable[[int, float], None],
) -> int:
    """Rows at a time for this job; 1 where there is nothing to measure with."""
    if first is None or rows < 2:
        return 1
    ctx = options.runtime.ctx_size
    runtime = replace(options.runtime, parallel=1)
    with open_engine(file.path, runtime, header=file.header) as (model, engine):
        candidates = fitting(model, ctx or engine.ctx_size, rows)
    if len(candidates) < 2:
        return 1
    runtime = replace(options.runtime, parallel=candidates[-1])
    with open_engine(file.path, runtime, header=file.header) as (model, engine):
        method = _method(model, engine, prompt, options, pool)
        try:
            request: Request = method.request(first.query, [])
            engine.check_fits(request)
        except UrialError:
            return min(UNMEASURED, candidates[-1])  # its row will say what is wrong with it
        return fastest(engine, request, candidates, tell)


def check(options: GenerateOptions) -> None:
    """Raises UsageError for options that are out of range or do not go together."""
    replace(Sampling(), **{k: v for k, v in options.sampling.items() if v is not None})
    if options.retrieve == "-":
        raise UsageError("--retrieve needs a file: its index is kept beside it.")
    if options.retrieve and options.restyle:
        raise UsageError("--retrieve and --restyle are two methods; choose one.")
    if options.job.candidates > 1 and not options.sampling.get("temperature"):
        raise UsageError(
            "--n asks for several answers, and greedy ones are all the same.", "Add --temp 0.7."
        )
    if options.job.repeat > 1 and not options.sampling.get("temperature"):
        raise UsageError(
            "--repeat asks again, and greedy answers are all the same.", "Add --temp 0.7."
        )
