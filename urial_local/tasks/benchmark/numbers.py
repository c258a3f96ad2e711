"""The last number of an answer, which is where a worked sum arrives.

A number is a run of digits with, inside of it, points, commas, apostrophes or hard blanks:

* commas, apostrophes and hard blanks before groups of three digits separate thousands, and so do
  points where there are several of them ("12,500", "1.200.000");
* otherwise the last point or comma, where it is the only one of its kind, is the decimal one
  ("2.50", "1,234.5", "1.234,5", "3,5");
* anything else is a list, a date or a version, of which the last part is taken ("1,2,3").

"-" or "−" right before it, or before its "$", "€" or "£", is its sign, unless a letter, digit or
closing bracket stands before that ("10-3"). Digits right after a letter belong to a word ("H2O"),
units and "%" after it change nothing, and a number at the start of an item of a list is none. Where
there is no other: the last number in words from zero to ninety-nine, "one" apart ("another one"),
then the last item's number. So a sentence that closes with an offer changes nothing. Limits: an
answer that goes on with other numbers is taken at its last one; fractions ("3/4") are two numbers.
"""

from __future__ import annotations

import re
from decimal import Decimal

_DIGITS = re.compile(r"[0-9]++(?:[.,'’\u00a0\u2009\u202f][0-9]++)*+")
_WORDS = re.compile(r"[a-z]++")
_MAX_DIGITS = 40  # of a number; more is none
_VALUES = dict(
    **{"zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7},
    **{"eight": 8, "nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13},
    **{"fourteen": 14, "fifteen": 15, "sixteen": 16, "seventeen": 17, "eighteen": 18},
    **{"nineteen": 19, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60},
    **{"seventy": 70, "eighty": 80, "ninety": 90},
)


def last_number(text: str) -> Decimal | None:
    """The last number; see the module's text. None where there is none."""
    value = item = None
    for found in _DIGITS.finditer(text):
        start, end = found.span()
        if end - start > _MAX_DIGITS or text[start - 1 : start].isalpha():
            continue
        if _is_item(text, start, end):
            item = Decimal(found.group())
            continue
        value = _value(found.group())
        value = -value if _is_negative(text, start) else value
    if value is None:
        value = _in_words(text)
    return item if value is None else value


def _is_item(text: str, start: int, end: int) -> bool:
    """Whether this number stands at a line's start, with a mark, a blank and text behind it."""
    if end - start > 3 or text[end : end + 1] not in (".", ")") or not text[start:end].isdigit():
        return False
    before = start
    while before and text[before - 1] in " \t*" and start - before < 20:
        before -= 1
    after = text[end + 1 : end + 3]
    return text[before - 1 : before] in ("", "\n") and after[:1] in (" ", "\t") and bool(after[1:])


def _value(digits: str) -> Decimal:
    digits = re.sub("[’\u00a0\u2009\u202f]", "'", digits)
    groups = re.split("[.,']", digits)
    marks = [c for c in digits if not c.isdigit()]
    if not marks:
        return Decimal(digits)
    last = marks[-1]
    decimal = last != "'" and marks.count(last) == 1
    if decimal and last == "," and len(marks) == 1 and _in_threes(groups):
        decimal = False
    whole = groups[:-1] if decimal else groups
    same = len(set(marks[:-1] if decimal else marks)) <= 1
    if not same or not _in_threes(whole):
        return Decimal(groups[-1])
    return Decimal("".join(whole) + (f".{groups[-1]}" if decimal else ""))


def _in_threes(groups: list[str]) -> bool:
    rest = all(len(group) == 3 for group in groups[1:])
    return rest and (len(groups) == 1 or 1 <= len(groups[0]) <= 3)


def _is_negative(text: str, start: int) -> bool:
    if text[start - 1 : start] in ("$", "€", "£"):
        start -= 1
    if start < 1 or text[start - 1] not in "-−":
        return False
    before = text[start - 2] if start > 1 else " "
    return not (before.isalnum() or before in ")]-−")


def _in_words(text: str) -> Decimal | None:
    value: int | None = None
    ten_ends = -1  # where a number such as "forty" ended, to which "-two" may belong
    for found in _WORDS.finditer(text.lower()):
        n = _VALUES.get(found.group())
        if n is None:
            continue
        joined = 0 <= found.start() - ten_ends <= 1 and value is not None and 0 < n < 10
        if joined and value is not None:
            value += n
        elif n != 1:
            value = n
        ten_ends = found.end() if n >= 20 else -1
    return None if value is None else Decimal(value)


def shown(number: Decimal | None) -> str:
    """A number in an explanation, without zeros at the end of its decimals."""
    if number is None:
        return "none"
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
