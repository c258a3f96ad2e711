"""Records and columns: a file holds what they declare, or the field that differs is named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
import pytest

from urial_local.records.columns import Column, column
from urial_local.records.typed import Count, Malformed, json_value, read_as, within


@dataclass(frozen=True, slots=True)
class Inner:
    text: str


@dataclass(frozen=True, slots=True)
class Outer:
    name: str
    kind: Literal["a", "b"]
    count: Count = 0
    share: Annotated[float, within(0, 1)] = 0.0
    ended: bool | None = None
    inner: tuple[Inner, ...] = ()
    tags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    either: Inner | str = ""
    free: Any = None


def test_records_are_read_as_declared():
    found = read_as(
        Outer,
        {"name": "n", "kind": "b", "count": 3, "share": 1, "ended": None, "unknown": [1],
         "inner": [{"text": "x"}], "tags": {"t": ["v"]}, "either": {"text": "y"}, "free": [None]},
    )  # fmt: skip
    assert found == Outer("n", "b", 3, 1.0, None, (Inner("x"),), {"t": ("v",)}, Inner("y"), [None])
    assert read_as(Outer, {"name": "n", "kind": "a", "either": "z", "count": None}).either == "z"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": 5}, "name must be text, not a number"),
        ({"name": None}, "name must be text, not null"),
        ({"kind": "c"}, "kind must be one of 'a', 'b', not 'c'"),
        ({"kind": ["a"]}, "kind must be text, not a list"),
        ({"count": -1}, "count must be from 0"),
        ({"count": True}, "count must be a whole number, not true or false"),
        ({"count": 1.0}, "count must be a whole number"),
        ({"count": 10**400}, "count must be from 0"),
        ({"share": 1.5}, "share must be from 0 to 1, not 1.5"),
        ({"share": 10**400}, "share is too large a number"),
        ({"share": float("inf")}, "share is too large a number"),
        ({"share": float("nan")}, "share is too large a number"),
        ({"ended": "yes"}, "ended must be true or false, not text"),
        ({"inner": [{"text": "x"}, {}]}, r"inner\[1\]\.text is missing"),
        ({"inner": {"text": "x"}}, "inner must be a list, not an object"),
        ({"tags": {"t": ["v", 1]}}, r"tags\.t\[1\] must be text, not a number"),
        ({"free": [1e999]}, "free holds a number that is too large"),
    ],
)
def test_what_is_wrong_with_a_record_is_named(change, said):
    with pytest.raises(Malformed, match=said):
        read_as(Outer, {"name": "n", "kind": "a", **change})


def test_any_json_has_a_depth():
    assert json_value([[1]], "x", 2) == [[1]]
    with pytest.raises(Malformed, match="x is nested more than 2 levels deep"):
        json_value([[[1]]], "x", 2)


def test_columns_of_numbers():
    found = column([0.5, None, 2], "p", Column(False, 0, 10))
    assert found.dtype == np.float64
    assert np.isnan(found[1])
    assert column([[1, 2], [3, -1]], "t", Column(True, -1, 9, 2)).shape == (2, 2)
    assert column([], "t", Column(True, -1, 9, 2)).shape == (0, 2)
    whole, number, pairs = Column(True, 0, 9), Column(False, 0, 9), Column(True, 0, 9, 2)
    for value, of, said in (
        (None, whole, "c is missing"),
        ("12", whole, "c must be a list, not text"),
        ([1, None], whole, r"c\[1\] must be a whole number, not null"),
        ([1, True], number, r"c\[1\] must be a number or null, not true or false"),
        ([1.5], whole, r"c\[0\] must be a whole number, not a number"),
        ([10], whole, r"c\[0\] must be from 0 to 9, not 10"),
        ([float("inf")], number, r"c\[0\] must be from 0 to 9, not inf"),
        ([10**400], whole, "too large"),
        ([10**400], number, "too large"),
        ([[1, 2], [3]], pairs, r"c\[1\] must be a list of 2 numbers"),
        ([[1, 2], [3, 99]], pairs, r"c\[1\]\[1\] must be from 0 to 9"),
    ):
        with pytest.raises(Malformed, match=said):
            column(value, "c", of)
