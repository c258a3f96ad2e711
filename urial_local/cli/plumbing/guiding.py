"""What commands say of a guide: how much it wrote, and where that is too much."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from urial_local.base.formats import percent
from urial_local.cli.plumbing.terminal import note

if TYPE_CHECKING:
    from urial_local.runtime.guidance import Guidance
    from urial_local.tasks.guide import GuidePlan

_HIGH = "Above a fifth, it leads rather than guides: try a lower `gamma`, a prompt for"


def tell_about_guide(guidance: Guidance | None, plan: GuidePlan | None) -> None:
    """Of one answer; nothing without a guide."""
    if guidance is None or plan is None:
        return
    _tell(guidance.rate, plan, f", and {guidance.decoded:,} tokens were decoded for it")


def _tell(rate: float, plan: GuidePlan, more: str = "") -> None:
    """A rule that weighs two rows at every token may change as many as it likes."""
    from urial_local.runtime.guidance import HIGH_RATE
    from urial_local.runtime.guides import PARAMETERS

    if PARAMETERS[plan.rule.name] != "gamma":
        note(f"{percent(rate)} of the tokens are not the model's own first choice{more}.")
        return
    note(f"The guide wrote {percent(rate)} of the tokens{more}.")
    if rate > HIGH_RATE:
        note(f"{_HIGH} the model (`prompt=urial`), or another guide.")


class GuideRates:
    """Over the rows of a run as they pass."""

    def __init__(self, plan: GuidePlan | None) -> None:
        self._plan = plan
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
        if self._written and self._plan:
            _tell(self._theirs / self._written, self._plan)
