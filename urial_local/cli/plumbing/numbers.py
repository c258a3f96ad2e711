"""Numbers as options take them."""

from __future__ import annotations

import click

_GUARD = 1 << 16  # a bound from here on only guards against nonsense, and says nothing to a reader


class Whole(click.IntRange):
    """A whole number within bounds, of which the help shows those that matter."""

    def _describe_range(self) -> str:
        if self.max is None or self.max < _GUARD:
            return super()._describe_range()
        if self.min is not None and self.min > -_GUARD:
            return f"{self.min} or more"
        return "of 64 bits"
