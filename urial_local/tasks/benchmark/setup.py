"""What a benchmark asks: models under prompts, a generation run each, and which probes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from urial_local.base.errors import UrialError, UsageError
from urial_local.prompting.library import load_prompt
from urial_local.prompting.prompts import Prompt
from urial_local.records.datasets import Item, in_shard
from urial_local.tasks.benchmark.probes import Probe, digest, load_probes
from urial_local.tasks.generate import setup
from urial_local.tasks.generate.setup import GenerateOptions, Plan, run_name
from urial_local.tasks.guide import GuideOptions
from urial_local.tasks.model_file import ModelFile, model_file
from urial_local.tasks.prompt_choice import ANSWER_ROOM, choose_prompt

ZERO_SHOT = "zero-shot"  # what every other prompt is held against
EXTRA_PROMPTS = ("urial-mini", "urial-help")  # asked besides the model's own where none is named
SHIPPED, OWN = "shipped", "own"  # whose probes
GUIDED = "guided"  # ends the name of a cell with a guide


@dataclass(frozen=True, slots=True)
class BenchmarkOptions:
    """What the user chose. `generate` is how every cell is asked, its prompt aside."""

    models: tuple[str, ...]
    prompts: tuple[str, ...] = ()  # none: see `prompts_for`
    aligned: str | None = None
    probes: Path | None = None  # a file of the user's
    kinds: tuple[str, ...] = ()
    shard: tuple[int, int] | None = None
    generate: GenerateOptions = field(default_factory=GenerateOptions)
    guide: GuideOptions | None = None  # every prompt is asked without it, and once more with it


@dataclass(frozen=True, slots=True)
class CellPlan:
    """A model under a prompt, with a guide or without: one run of generate, in a folder of this
    name."""

    name: str
    plan: Plan
    aligned: bool = False

    @property
    def prompt(self) -> Prompt:
        return self.plan.prompt.candidates[0]

    def about(self) -> dict[str, Any]:
        """For run.json. A frame's marks are kept, since answers are searched for them."""
        frame = self.prompt.frame
        return {
            "name": self.name,
            "model": self.plan.file.about(),
            "prompt": {"name": self.prompt.name, "sha": self.prompt.fingerprint()},
            "aligned": self.aligned,
            "markers": list(frame.markers),
            "fence": frame.fence,
            # Only where there is one, so that benchmarks from before there were guides go on.
            **({"guide": self.plan.guide.config()} if self.plan.guide else {}),
        }


@dataclass(frozen=True)
class Asked:
    """Probes as the rows of a generation run; see cli.plumbing.generating.Questions."""

    probes: tuple[Probe, ...]
    shard: tuple[int, int] | None = None

    def own(self) -> tuple[Probe, ...]:
        """Those of this shard."""
        return tuple(p for i, p in enumerate(self.probes) if in_shard(item_of(p, i), self.shard))

    in_one_pass = False  # they are few, and a changed one is told before a model is loaded

    def survey(self) -> Asking:
        return Asking(self)


class Asking:
    """One pass over probes; see records.datasets.Survey."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self.rows, self.cut, self.done = 0, 0, False

    def items(self) -> Iterator[Item]:
        for number, probe in enumerate(self._asked.probes):
            item = item_of(probe, number)
            if in_shard(item, self._asked.shard):
                self.rows += 1
                yield item
        self.done = True


def item_of(probe: Probe, number: int) -> Item:
    """A probe as a row of a dataset."""
    first, *later = probe.turns
    tags = {"kind": (probe.kind,)}
    fields: dict[str, Any] = {"id": probe.id, "kind": probe.kind}
    if later:
        fields["turns"] = list(probe.turns)
    else:
        fields["query"] = first
    return Item(
        probe.id,
        number,
        first,
        tags=tags,
        later=tuple(later),
        fields=fields,
        max_tokens=probe.max_tokens,
    )


@dataclass(frozen=True)
class Benchmark:
    """All that is known before weights are loaded."""

    options: BenchmarkOptions
    cells: tuple[CellPlan, ...]
    probes: tuple[Probe, ...]
    remarks: tuple[str, ...] = ()

    @property
    def asked(self) -> Asked:
        return Asked(self.probes, self.options.shard)

    def by_model(self) -> dict[str, list[CellPlan]]:
        """Cells in the order of their models, so that weights are opened once for each."""
        found: dict[str, list[CellPlan]] = {}
        for cell in self.cells:
            found.setdefault(cell.plan.file.fingerprint, []).append(cell)
        return found

    def config(self) -> dict[str, Any]:
        """What another start of the same benchmark must agree with."""
        o = self.options
        chosen = self.cells[0].plan.config(o.shard)
        shared = ("sampling", "max_tokens", "markers", "stop", "job", "ctx_size", "kv_type")
        return {
            "task": "benchmark",
            "cells": [cell.about() for cell in self.cells],
            "probes": {
                "whose": OWN if o.probes else SHIPPED,
                "kinds": sorted({probe.kind for probe in self.probes}),
                "count": len(self.probes),
                "digest": digest(self.probes),
            },
            **{name: chosen[name] for name in (*shared, "exact", "shard")},
        }


def plan(
    options: BenchmarkOptions, on_check: Callable[[Path], None] = lambda path: None
) -> Benchmark:
    """Find models, prompts and probes. Raises UsageError, ModelError or PromptError."""
    probes = load_probes(options.probes, options.kinds)
    if not probes:
        raise UsageError("There is no probe to ask.", "Leave `kinds` out to ask all of them.")
    setup.check(options.generate)
    if options.generate.chat_template and not options.aligned:
        raise UsageError("`chat_template` is the aligned model's, and `aligned` names none.")
    cells: list[CellPlan] = []
    remarks: list[str] = []
    for name in options.models:
        file = model_file(name, on_check)
        prompts: Sequence[str] = options.prompts
        if not prompts:
            prompts, left_out = prompts_for(file, options.generate.runtime.ctx_size)
            remarks += left_out
        cells += (_cell(name, file, prompt, options.generate) for prompt in prompts)
        if options.guide:
            guided = replace(options.generate, guide=options.guide)
            own = [_cell(name, file, prompt, guided) for prompt in prompts]
            remarks += dict.fromkeys(c.plan.guide.remark for c in own if c.plan.guide)
            cells += own
    if options.aligned:
        cells.append(_aligned(options.aligned, options.generate, on_check))
    names = [cell.name for cell in cells]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(
            f"Two cells would be called {twice!r}.",
            "Give every model and prompt once, and files different names.",
        )
    return Benchmark(options, tuple(cells), probes, tuple(filter(None, remarks)))


def _cell(
    name: str, file: ModelFile, prompt: str, options: GenerateOptions, aligned: bool = False
) -> CellPlan:
    template = options.chat_template if aligned else None
    found = setup.plan(file, replace(options, prompt=prompt, chat_template=template))
    parts = [Path(prompt).stem, *([GUIDED] if options.guide else [])]
    return CellPlan(run_name(name, *parts), found, aligned)


def _aligned(name: str, options: GenerateOptions, on_check: Callable[[Path], None]) -> CellPlan:
    """The aligned model as it was trained to be asked."""
    file = model_file(name, on_check, options.chat_template)
    if not file.aligned_prompt:
        raise UsageError(
            f"{file.title} carries no chat template, so how to ask it is unknown.",
            "Give it as another `model`, which is asked under the same prompts.",
        )
    return _cell(name, file, file.aligned_prompt, options, aligned=True)


def prompts_for(file: ModelFile, ctx_size: int) -> tuple[list[str], list[str]]:
    """The prompts that a model is tried under where none is named: without any, the one that
    commands choose for it, and the shipped others that differ and fit. With remarks on those that
    do not fit."""
    room = file.context(ctx_size)
    choice = choose_prompt(file)
    with file.vocabulary() as vocab:
        if choice.certain is None:
            choice = choice.fitting(vocab.count, room)
        chosen = [load_prompt(ZERO_SHOT), choice.candidates[0]]
        left_out = []
        for name in EXTRA_PROMPTS:
            prompt = load_prompt(name)
            if prompt.fingerprint() in {p.fingerprint() for p in chosen}:
                continue
            try:
                fits = vocab.count(prompt.prefix()) + ANSWER_ROOM <= room
            except UrialError:
                fits = False
            chosen += [prompt] * fits
            left_out += [name] * (not fits)
    remarks = [f"{file.title} is not asked under {', '.join(left_out)}: too long for its context,"
               " or not in its vocabulary."] * bool(left_out)  # fmt: skip
    return [prompt.name for prompt in chosen], remarks
