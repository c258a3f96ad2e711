"""Lists of numbers in a row as arrays, each held to what its column may hold."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from urial_local.records.typed import Malformed


@dataclass(frozen=True, slots=True)
class Column:
    """What a column may hold: whole numbers, or numbers and null, from `low` to `high`; lists of
    `width` of them where there is a width."""

    whole: bool
    low: float
    high: float
    width: int | None = None


def column(value: Any, at: str, of: Column) -> npt.NDArray[Any]:
    """int32 or float64 [n] or [n, width], with NaN for null. `at` names the place in the row.
    Raises Malformed."""
    if value is None:
        raise Malformed(f"{at} is missing")
    if not isinstance(value, list):
        raise Malformed.expected(at, "a list", value)
    flat = value if of.width is None else _flattened(value, at, of.width)
    if not set(map(type, flat)) <= ({int} if of.whole else {int, float, type(None)}):
        i = next(i for i, v in enumerate(flat) if not _fits(v, of))
        what = "a whole number" if of.whole else "a number or null"
        raise Malformed.expected(_place(at, i, of), what, flat[i])
    try:
        array = np.array(flat, np.int64 if of.whole else np.float64)
    except OverflowError:
        raise Malformed(f"{at} holds a number that is too large") from None
    if (bad := np.flatnonzero((array < of.low) | (array > of.high))).size:
        i = int(bad[0])
        raise Malformed(
            f"{_place(at, i, of)} must be from {of.low:g} to {of.high:g}, not {array[i]:g}"
        )
    shaped = array if of.width is None else array.reshape(-1, of.width)
    return shaped.astype(np.int32) if of.whole else shaped


def _flattened(value: list[Any], at: str, width: int) -> list[Any]:
    for i, inner in enumerate(value):
        if not isinstance(inner, list) or len(inner) != width:
            raise Malformed.expected(f"{at}[{i}]", f"a list of {width} numbers", inner)
    return list(itertools.chain.from_iterable(value))


def _fits(value: Any, of: Column) -> bool:
    return type(value) is int or (not of.whole and (value is None or type(value) is float))


def _place(at: str, i: int, of: Column) -> str:
    return f"{at}[{i}]" if of.width is None else f"{at}[{i // of.width}][{i % of.width}]"
