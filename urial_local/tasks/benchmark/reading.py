"""Rules as they stand in a file of probes, which anybody may have written.

`rule = { any = ["Canberra"], sentences = 1 }`: the names and meanings of benchmark/rules.py. A
phrase alone may stand for a list of one. There are no regular expressions. `rule = {}` asks that
the answer says something and does not decline.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

from urial_local.tasks.benchmark.code import LANGUAGES
from urial_local.tasks.benchmark.rules import Rule
from urial_local.tasks.languages import known_languages
from urial_local.tasks.phrases import alternatives

MAX_PHRASES = 100  # of a list
MAX_PHRASE = 300  # characters
MAX_COUNT = 10_000
_LISTS = ("any", "all", "never", "some")
_COUNTS = ("least", "steps", "bullets", "numbered", "sentences", "paragraphs")
_FLAGS = ("refuses", "unknown", "no_loop")
_TEXTS = ("begins", "ends", "without", "defines")
_ONE_OF = {"code": tuple(LANGUAGES), "case": ("upper", "lower"), "language": known_languages()}
_KNOWN = (*_LISTS, *_COUNTS, *_FLAGS, *_TEXTS, *_ONE_OF, "number", "words", "json")


class RuleError(ValueError):
    """What is wrong with a rule, or with its probe; whoever reads the file says which."""


def rule_of(table: Any) -> Rule:
    """The rule of a table. Raises RuleError."""
    if not isinstance(table, dict):
        raise RuleError("`rule` must be a table of checks")
    values = {key: _value(key, value) for key, value in table.items()}
    rule = Rule(**values)
    if rule.defines and not rule.code:
        raise RuleError("`defines` needs `code`")
    if "least" in table and not 1 <= rule.least <= len(rule.some):
        raise RuleError("`least` must be from 1 to the number of phrases in `some`")
    if rule.refuses and rule.unknown:
        raise RuleError("`refuses` and `unknown` exclude each other")
    return rule


def _value(key: str, value: Any) -> Any:
    if key in _LISTS or key == "json":
        return _phrases(key, value)
    if key in _COUNTS:
        return _count(key, value)
    if key in _FLAGS:
        if not isinstance(value, bool):
            raise RuleError(f"`{key}` must be true or false")
        return value
    if key in _TEXTS:
        return _text(key, value)
    if key in _ONE_OF:
        if value not in _ONE_OF[key]:
            raise RuleError(f"`{key}` must be one of {', '.join(_ONE_OF[key])}")
        return value
    if key == "number":
        return _number(value)
    if key == "words":
        return _range(value)
    raise RuleError(f"there is no check {key[:80]!r} (known: {', '.join(sorted(_KNOWN))})")


def _phrases(key: str, value: Any) -> tuple[str, ...]:
    phrases = [value] if isinstance(value, str) else value
    if not isinstance(phrases, list) or not 1 <= len(phrases) <= MAX_PHRASES:
        raise RuleError(f"`{key}` must be a list of 1 to {MAX_PHRASES} texts")
    return tuple(_text(key, phrase) for phrase in phrases)


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_PHRASE:
        raise RuleError(f"`{key}` must be a text of 1 to {MAX_PHRASE} characters")
    if key in (*_LISTS, "begins", "ends") and not alternatives(value):
        raise RuleError(f"in `{key}`, nothing is left of {value!r} to look for")
    if key == "defines" and not value.isidentifier():
        raise RuleError("`defines` must be a name")
    return value


def _count(key: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_COUNT:
        raise RuleError(f"`{key}` must be a whole number from 1 to {MAX_COUNT}")
    return value


def _number(value: Any) -> Decimal:
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = Decimal(str(value))
        except (InvalidOperation, ValueError):
            number = Decimal("NaN")
        if number.is_finite() and abs(number) < Decimal(10) ** 15:
            return number
    raise RuleError("`number` must be a number with at most 15 digits")


def _range(value: Any) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2:
        raise RuleError("`words` must be two numbers, the least and the most")
    low, high = (_count("words", part) for part in value)
    if low > high:
        raise RuleError("`words` must be two numbers, the least first")
    return low, high
