"""What is judged: each mode's places to fill in, as a form for a local judge and as a JSON schema
for an endpoint. Both give the same record.

general    five aspects, 1–5 or N/A, a reason for each          (JUST-EVAL's score_multi)
safety     one aspect, 1–5, with a reason                       (JUST-EVAL's score_safety)
pairwise   A, B or tie for six aspects, with one rationale      (URIAL's pairwise evaluation)
mt-bench   a rating of 1–10 a turn, with a reason               (MT-bench's single-answer grading)
tags       task and topic (yes or no for each), difficulty      (JUST-EVAL's tags)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from urial_local.runtime.forms import Choice, Field, Literal, Part, Text

GENERAL = ("helpfulness", "clarity", "factuality", "depth", "engagement")
ASPECTS = (*GENERAL, "safety")
NOT_APPLICABLE = "N/A"
FIVE = ("1", "2", "3", "4", "5")
TEN = (*FIVE, "6", "7", "8", "9", "10")
TASKS = ("info-seek", "reasoning", "procedure", "writing", "coding", "role-play", "math")
TOPICS = ("humanities", "lifestyle", "finance", "nature", "medical", "stem", "ethics")
DIFFICULTIES = ("easy", "medium", "hard")
REASON_TOKENS = 60  # longest reason of a local judge
MAX_REASON = 4000  # characters of an endpoint's

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a text stands in the record; `options` are its words, none for free text."""

    path: tuple[str, ...]
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Mode:
    """A kind of judgement. `scored`: whether its choices are numbers."""

    name: str
    places: tuple[Place, ...]
    scored: bool = True

    def form(self, reason_tokens: int = REASON_TOKENS) -> tuple[Part, ...]:
        """The record as a form (see runtime.forms): one JSON object with its places left out."""
        marks = [f"\x00{i}\x00" for i in range(len(self.places))]
        text = json.dumps(self._nested(marks)).replace("\\u0000", "\x00")
        parts: list[Part] = []
        for i, place in enumerate(self.places):
            fixed, text = text.split(marks[i], 1)
            name = ".".join(place.path)
            parts.append(Literal(fixed))
            parts.append(
                Choice(name, place.options) if place.options else Text(name, reason_tokens)
            )
        return (*parts, Literal(text))

    def record(self, fields: Sequence[Field]) -> Record:
        """The record of a form that was filled in."""
        return self._nested([field.text.strip() for field in fields])

    def expected(self, fields: Sequence[Field]) -> dict[str, float]:
        """Σ score · P(score) by aspect, over the numeric options at the place where the score
        stands: P is the judge's distribution over their tokens there, N/A left out.

        Empty for a mode that is not scored, and without an aspect whose options share a beginning
        (1 and 10), whose mass cannot be told apart at one position.
        """
        found = {}
        for place, field in zip(self.places, fields, strict=True):
            if place.options and self.scored and field.probabilities is not None:
                mass = {o: p for o, p in field.probabilities.items() if o != NOT_APPLICABLE}
                total = sum(mass.values())
                if total > 0:
                    found[place.path[0]] = sum(int(o) * p for o, p in mass.items()) / total
        return found

    def check(self, value: Any) -> Record:
        """The record in a JSON value that somebody else wrote, trimmed to its places. A number is
        taken for its text, and the case of a word does not matter.

        Raises ValueError that says what is missing or is not an option.
        """
        return self._nested([self._text(value, place) for place in self.places])

    def schema(self) -> dict[str, Any]:
        """JSON schema of the record, strict: all places, nothing else."""
        root: dict[str, Any] = {}
        for place in self.places:
            at = root
            for name in place.path[:-1]:
                at = at.setdefault(name, {})
            options = {"enum": list(place.options)} if place.options else {}
            at[place.path[-1]] = {"type": "string", **options}
        return _strict(root)

    def _text(self, value: Any, place: Place) -> str:
        name = ".".join(place.path)
        for key in place.path:
            if not isinstance(value, Mapping) or key not in value:
                raise ValueError(f"{name} is missing")
            value = value[key]
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        number = isinstance(value, int) and not isinstance(value, bool) and bool(place.options)
        if not isinstance(value, str) and not number:
            raise ValueError(f"{name} is not a text")
        text = str(value).strip()
        if not place.options:
            return text[:MAX_REASON].rstrip()
        for option in place.options:
            if option.lower() == text.lower():
                return option
        raise ValueError(f"{name} is {text[:40]!r}, which is not one of {', '.join(place.options)}")

    def _nested(self, texts: Sequence[str]) -> Record:
        root: Record = {}
        for place, text in zip(self.places, texts, strict=True):
            at = root
            for name in place.path[:-1]:
                at = at.setdefault(name, {})
            at[place.path[-1]] = text
        return root


def _strict(node: dict[str, Any]) -> dict[str, Any]:
    if node.get("type") == "string":
        return node
    return {
        "type": "object",
        "properties": {name: _strict(inner) for name, inner in node.items()},
        "required": list(node),
        "additionalProperties": False,
    }


def _aspects(names: Sequence[str], options: tuple[str, ...]) -> tuple[Place, ...]:
    return tuple(
        place for n in names for place in (Place((n, "reason")), Place((n, "score"), options))
    )


MODES = {
    mode.name: mode
    for mode in (
        Mode("general", _aspects(GENERAL, (*FIVE, NOT_APPLICABLE))),
        Mode("safety", _aspects(("safety",), FIVE)),
        Mode(
            "pairwise",
            (
                Place(("rationale",)),
                *(Place(("choices", aspect), ("A", "B", "tie")) for aspect in ASPECTS),
            ),
            scored=False,
        ),
        Mode("mt-bench", _aspects(("rating",), TEN)),
        Mode(
            "tags",
            (
                *(Place(("task", name), ("yes", "no")) for name in TASKS),
                *(Place(("topic", name), ("yes", "no")) for name in TOPICS),
                Place(("difficulty",), DIFFICULTIES),
            ),
            scored=False,
        ),
    )
}
