"""A progress bar on stderr, where there is a terminal; nothing elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from urial_local.base.terminal import one_line
from urial_local.cli.plumbing.terminal import steered

SLOW = 200 << 20  # bytes that take long enough to read for a bar


class Bar:
    """Rows done of rows to do, with rate and time left; without a total, only how many."""

    def __init__(self, total: int | None, unit: str, done: int = 0) -> None:
        from tqdm import tqdm

        stream = sys.stderr
        hidden = not steered(stream)
        self._bar: Any = tqdm(
            total=total,
            initial=done,
            unit=unit,
            disable=hidden,
            file=stream,
            leave=False,
            dynamic_ncols=True,
            smoothing=0.1,
        )

    def to(self, done: int, **figures: str) -> None:
        """Move to so many rows; `figures` stand after the bar."""
        self._bar.set_postfix(figures, refresh=False)
        self._bar.update(done - self._bar.n)

    def say(self, text: str) -> None:
        """What is under way, before the bar."""
        self._bar.set_description_str(text)

    def close(self) -> None:
        self._bar.close()


@contextmanager
def counting() -> Iterator[Callable[[str, int, int], None]]:
    """For work that says of itself what it does: (what, bytes done, bytes in all). A bar for each
    `what`, where it is large enough to wait for."""
    shown: dict[str, Any] = {}

    def tell(what: str, done: int, total: int) -> None:
        from tqdm import tqdm

        if what not in shown:
            hidden = not steered(sys.stderr) or total < SLOW
            shown[what] = tqdm(
                total=total,
                desc=one_line(what),
                unit="B",
                unit_scale=True,
                disable=hidden,
                leave=False,
            )
        shown[what].update(done - shown[what].n)

    try:
        yield tell
    finally:
        for one in shown.values():
            one.close()


@contextmanager
def bar(total: int | None, unit: str, done: int = 0) -> Iterator[Bar]:
    shown = Bar(total, unit, done)
    try:
        yield shown
    finally:
        shown.close()
