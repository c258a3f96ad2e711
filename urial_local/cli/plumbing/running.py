"""A run of any task, as commands go about it: its rows are written as they come, with a bar, and
Ctrl-C finishes those in flight; a second one stops at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from urial_local.base.errors import Interrupted, Unfinished
from urial_local.cli.plumbing.stopping import Stop
from urial_local.records.runlog import RunLog
from urial_local.runtime.choices import ENDED

RESUME = "Run the same command again to resume."
Row = dict[str, Any]


class Work(Protocol):
    """What makes the rows. Both calls may come from a signal handler."""

    def stop(self) -> None:
        """Begin no new rows."""
        ...

    def abort(self) -> None:
        """Leave those in flight, too."""
        ...


@dataclass
class Tally:
    """What this start has made."""

    done: int = 0
    errors: int = 0
    tokens: int = 0  # that models wrote
    read: int = 0  # tokens of prompts
    ended: int = 0  # answers that their model ended
    first_error: str = ""
    began: float = field(default_factory=time.perf_counter)
    stopped: bool = False
    terminated: bool = False  # by SIGTERM

    @property
    def seconds(self) -> float:
        return round(time.perf_counter() - self.began, 3)

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / max(time.perf_counter() - self.began, 1e-9)

    def take(self, row: Row) -> None:
        self.done += 1
        if error := row.get("error"):
            self.errors += 1
            self.first_error = self.first_error or str(error)
        parts = [
            candidate
            for turn in row.get("turns") or [row]
            for candidate in turn.get("candidates") or [turn]
        ]
        # A row of shift has the ids themselves.
        self.tokens += sum(
            part.get("completion_tokens") or len(part.get("answer_ids", ())) for part in parts
        )
        self.read += sum(part.get("prompt_tokens") or 0 for part in parts)
        turns = row.get("turns") or [row]
        self.ended += all(turn.get("finish_reason") in ENDED for turn in turns)


def write_rows(
    log: RunLog,
    rows: Iterator[Row],
    work: Work,
    stop: Stop,
    *,
    total: int | None,
    unit: str,
    figures: Callable[[Tally], dict[str, str]] = lambda tally: {},
) -> Tally:
    """Write rows to a run's log as they come. `total`: of the whole run, those that are there
    already among them; None where it is not known. `figures` stand after the bar."""
    from urial_local.cli.plumbing.progress import bar
    from urial_local.runtime.sequences import Aborted

    there = log.count_done()
    tally = Tally()
    with bar(total, unit, there) as shown:
        stop.watch(work.stop, work.abort)
        try:
            for row in rows:
                log.append(row)
                tally.take(row)
                shown.to(there + tally.done, **figures(tally))
        except (Aborted, KeyboardInterrupt):
            stop.asked = True
    tally.stopped, tally.terminated = stop.asked, stop.terminated
    return tally


def end(log: RunLog, tally: Tally, total: int | None, **more: float) -> None:
    """Keep what this start did. Raises Interrupted where Ctrl-C stopped it, Unfinished where
    SIGTERM did."""
    did = {"rows": tally.done, "tokens": tally.tokens, "seconds": tally.seconds}
    log.end_session(finished=not tally.stopped, **did, **more)
    if tally.stopped:
        kind = Unfinished if tally.terminated else Interrupted
        done = log.count_done()
        failed = f", {tally.errors:,} failed" if tally.errors else ""
        of = "" if total is None else f" of {total:,}"
        raise kind(f"Stopped; {done:,}{of} rows are done{failed}.", RESUME)
