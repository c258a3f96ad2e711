"""What a generation run amounts to, in one line of a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

ENDED = ("eos", "frame", "stop")
FLAGS = ("empty", "truncated", "repetitive", "runaway")


def summarise(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Counts and shares over the first turns of a run's rows.

    answered: rows with an answer; failed: error rows; ended: share of the answered that the model
    ended by itself (end token, the frame's fence or marker, a stop string); empty, truncated,
    repetitive, runaway: shares with that flag (see `flags`); words and tokens: means over the
    answered.
    """
    answered = failed = ended = words = tokens = 0
    flagged = dict.fromkeys(FLAGS, 0)
    for row in rows:
        if row.get("error"):
            failed += 1
            continue
        answered += 1
        ended += row["finish_reason"] in ENDED
        words += len(str(row["answer"]).split())
        tokens += int(row["completion_tokens"])
        for flag in row["flags"]:
            if flag in flagged:
                flagged[flag] += 1
    n = max(answered, 1)
    shares = {name: count / n if answered else None for name, count in flagged.items()}
    return {
        "answered": answered,
        "failed": failed,
        "ended": ended / n if answered else None,
        **shares,
        "words": words / n if answered else None,
        "tokens": tokens / n if answered else None,
    }
