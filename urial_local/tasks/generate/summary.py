"""What a generation run amounts to, in one line of a table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from urial_local.records.generated import Generated
from urial_local.runtime.choices import ENDED
from urial_local.tasks.generate.flags import FLAGS


@dataclass(frozen=True, slots=True)
class GenerateSummary:
    """Counts of a run's rows, and shares and means over those with an answer; None without any."""

    answered: int
    failed: int  # error rows
    ended: float | None  # by the model (end token, fence or marker, stop string), in all turns
    empty: float | None  # this and the next five: with that flag (see `flags`) in any turn
    truncated: float | None
    repetitive: float | None
    runaway: float | None
    copied: float | None
    refusal: float | None
    words: float | None  # mean of all turns
    tokens: float | None  # mean of all turns

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def summarise(rows: Iterable[Generated]) -> GenerateSummary:
    """Counts, shares and means over a run's rows."""
    answered = failed = ended = turns = words = tokens = 0
    flagged = dict.fromkeys(FLAGS, 0)
    for row in rows:
        if row.error:
            failed += 1
            continue
        answered += 1
        said = row.turns
        turns += len(said)
        ended += all(turn.finish_reason in ENDED for turn in said)
        words += sum(len(turn.answer.split()) for turn in said)
        tokens += sum(turn.completion_tokens for turn in said)
        for flag in row.flags:
            if flag in flagged:
                flagged[flag] += 1
    n = max(answered, 1)
    shares = {name: count / n if answered else None for name, count in flagged.items()}
    return GenerateSummary(
        answered=answered,
        failed=failed,
        ended=ended / n if answered else None,
        **shares,
        words=words / turns if answered else None,
        tokens=tokens / turns if answered else None,
    )
