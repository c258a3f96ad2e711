"""The lines of a leaderboard, from judged runs and files of several models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from urial_local.base.errors import UsageError
from urial_local.records.judged import Judgement, is_judged, read_judgements
from urial_local.tasks.evaluate.leaderboard import Entry
from urial_local.tasks.evaluate.results import Unjudged, unjudged


def entries_of(names: Sequence[str], ids: frozenset[str] | None = None) -> list[Entry]:
    """A line for each model among the judgements, with lengths from files of its answers. What one
    model has several times over, by other judges or from other runs, becomes a line each, named
    after its file or folder. `ids`: only these rows.

    Raises UsageError for a file or run that was judged for other things than the six aspects.
    """
    lines: list[_Line] = []
    answers: dict[str, Unjudged] = {}
    for name in dict.fromkeys(names):
        if not is_judged(name):
            found = unjudged(name, ids)
            answers |= dict.fromkeys(found.generators, found)
            continue
        for model, rows in _by_model(name, ids).items():
            same = next((line for line in lines if line.takes(model, rows)), None)
            if same is None:
                lines.append(same := _Line(model, Path(name).name))
            same.rows += rows
    models = [line.model for line in lines]
    return [
        *_entries(lines, answers),
        *(Entry(m, [], a.words, a.ended) for m, a in answers.items() if m not in models),
    ]


def _by_model(name: str, ids: frozenset[str] | None) -> dict[str, list[Judgement]]:
    found: dict[str, list[Judgement]] = {}
    for j in read_judgements(name):
        if ids is None or j.id in ids:
            found.setdefault(j.generator, []).append(j)
    modes = {j.mode for rows in found.values() for j in rows}
    if modes and not modes & {"general", "safety"}:
        raise UsageError(
            f"{name} was judged for {', '.join(sorted(modes))}; a leaderboard shows the six"
            " aspects.",
            f"urial-local evaluate summarize {name}",
        )
    return found


def _entries(lines: Sequence[_Line], answers: dict[str, Unjudged]) -> Iterator[Entry]:
    models = [line.model for line in lines]
    for line in lines:
        label = line.model if models.count(line.model) == 1 else f"{line.model} ({line.source})"
        if told := answers.get(line.model):
            yield Entry(label, line.rows, told.words, told.ended)
        else:
            yield Entry(label, line.rows)


@dataclass
class _Line:
    """A model's judgements, as far as they belong together."""

    model: str
    source: str
    rows: list[Judgement] = field(default_factory=list)

    def takes(self, model: str, rows: Sequence[Judgement]) -> bool:
        """Whether these rows are the same model's, of the same judges, and new."""
        judges = {j.mode: j.judge for j in self.rows}
        keys = {_key(j) for j in self.rows}
        return model == self.model and not any(
            judges.get(j.mode, j.judge) != j.judge or _key(j) in keys for j in rows
        )


def _key(j: Judgement) -> tuple[str | int, ...]:
    return (j.mode, j.id, j.repeat, j.turn, j.order)
