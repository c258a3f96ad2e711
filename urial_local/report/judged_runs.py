"""The page of judged runs and files, from where they lie: how each is called, how it was made, and
what a reader should know before reading."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from urial_local.base.registry import EMBEDDED
from urial_local.records.judged import EvaluateConfig, Judgement, read_judgements
from urial_local.records.runs import RunInfo, is_run, read_run
from urial_local.report.judged_page import write_judged_page
from urial_local.report.page import sessions
from urial_local.tasks.evaluate.neighbours import Effect
from urial_local.tasks.evaluate.results import neighbours_of
from urial_local.tasks.evaluate.summary import USUAL, Reading, judges


@dataclass(frozen=True, slots=True)
class _Judged:
    """A run or a file; only a run says how it was made."""

    place: Path
    judgements: Sequence[Judgement]
    info: RunInfo | None = None
    judge: str = ""  # as the run says
    neighbours: Effect | None = None

    @property
    def name(self) -> str:
        """The model that answered, or the folder where several did."""
        models = {j.generator for j in self.judgements}
        return models.pop() if len(models) == 1 else self.place.resolve().name

    def facts(self) -> list[list[str]]:
        """Lines of [label, text] on how it was made."""
        if self.info is None:
            return []
        more = self.info.config["judge"].items()
        return [
            ["judge", self.judge],
            *([f"judge, {key}", json.dumps(value)] for key, value in more if key != "name"),
            *sessions(self.info),
            *([["neighbours", self.neighbours.said()]] if self.neighbours else []),
        ]

    def notes(self) -> Iterator[str]:
        if self.neighbours and self.neighbours.differ:
            yield f"{self.name}: {self.neighbours.said()}"
        if self.judge in EMBEDDED:
            yield (
                f"The judge of {self.name} is the embedded demo model, as a"
                " stand-in: it shows that judging works, and its scores mean nothing."
            )


def write_page(places: Sequence[Path], path: Path, reading: Reading = USUAL) -> None:
    """Write the page of judged runs or files, side by side."""
    runs = [_read(place) for place in places]
    notes = [note for run in runs for note in run.notes()]
    notes += _mixtures([j for run in runs for j in run.judgements])
    named = zip(_names(runs), (run.judgements for run in runs), strict=True)
    facts = [run.facts() for run in runs]
    write_judged_page(list(named), path, reading, notes=list(dict.fromkeys(notes)), about=facts)


def _read(place: Path) -> _Judged:
    judgements = list(read_judgements(str(place)))
    if not is_run(place):
        return _Judged(place, judgements)
    info = read_run(place)
    judge = info.config_as(EvaluateConfig).judge.name
    return _Judged(place, judgements, info, judge, neighbours_of([str(place)]))


def _mixtures(judgements: Sequence[Judgement]) -> Iterator[str]:
    for mode, names in judges(judgements).items():
        if len(names) > 1:
            yield (
                f"Different judges for {mode} ({', '.join(names)}): their scales differ, so these"
                " scores do not compare."
            )


def _names(runs: Sequence[_Judged]) -> list[str]:
    """The runs' names, told apart by where they lie where two are the same."""
    names = [run.name for run in runs]
    if len(set(names)) == len(names):
        return names
    places = [run.place.resolve() for run in runs]
    return [
        f"{name} ({place.parent.name}/{place.name})"
        for name, place in zip(names, places, strict=True)
    ]
