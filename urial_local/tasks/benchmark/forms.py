"""Checks of an answer's form, on its eight loose variants; see benchmark/rules.py."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from urial_local.tasks.phrases import alternatives, folded, holds
from urial_local.tasks.prose import (
    bullets,
    code_blocks,
    is_blank,
    numbered,
    paragraphs,
    sentences,
    words,
)

if TYPE_CHECKING:
    from urial_local.tasks.benchmark.rules import Rule

MAX_JSON = 20_000  # characters of an object; a longer one is not looked at
MAX_JSON_DEPTH = 32
_COUNTS = {"bullets": bullets, "numbered": numbered}
_MARKS = " \t\n\"'“”‘’«»*_`()[]#>-"  # that may stand around what an answer begins or ends with


def form_fault(rule: Rule, answer: str) -> str:
    """What the form lacks: "" where it lacks nothing in one of the variants, else what it lacks in
    the answer as it is."""
    checks = rule.words or rule.json or rule.case or rule.begins or rule.ends or rule.without
    if not (checks or rule.bullets or rule.numbered or rule.sentences or rule.paragraphs):
        return ""
    first = ""
    for variant in variants(answer):
        why = _counts(rule, variant) or _edges(rule, variant) or _letters(rule, variant)
        if not why:
            return ""
        first = first or why
    return first


def variants(answer: str) -> Iterator[str]:
    """The answer, then without asterisks, last line, first line; such as say something."""
    lines = answer.strip().split("\n")
    for start, stop, stars in itertools.product((0, 1), (0, 1), (True, False)):
        text = "\n".join(lines[start : len(lines) - stop]).strip()
        text = text if stars else text.replace("*", "").strip()
        if not is_blank(text):
            yield text


def _counts(rule: Rule, text: str) -> str:
    for name, count in _COUNTS.items():
        wanted = getattr(rule, name)
        if wanted and (found := count(text)) != wanted:
            return f"{found} {'items with a number' if name == 'numbered' else name}, not {wanted}"
    if rule.sentences and (found := len(sentences(text))) != rule.sentences:
        return f"{found} sentences, not {rule.sentences}"
    if rule.paragraphs and (found := len(paragraphs(text))) != rule.paragraphs:
        return f"{found} paragraphs, not {rule.paragraphs}"
    if rule.words is not None:
        low, high = rule.words
        if not low <= (found := len(words(text))) <= high:
            return f"{found} words, not {low} to {high}"
    return _json_fault(rule.json, text) if rule.json else ""


def _edges(rule: Rule, text: str) -> str:
    if rule.begins and not _begins(text, rule.begins):
        return f"does not begin with {rule.begins!r}"
    if rule.ends and not _ends(text, rule.ends):
        return f"does not end with {rule.ends!r}"
    return ""


def _begins(text: str, phrase: str) -> bool:
    """A phrase and the character behind it, looked at like any text."""
    small = folded(text.strip(_MARKS))
    return any(
        holds(small[: len(part) + 3], part) and small.startswith(part)
        for part, _ in alternatives(phrase)
    )


def _ends(text: str, phrase: str) -> bool:
    small = folded(text.strip(_MARKS))
    for part, _ in alternatives(phrase):
        end = small if not part[-1].isalnum() else small.rstrip(_MARKS + ".,;:!?…。！？")
        if end.endswith(part) and holds(end[max(0, len(end) - len(part) - 3) :], part):
            return True
    return False


def _letters(rule: Rule, text: str) -> str:
    if rule.case:
        letters = [c for c in text if c.islower() or c.isupper()]
        other = str.islower if rule.case == "upper" else str.isupper
        if not letters or any(map(other, letters)):
            return "not all capitals" if rule.case == "upper" else "not all in lower case"
    for character in rule.without:
        if character in text:
            return f"holds {character!r}"
    return ""


def _json_fault(keys: tuple[str, ...], text: str) -> str:
    """An object in a block of code, or from the first `{` to the last `}`."""
    places = [code for _, code in code_blocks(text)] or [text]
    why = "no JSON object"
    for place in places:
        value = parsed_json(place[place.find("{") : place.rfind("}") + 1])
        if isinstance(value, dict):
            missing = [key for key in keys if key not in value]
            if not missing:
                return ""
            why = f"the JSON object has no {missing[0]!r}"
    return why


def parsed_json(text: str) -> Any:
    """The value of a text; None where it is none, too long or too deep."""
    if len(text) > MAX_JSON or _depth(text) > MAX_JSON_DEPTH:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # also for a number of thousands of digits
        return None


def _depth(text: str) -> int:
    """How deep brackets go; those in strings count, which errs on the safe side."""
    depth = deepest = 0
    for character in text:
        if character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest
