"""Ids and other short values of rows as text, so that the same one is the same in every format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from urial_local.records.plain import Packed

EXACT = 2**53  # whole numbers below it are what they were before they became floats


def id_text(value: Any) -> str | None:
    """An id as text: 7, "7" and 7.0 (as a table writes whole numbers once one is missing) are the
    same. None where there is none. Raises ValueError, naming it, for what is not an id."""
    if value is None or value == "":
        return None
    if isinstance(value, float) and value.is_integer() and abs(value) < EXACT:
        return str(int(value))
    if isinstance(value, str | int) and not isinstance(value, bool | Packed):
        return str(value)
    raise ValueError(_described(value))


def _described(value: Any) -> str:
    if isinstance(value, Packed):
        return "bytes that are not text"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return repr(value)


def shown(value: Any) -> str:
    """A field's value as it is compared and listed; whole numbers as `id_text` has them."""
    whole = isinstance(value, float) and value.is_integer() and abs(value) < EXACT
    return str(int(value) if whole else value)
