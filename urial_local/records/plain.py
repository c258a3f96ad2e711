"""Values of rows as JSON can hold them."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any

MAX_DEPTH = 98  # of lists and objects inside each other in a row


class Packed(str):
    """Bytes that are not text, in base64: a field may hold them, a question may not."""


def plain(value: Any, depth: int = 0) -> Any:
    """A value that JSON can hold: no NaN or infinity, no dates, no bytes. Raises RecursionError
    where it is nested more than MAX_DEPTH levels deep."""
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping | list | tuple) and depth >= MAX_DEPTH:
        raise RecursionError
    if isinstance(value, Mapping):
        return {str(k): plain(v, depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v, depth + 1) for v in value]
    if isinstance(value, bytes):
        return _text_of(value)
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _text_of(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return Packed(base64.b64encode(value).decode("ascii"))
