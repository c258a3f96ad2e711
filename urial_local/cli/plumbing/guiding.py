"""What commands say of a guide: how much it wrote, and where that is too much."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from urial_local.base.formats import percent
from urial_local.cli.plumbing.terminal import note

if TYPE_CHECKING:
    from urial_local.runtime.guidance import Guidance

_HIGH = "More than a fifth says that it leads rather than guides: try a lower `gamma`, a prompt for"


def tell_about_guide(guidance: Guidance | None) -> None:
    """Of one answer; nothing without a guide."""
    if guidance is None:
        return
    from urial_local.runtime.guidance import HIGH_RATE

    note(
        f"The guide wrote {percent(guidance.rate)} of the tokens and decoded"
        f" {guidance.decoded:,} of its own."
    )
    if guidance.rate > HIGH_RATE:
        note(f"{_HIGH} the model (`prompt=urial`), or another guide.")


class GuideRates:
    """Over the rows of a run as they pass."""

    def __init__(self) -> None:
        self._written = self._theirs = 0

    def watched(self, rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for row in rows:
            for turn in row.get("turns") or [row]:
                if (guide := turn.get("guide")) is not None:
                    written = turn["completion_tokens"] - turn.get("prefill_tokens", 0)
                    self._written += written
                    self._theirs += len(guide["at"])
            yield row

    def tell(self) -> None:
        """How much the guide wrote; nothing without one."""
        if not self._written:
            return
        from urial_local.runtime.guidance import HIGH_RATE

        rate = self._theirs / self._written
        note(f"The guide wrote {percent(rate)} of the tokens.")
        if rate > HIGH_RATE:
            note(f"{_HIGH} the model (`prompt=urial`), or another guide.")
