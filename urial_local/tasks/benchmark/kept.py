"""Probes as rows of a benchmark's own folder, so that its answers can be judged without the file
that the probes came from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from urial_local.records.runs import latest_rows
from urial_local.records.typed import Count, Malformed, read_as
from urial_local.tasks.benchmark.probes import Probe
from urial_local.tasks.benchmark.reading import RuleError, rule_of
from urial_local.tasks.benchmark.rules import Rule

KEY = ("id",)


@dataclasses.dataclass(frozen=True, slots=True)
class _Kept:
    id: str
    kind: str
    turns: tuple[str, ...]
    rule: Mapping[str, Any]
    max_tokens: Count
    half: Count = 0
    number: Count = 0  # of the probe among all, since shards are merged in any order


def row_of(probe: Probe, number: int) -> dict[str, Any]:
    """A probe as a row; its rule as a file of probes has it, with what is set alone."""
    rule = {
        field.name: _plain(value)
        for field in dataclasses.fields(Rule)
        if (value := getattr(probe.rule, field.name)) != field.default
    }
    return {
        "id": probe.id,
        "kind": probe.kind,
        "turns": list(probe.turns),
        "rule": rule,
        "max_tokens": probe.max_tokens,
        "half": probe.half,
        "number": number,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return list(value) if isinstance(value, tuple) else value


def read_probes(folder: Path) -> tuple[Probe, ...]:
    """The probes of a benchmark in their order. Raises RunError."""
    return tuple(probe for _, probe in sorted(latest_rows(folder, KEY, placed), key=_place))


def _place(placed: tuple[int, Probe]) -> int:
    return placed[0]


def placed(row: Mapping[str, Any]) -> tuple[int, Probe]:
    """A row's number and probe. Raises Malformed."""
    kept = read_as(_Kept, row)
    if not kept.turns:
        raise Malformed("turns must not be empty")
    try:
        rule = rule_of(dict(kept.rule))
    except RuleError as error:
        raise Malformed(f"rule is malformed: {error}") from None
    probe = Probe(kept.id, kept.kind, kept.turns, rule, kept.max_tokens, kept.half)
    return kept.number, probe
