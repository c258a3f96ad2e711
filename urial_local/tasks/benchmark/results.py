"""A benchmark's folder, read and measured: its cells, how they differ, and curves over models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np

from urial_local.base.errors import UsageError
from urial_local.records.generated import Generated, ModelFacts, PromptFacts
from urial_local.records.runs import RunInfo, RunRows, is_run, read_run
from urial_local.records.typed import Count, Malformed
from urial_local.runtime.guides import RuleName
from urial_local.tasks.benchmark import kept
from urial_local.tasks.benchmark.checkpoints import Axis, axis_of
from urial_local.tasks.benchmark.measures import Judged, Measures, judged, measure
from urial_local.tasks.benchmark.probes import Probe, load_probes
from urial_local.tasks.benchmark.setup import SHIPPED, ZERO_SHOT
from urial_local.tasks.benchmark.signs import Frame
from urial_local.tasks.benchmark.statistics import (
    BoolArray,
    Closed,
    Difference,
    Share,
    difference,
    gap_closed,
)
from urial_local.tasks.generate.job import KEY


def _folder(name: str, at: str) -> str:
    """The name of a folder inside the benchmark's, wherever that came from."""
    if not name or name in (".", "..") or set(name) & set("/\\\0") or len(name) > 255:
        raise Malformed(f"{at} must be the name of a folder, not {name[:40]!r}")
    return name


@dataclass(frozen=True, slots=True)
class GuideCellFacts:
    """What run.json says of a cell's guide; see tasks.guide."""

    rule: RuleName
    model: ModelFacts | None = None  # None under `contrast`
    base: ModelFacts | None = None  # of `proxy`
    prompt: PromptFacts | str = ""
    gamma: float | None = None
    beta: float | None = None
    alpha: float | None = None

    def in_words(self) -> str:
        """The rule, what sets it, and the models."""
        values = {"γ": self.gamma, "β": self.beta, "α": self.alpha}
        said = ", ".join([self.rule, *(f"{k} {v:g}" for k, v in values.items() if v is not None)])
        models = [m for m in (self.model, self.base) if m is not None]
        named = [f"{m.title or m.name} ({m.fingerprint})" for m in models]
        prompt = self.prompt.name if isinstance(self.prompt, PromptFacts) else self.prompt
        return f"{said}; {' and '.join([*named, f'prompt {prompt}'])}"


@dataclass(frozen=True, slots=True)
class CellFacts:
    """What run.json says of a cell."""

    name: Annotated[str, _folder]
    model: ModelFacts
    prompt: PromptFacts
    aligned: bool = False
    markers: tuple[str, ...] = ()
    fence: str = ""
    guide: GuideCellFacts | None = None

    @property
    def asked(self) -> str:
        """How the model was asked, in words that tell its cells apart."""
        if self.guide is None:
            return self.prompt.name
        return f"{self.prompt.name} + {'guide' if self.guide.model else self.guide.rule}"


@dataclass(frozen=True, slots=True)
class ProbesFacts:
    """What run.json says of the probes."""

    whose: str = SHIPPED
    kinds: tuple[str, ...] = ()
    count: Count = 0
    digest: str = ""


@dataclass(frozen=True, slots=True)
class BenchmarkConfig:
    """What run.json says of a benchmark."""

    cells: tuple[CellFacts, ...]
    probes: ProbesFacts = ProbesFacts()


@dataclass(frozen=True, slots=True)
class Cell:
    """A model under a prompt, with its judged answers by probe."""

    facts: CellFacts
    answers: Mapping[str, Judged]
    measures: Measures

    @property
    def name(self) -> str:
        return self.facts.name

    def as_json(self) -> dict[str, object]:
        return {
            "name": self.name,
            "model": self.facts.model.name,
            "prompt": self.facts.prompt.name,
            "asked": self.facts.asked,
            "guide": asdict(self.facts.guide) if self.facts.guide else None,
            "aligned": self.facts.aligned,
            **self.measures.as_json(),
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """A cell against zero-shot and against the best prompt of its model, over the probes that both
    have; of the aligned cell, against those of a model."""

    model: str
    cell: str
    zero_shot: Difference | None  # None for zero-shot itself, or where there is none
    best: Difference | None  # None for the best itself
    closed: Closed | None = None

    def as_json(self) -> dict[str, object]:
        found = {"zero_shot": self.zero_shot, "best": self.best, "gap_closed": self.closed}
        named = {name: one.as_json() if one else None for name, one in found.items()}
        return {"model": self.model, "cell": self.cell, **named}


@dataclass(frozen=True, slots=True)
class Curve:
    """The share of right answers under one prompt, a value for each of the models."""

    prompt: str
    right: tuple[Share | None, ...]

    def as_json(self) -> dict[str, object]:
        return {"prompt": self.prompt, "right": [s.as_json() if s else None for s in self.right]}


@dataclass(frozen=True, slots=True)
class Curves:
    """How prompts do over several models, such as the checkpoints of a training."""

    models: tuple[str, ...]
    axis: Axis
    lines: tuple[Curve, ...]

    def as_json(self) -> dict[str, object]:
        return {
            "models": list(self.models),
            "at": list(self.axis.places),
            "steps": self.axis.steps,
            "prompts": [line.as_json() for line in self.lines],
        }


@dataclass(frozen=True, slots=True)
class Results:
    """All that a benchmark says. Models and cells in the order given."""

    probes: tuple[Probe, ...]
    kinds: tuple[str, ...]
    cells: tuple[Cell, ...]
    best: Mapping[str, str]  # by model, the name of its best cell
    comparisons: tuple[Comparison, ...]
    curves: Curves | None

    def of_model(self, model: str) -> list[Cell]:
        """A model's own cells."""
        return [c for c in self.cells if not c.facts.aligned and c.facts.model.name == model]

    def is_best(self, cell: Cell) -> bool:
        """Whether it is the best of its model."""
        return cell.name in self.best.values()

    @property
    def aligned(self) -> Cell | None:
        return next((cell for cell in self.cells if cell.facts.aligned), None)

    def as_json(self) -> dict[str, object]:
        return {
            "probes": len(self.probes),
            "kinds": list(self.kinds),
            "cells": [cell.as_json() for cell in self.cells],
            "best": dict(self.best),
            "comparisons": [one.as_json() for one in self.comparisons],
            "curves": self.curves.as_json() if self.curves else None,
        }


def read_results(folder: Path) -> Results:
    """Measure a benchmark by its rows, finished or not. Raises UsageError or RunError."""
    info = benchmark_run(folder)
    config = info.config_as(BenchmarkConfig)
    probes = _probes(folder, config.probes.whose)
    kinds = tuple(dict.fromkeys(probe.kind for probe in probes))
    cells = tuple(_cell(folder, facts, probes, kinds) for facts in config.cells)
    if not any(cell.answers for cell in cells):
        raise UsageError(f"{folder} has no answers yet.", "Run the command that made it again.")
    models = tuple(dict.fromkeys(c.facts.model.name for c in cells if not c.facts.aligned))
    own = {m: [c for c in cells if not c.facts.aligned and c.facts.model.name == m] for m in models}
    best = {model: _best(own[model]) for model in models}
    aligned = next((cell for cell in cells if cell.facts.aligned), None)
    comparisons = tuple(
        one for model in models for one in _comparisons(model, own[model], best[model], aligned)
    )
    return Results(
        probes, kinds, cells, {m: c.name for m, c in best.items()}, comparisons, _curves(own)
    )


def benchmark_run(folder: Path) -> RunInfo:
    """What a benchmark says of itself. Raises UsageError for another folder."""
    info = read_run(folder)
    if info.task != "benchmark":
        raise UsageError(f"{folder} is a run of {info.task!r}, not of benchmark.")
    return info


def _probes(folder: Path, whose: str) -> tuple[Probe, ...]:
    """The probes that were asked, in their order. Where they are shipped ones, and are still asked
    in the same words, their rules are today's: a better rule needs no new run."""
    asked = kept.read_probes(folder)
    if whose != SHIPPED:
        return asked
    now = {(probe.id, probe.turns): probe for probe in load_probes()}
    return tuple(now.get((probe.id, probe.turns), probe) for probe in asked)


def _cell(folder: Path, facts: CellFacts, probes: Sequence[Probe], kinds: Sequence[str]) -> Cell:
    place, answers, rate = folder / facts.name, {}, None
    if is_run(place):
        rows = {row.id: row for row in RunRows(place, KEY, Generated.read).every()}
        answers = {p.id: judged(p, rows[p.id]) for p in probes if p.id in rows}
        starts = read_run(place).sessions
        tokens, seconds = sum(s.tokens for s in starts), sum(s.seconds for s in starts)
        rate = tokens / seconds if seconds else None
    frame = Frame(facts.markers, facts.fence)
    return Cell(facts, answers, measure(list(answers.values()), kinds, frame, rate))


def _best(cells: Sequence[Cell]) -> Cell:
    """The cell with the largest share of right answers; of equals the one given first."""
    return max(cells, key=lambda cell: cell.measures.right.value or 0.0)


def zero_shot_of(cells: Sequence[Cell]) -> Cell | None:
    """What others are held against: zero-shot without a guide, or another prompt whose name begins
    so."""
    alone = [c for c in cells if c.facts.guide is None]
    named = [c for c in alone if c.facts.prompt.name.startswith(ZERO_SHOT)]
    return next((c for c in named if c.facts.prompt.name == ZERO_SHOT), next(iter(named), None))


def _comparisons(
    model: str, cells: Sequence[Cell], best: Cell, aligned: Cell | None
) -> Iterator[Comparison]:
    zero = zero_shot_of(cells)
    for cell in [*cells, *([aligned] if aligned else [])]:
        closed = None
        if zero and aligned and cell is not zero and cell is not aligned:
            closed = gap_closed(_right(cell, zero, aligned))
        yield Comparison(
            model,
            cell.name,
            difference(_right(cell, zero)) if zero and cell is not zero else None,
            difference(_right(cell, best)) if cell is not best else None,
            closed,
        )


def _right(*cells: Cell) -> BoolArray:
    """[n, cells]: whether each is right, over the n probes that all of them have."""
    shared = [i for i in cells[0].answers if all(i in cell.answers for cell in cells)]
    found = [[cell.answers[i].right for cell in cells] for i in shared]
    return np.array(found, np.bool_).reshape(-1, len(cells))


def _curves(own: Mapping[str, Sequence[Cell]]) -> Curves | None:
    """Of the prompts that at least two models were asked under; None without any."""
    by_prompt: dict[str, dict[str, Share]] = {}
    for model, cells in own.items():
        for cell in cells:
            by_prompt.setdefault(cell.facts.asked, {})[model] = cell.measures.right
    lines = tuple(
        Curve(prompt, tuple(found.get(model) for model in own))
        for prompt, found in by_prompt.items()
        if len(found) > 1
    )
    return Curves(tuple(own), axis_of(list(own)), lines) if lines else None
