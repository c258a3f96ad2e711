"""What a cell (a model under a prompt) is worth: shares over its probes, from verdicts made now.

right   of all probes that the cell has rows of, and of each kind: the share whose rule is kept by
        the last answer (tasks.benchmark.rules). Every probe counts once. A probe that could not be
        asked (its row is an error, such as a prompt that leaves no room) is wrong.
signs   shares of answered probes; see tasks.benchmark.signs
words   mean number of words an answer, split at blanks, over all turns
tokens  mean number of tokens an answer, over all turns
tokens/s  tokens that were written, over the seconds of the cell's starts
guides    of cells with a guide: the share of its tokens among all that were written, those that an
          answer was begun with left out; runtime.guidance says which tokens count as the guide's
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from urial_local.records.generated import AnsweredTurn, Generated
from urial_local.tasks.benchmark.probes import Probe
from urial_local.tasks.benchmark.rules import verdict
from urial_local.tasks.benchmark.signs import SIGNS, Frame, Said, signs_of
from urial_local.tasks.benchmark.statistics import Share


@dataclass(frozen=True, slots=True)
class Judged:
    """A probe with the answers of a cell, and what its rule says of the last of them."""

    probe: Probe
    row: Generated
    right: bool
    why: str


def judged(probe: Probe, row: Generated) -> Judged:
    if row.error:
        return Judged(probe, row, False, f"failed: {row.error}")
    found = verdict(probe.rule, row.turns[-1].answer)
    return Judged(probe, row, found.right, found.why)


@dataclass(frozen=True, slots=True)
class Measures:
    """Of one cell; see the module's text."""

    right: Share
    kinds: Mapping[str, Share]
    signs: Mapping[str, Share]  # by the names of SIGNS
    failed: int  # error rows
    words: float | None
    tokens: float | None
    tokens_per_second: float | None
    guides: float | None = None  # None of cells without a guide

    def as_json(self) -> dict[str, object]:
        return {
            "right": self.right.as_json(),
            "kinds": {name: share.as_json() for name, share in self.kinds.items()},
            "signs": {name: share.as_json() for name, share in self.signs.items()},
            "failed": self.failed,
            "words": self.words,
            "tokens": self.tokens,
            "tokens_per_second": self.tokens_per_second,
            "guides": self.guides,
        }


def measure(
    cell: Sequence[Judged],
    kinds: Iterable[str],
    frame: Frame,
    tokens_per_second: float | None = None,
) -> Measures:
    """Measures of a cell's rows. `kinds`: those to tell of, in this order."""
    answered = [one for one in cell if not one.row.error]
    signs = [signs_of(Said(one.probe.kind, one.row, frame)) for one in answered]
    turns = [turn for one in answered for turn in one.row.turns]
    return Measures(
        right=_share(one.right for one in cell),
        kinds={k: _share(one.right for one in cell if one.probe.kind == k) for k in kinds},
        signs={name: _share(found[name] for found in signs) for name in SIGNS},
        failed=len(cell) - len(answered),
        words=_mean([len(turn.answer.split()) for turn in turns]),
        tokens=_mean([turn.completion_tokens for turn in turns]),
        tokens_per_second=tokens_per_second,
        guides=_guides(turns),
    )


def _guides(turns: Sequence[AnsweredTurn]) -> float | None:
    """The guide's share of the tokens written; None without a guide."""
    guided = [turn for turn in turns if turn.guide is not None]
    written = sum(turn.completion_tokens - turn.prefill_tokens for turn in guided)
    theirs = sum(len(turn.guide.at) for turn in guided if turn.guide is not None)
    return theirs / written if written else None


def _share(values: Iterable[bool | None]) -> Share:
    known = [value for value in values if value is not None]
    return Share(sum(known), len(known))


def _mean(values: Sequence[int]) -> float | None:
    return sum(values) / len(values) if values else None
