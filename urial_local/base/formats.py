"""Figures as people read them: the same form wherever a command or a page shows one."""

from __future__ import annotations

NOTHING = "–"  # where there is no figure


def percent(share: float | None, digits: int = 1) -> str:
    """A share of 1, as in 12.3 %."""
    return NOTHING if share is None else f"{100 * share:.{digits}f} %"


def points(difference: float) -> str:
    """A difference of two shares of 1, in percentage points: +3.7."""
    return f"{100 * difference:+.1f}"


def number(value: float | None, digits: int = 2) -> str:
    return NOTHING if value is None else f"{value:.{digits}f}"


def reach(interval: tuple[str, str] | None) -> str:
    """An interval, of ends that are figures already."""
    return NOTHING if interval is None else "–".join(interval)


def counted(n: int, one: str, several: str = "") -> str:
    """A number of things: 1 row, 1,200 rows. `several` where an s does not do."""
    return f"{n:,} {one if n == 1 else several or one + 's'}"


def size(n: float) -> str:
    """A number of bytes, in powers of a thousand as disks are sold."""
    for unit, unit_size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n >= unit_size:
            return f"{n / unit_size:,.1f} {unit}"
    return counted(int(n), "byte")


def parameters(n: int) -> str:
    """How large a model is said to be: 7.24 B (7,241,732,096)."""
    return f"{n / 1e9:.2f} B ({n:,})" if n >= 1e9 else f"{n / 1e6:.2f} M ({n:,})"


def rate(tokens_per_second: float) -> str:
    return f"{tokens_per_second:,.1f} tokens/s"
