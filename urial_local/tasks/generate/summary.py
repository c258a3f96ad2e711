"""What a generation run amounts to, in one line of a table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from urial_local.records.generated import Generated
from urial_local.runtime.rows import ENDED
from urial_local.tasks.generate.flags import FLAGS


def summarise(rows: Iterable[Generated]) -> dict[str, Any]:
    """Counts and shares over a run's rows.

    answered: rows with an answer; failed: error rows; ended: share of the answered that the model
    ended by itself (end token, the frame's fence or marker, a stop string), a dialogue in all its
    turns; the flags: shares of the answered with each (see `flags`), a dialogue in any of its
    turns; words and tokens: means over all turns.
    """
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
    return {
        "answered": answered,
        "failed": failed,
        "ended": ended / n if answered else None,
        **shares,
        "words": words / turns if answered else None,
        "tokens": tokens / turns if answered else None,
    }
