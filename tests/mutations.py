"""Values, texts and bytes that are changed in one place at random; the fuzzers share them."""

from __future__ import annotations

import json
import os
import random
from typing import Any

ROUNDS = int(os.environ.get("URIAL_FUZZ_ROUNDS", "60"))
DEEP = json.loads("[" * 400 + "]" * 400)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 7, 2**31, 2**63, 10**400, 0.5, -1e30, 1e300, float("inf")),
    *(float("nan"), "", "x", "../x", "a\0b", "\ud800", "\u202e\x1b[31m", "9" * 5000, "x" * 10_000),
    *([], {}, [1], ["x"], [None], [[]], [[1]], {"x": 1}, {"": {}}, DEEP),
    *("1/3", "9/1", "1/999999999999", "N/A", "BA", "general", "tags", "shift", "evaluate"),
)
PIECES = (b"", b"\n", b"\0" * 50, b"\xff", b"[" * 100_000, b'"', b"1e999", b"9" * 6000)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value. Of long lists only some: one entry stands for all."""
    found = [path]
    if isinstance(value, dict):
        for name, inner in value.items():
            found += places(inner, (*path, name))
    elif isinstance(value, list):
        for i in range(min(len(value), 2)):
            found += places(value[i], (*path, i))
    return found


def changed(value: Any, rng: random.Random) -> Any:
    """The value with one place changed: replaced, removed, renamed or doubled."""
    path = rng.choice(places(value)[1:] or [()])
    if not path:
        return rng.choice(VALUES)
    *above, last = path
    parent = value
    for step in above:
        parent = parent[step]
    how = rng.random()
    if how < 0.75:
        parent[last] = rng.choice(VALUES)
    elif how < 0.9:
        del parent[last]
    elif isinstance(parent, list):
        parent.append(parent[last])
    else:
        parent[str(rng.choice(("x", "error", "turns", "fields")))] = parent.pop(last)
    return value


def written(value: Any) -> bytes:
    """JSON as anybody may write it: NaN and half characters included."""
    return json.dumps(value).encode("ascii").replace(b"Infinity", b"1e999")


def changed_bytes(data: bytes, rng: random.Random, pieces: tuple[bytes, ...] = PIECES) -> bytes:
    """The bytes with some of them replaced, removed, or with others put between them."""
    found = bytearray(data)
    at = rng.randrange(len(found) + 1)
    found[at : at + rng.choice((0, 1, 4, 40, len(found)))] = rng.choice(pieces)
    return bytes(found)
