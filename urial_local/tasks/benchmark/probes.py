"""Probes: questions with a rule that tells a right answer from a wrong one.

The shipped ones lie in `templates/probes`, one file a kind; a user's own may lie anywhere. A file
has `kind`, `description`, `max_tokens` (of an answer, 1 … MAX_TOKENS), and `[[probes]]` with

    id          unique among all that are read together
    query       or `turns`, a list of what the user says one after the other
    max_tokens  where it is not the file's
    rule        an inline table of checks that must all hold; `benchmark/reading.py` lists them

Of a dialogue, the rule looks at the last answer.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from urial_local.base.errors import UsageError, near
from urial_local.base.paths import shipped
from urial_local.base.texts import read_text
from urial_local.prompting.toml import TOMLError, parse_toml
from urial_local.tasks.benchmark.reading import RuleError, rule_of
from urial_local.tasks.benchmark.rules import RULES_VERSION, Rule
from urial_local.tasks.phrases import phrase_text

MAX_BYTES = 2 << 20
MAX_PROBES = 5000
MAX_TURNS = 8
MAX_TOKENS = 4096
_KEYS = {"kind", "description", "max_tokens", "probes"}
_PROBE_KEYS = {"id", "query", "turns", "max_tokens", "rule"}
_NAME = re.compile(r"[\w.:-]{1,80}")


@dataclass(frozen=True, slots=True)
class Probe:
    """A question, or a dialogue, with what its last answer has to fulfil.

    `half` is 0 or 1, alternating within a kind: one half to choose a prompt by, the other to say
    what the chosen one is worth.
    """

    id: str
    kind: str
    turns: tuple[str, ...]
    rule: Rule
    max_tokens: int
    half: int


def load_probes(path: Path | None = None, kinds: Collection[str] = ()) -> tuple[Probe, ...]:
    """The shipped probes, by file name and in the order of each file, or those of a file.

    `kinds` leaves out all others, halves as they are. Raises UsageError, which names the probe and
    says what is wrong with it, and for a kind that there is not.
    """
    found: list[Probe] = []
    for file in [path] if path else _shipped():
        found += _read(file)
    _once([probe.id for probe in found], "id", path)
    known = sorted({probe.kind for probe in found})
    for kind in kinds:
        if kind not in known:
            raise UsageError(f"There are no probes of the kind {kind[:80]!r}.", near(kind, known))
    return tuple(probe for probe in found if not kinds or probe.kind in kinds)


def probe_kinds(path: Path | None = None) -> dict[str, str]:
    """The kinds and what their files say of them."""
    tables = [_table(file) for file in ([path] if path else _shipped())]
    return {str(table["kind"]): str(table.get("description", "")) for table in tables}


def digest(probes: Collection[Probe]) -> str:
    """16 hexadecimal digits over all that decides a run and its verdicts: the probes, the shipped
    lists of phrases, and the version of the rules. The order of the probes is part of it."""
    lists = {name: phrase_text(name) for name in ("function_words", "refusals", "unknown")}
    content = [RULES_VERSION, lists, [dataclasses.asdict(probe) for probe in probes]]
    text = json.dumps(content, ensure_ascii=True, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _shipped() -> list[Path]:
    return sorted((shipped("templates") / "probes").glob("*.toml"))


def _table(path: Path) -> dict[str, Any]:
    """A file's table, its top level looked at. Raises UsageError."""
    text = read_text(path, "The probes", MAX_BYTES, error=UsageError)
    try:
        table = parse_toml(text)
    except TOMLError as error:
        raise UsageError(f"The probes {path} are not TOML: {str(error).rstrip('.')}.") from None
    wrong = ""
    if unknown := sorted(set(table) - _KEYS):
        wrong = f"{unknown[0][:80]!r} is not a known key (known: {', '.join(sorted(_KEYS))})"
    elif not _is_name(table.get("kind")):
        wrong = "`kind` must be a short name of letters and digits"
    elif not isinstance(table.get("description", ""), str):
        wrong = "`description` must be a text"
    elif "max_tokens" in table and not _is_count(table["max_tokens"]):
        wrong = f"`max_tokens` must be a whole number from 1 to {MAX_TOKENS}"
    elif not isinstance(table.get("probes"), list) or not table["probes"]:
        wrong = "there must be [[probes]]"
    elif len(table["probes"]) > MAX_PROBES:
        wrong = f"there are more than {MAX_PROBES} probes"
    if wrong:
        raise UsageError(f"The probes {path} are malformed: {wrong}.")
    return table


def _read(path: Path) -> list[Probe]:
    table = _table(path)
    found = []
    for number, entry in enumerate(table["probes"]):
        try:
            found.append(_probe(entry, table, number))
        except RuleError as error:
            name = entry.get("id") if isinstance(entry, dict) else None
            which = repr(name[:80]) if isinstance(name, str) else f"number {number + 1}"
            raise UsageError(f"In {path}, the probe {which} is malformed: {error}.") from None
    _once(["\n".join(probe.turns) for probe in found], "question", path)
    return found


def _probe(entry: Any, table: dict[str, Any], number: int) -> Probe:
    """Raises RuleError that says what is wrong with it."""
    if not isinstance(entry, dict):
        raise RuleError("it must be a [[probes]] table")
    if unknown := sorted(set(entry) - _PROBE_KEYS):
        known = ", ".join(sorted(_PROBE_KEYS))
        raise RuleError(f"{unknown[0][:80]!r} is not a known key (known: {known})")
    if not _is_name(entry.get("id")):
        raise RuleError("`id` must be a short name of letters, digits, `-`, `_`, `.` and `:`")
    if "rule" not in entry:
        raise RuleError("it has no `rule`")
    tokens = entry.get("max_tokens", table.get("max_tokens"))
    if not isinstance(tokens, int) or not _is_count(tokens):
        raise RuleError(f"`max_tokens`, its own or its file's, must be from 1 to {MAX_TOKENS}")
    turns = _turns(entry)
    return Probe(entry["id"], table["kind"], turns, rule_of(entry["rule"]), tokens, number % 2)


def _turns(entry: dict[str, Any]) -> tuple[str, ...]:
    if ("query" in entry) == ("turns" in entry):
        raise RuleError("it must have either `query` or `turns`")
    turns = [entry["query"]] if "query" in entry else entry["turns"]
    if not isinstance(turns, list) or not 1 <= len(turns) <= MAX_TURNS:
        raise RuleError(f"`turns` must be a list of 1 to {MAX_TURNS} texts")
    if not all(isinstance(turn, str) and turn.strip() for turn in turns):
        raise RuleError("`query` and `turns` must be texts, and not empty")
    return tuple(turns)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_TOKENS


def _once(values: list[str], what: str, path: Path | None) -> None:
    twice = [value for value, n in Counter(values).items() if n > 1]
    if twice:
        where = f"In {path}" if path else "Among the shipped probes"
        raise UsageError(f"{where}, two probes have the {what} {twice[0][:80]!r}.")
