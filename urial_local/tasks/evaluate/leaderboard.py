"""Several models side by side: their aspects with intervals, and which differences are more than
chance. Tables of different judges are refused unless asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from urial_local.base.errors import UsageError
from urial_local.records.judged import Judgement
from urial_local.tasks.evaluate.differences import Difference, difference
from urial_local.tasks.evaluate.modes import ASPECTS
from urial_local.tasks.evaluate.scores import JudgesByMode, NotApplicable, Scores
from urial_local.tasks.evaluate.summary import USUAL, Reading, judges, summarise

COLUMNS = (*ASPECTS, "average", "words", "ended")


@dataclass(frozen=True, slots=True)
class Entry:
    """One model's line: its judgements, of one file or of several."""

    name: str
    judgements: Sequence[Judgement]
    words: float | None = None  # of general rows, from a file of answers, where none was judged
    ended: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A model's line in the table; words and ended are of its answers, judged or not."""

    name: str
    scores: Scores
    words: float | None
    ended: float | None

    def column(self, name: str) -> float | None:
        """What a column of numbers shows (see COLUMNS)."""
        if name in ASPECTS:
            return self.scores.mean.get(name)
        if name == "average":
            return self.scores.average.mean if self.scores.average else None
        return {"words": self.words, "ended": self.ended}[name]

    def as_json(self) -> dict[str, object]:
        return {
            "name": self.name,
            "judges": self.scores.judges,
            "judged": self.scores.judged,
            "failed": self.scores.failed,
            "aspects": {name: one.as_json() for name, one in self.scores.aspects.items()},
            "average": self.scores.average and self.scores.average.as_json(),
            "words": self.words,
            "ended": self.ended,
            "empty": self.scores.empty,
            "runaway": self.scores.runaway,
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models of the table by name, and by aspect the higher one's scores less the lower's."""

    above: str
    below: str
    aspects: Mapping[str, Difference]

    def as_json(self) -> dict[str, object]:
        return {
            "above": self.above,
            "below": self.below,
            "aspects": {name: one.as_json() for name, one in self.aspects.items()},
        }


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """Rows in order, who judged, and how each model differs from the one above it. `mixed`: a mode
    has several judges."""

    judges: JudgesByMode
    mixed: bool
    na: NotApplicable
    expected: bool
    sort: str
    rows: Sequence[Row]
    differences: Sequence[Comparison]

    def as_json(self) -> dict[str, object]:
        return {
            "judges": self.judges,
            "mixed": self.mixed,
            "na": self.na,
            "expected": self.expected,
            "sort": self.sort,
            "rows": [row.as_json() for row in self.rows],
            "differences": [one.as_json() for one in self.differences],
        }


def leaderboard(
    entries: Sequence[Entry],
    reading: Reading = USUAL,
    sort: str = "average",
    mix_judges: bool = False,
) -> Leaderboard:
    """The table of some models, by `name` or one of COLUMNS.

    Raises UsageError for another column, and where rows of one mode were judged by different
    judges, unless `mix_judges`: two judges' scales differ by more than models do. Then every row
    names its judges.
    """
    if sort not in (*COLUMNS, "name"):
        raise UsageError(f"There is no column {sort!r}.", f"Known: name, {', '.join(COLUMNS)}.")
    scored = [j for e in entries for j in e.judgements if j.mode in ("general", "safety")]
    by_mode = judges(scored)
    several = {mode: names for mode, names in by_mode.items() if len(names) > 1}
    if several and not mix_judges:
        said = "; ".join(f"{mode}: {', '.join(names)}" for mode, names in several.items())
        raise UsageError(
            f"The models were judged by different judges ({said}), whose scales differ.",
            "Compare the judges with `urial-local agreement`, or add --mix-judges.",
        )
    rows = [_row(entry, reading) for entry in entries]
    order = sorted(range(len(rows)), key=lambda i: _place(rows[i], sort))
    return Leaderboard(
        judges=by_mode,
        mixed=bool(several),
        na=reading.na,
        expected=reading.expected,
        sort=sort,
        rows=[rows[i] for i in order],
        differences=_differences([entries[i] for i in order], reading),
    )


def _row(entry: Entry, reading: Reading) -> Row:
    found = summarise(entry.judgements, reading)
    words = entry.words if found.words is None else found.words
    return Row(entry.name, found, words, entry.ended if found.ended is None else found.ended)


def _place(row: Row, sort: str) -> tuple[bool, float, str]:
    """Names upwards, numbers downwards, what is missing last."""
    number = None if sort == "name" else row.column(sort)
    return (number is None, -(number or 0.0), row.name)


def _differences(entries: Sequence[Entry], reading: Reading) -> list[Comparison]:
    """Each model against the nearest one above it that has rows in common with it; a model that
    shares none has no line. Only the same judge's scores are subtracted."""
    found = []
    for i, below in enumerate(entries):
        for above in reversed(entries[:i]):
            aspects = difference(above.judgements, below.judgements, reading)
            if aspects:
                found.append(Comparison(above.name, below.name, aspects))
                break
    return found
