"""Fields of a JSON body, one at a time: each is of its type and within its bounds, or the error
names it. A null is a field that is not there."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from urial_local.server.errors import wrong

MAX_STOPS, MAX_STOP_BYTES = 16, 256


def decoded(body: bytes) -> Fields:
    """Raises ApiError for what is not a JSON object; NaN and the like are no JSON."""

    def refuse(name: str) -> float:
        raise ValueError(f"{name} is not JSON")

    try:
        found = json.loads(body, parse_constant=refuse)
    except (ValueError, RecursionError):
        raise wrong("The body is not valid JSON.") from None
    if not isinstance(found, dict):
        raise wrong("The body must be a JSON object.")
    return Fields(found)


@dataclass(frozen=True, slots=True)
class Fields:
    """An object's fields. `at` stands before their names in errors."""

    all: Mapping[str, Any]
    at: str = ""

    def get(self, name: str) -> Any:
        return self.all.get(name)

    def has(self, name: str) -> bool:
        return self.all.get(name) is not None

    def name(self, name: str) -> str:
        return f"{self.at}{name}"

    def flag(self, name: str) -> bool:
        value = self.get(name)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise wrong(f"{self.name(name)} must be true or false.", self.name(name))
        return value

    def text(self, name: str, default: str = "") -> str:
        value = self.get(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise wrong(f"{self.name(name)} must be a text.", self.name(name))
        return value

    def whole(self, name: str, least: int, most: int, default: int) -> int:
        value = self.get(name)
        if value is None:
            return default
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # JavaScript knows no other numbers
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise wrong(
                f"{self.name(name)} must be a whole number from {least:,} to {most:,}.",
                self.name(name),
            )
        return value

    def number(self, name: str, least: float, most: float) -> float | None:
        value = self.get(name)
        if value is None:
            return None
        if (
            not isinstance(value, int | float)
            or isinstance(value, bool)
            or not math.isfinite(value)
            or not least <= value <= most
        ):
            raise wrong(
                f"{self.name(name)} must be a number from {least:g} to {most:g}.", self.name(name)
            )
        return float(value)

    def inner(self, name: str) -> Fields:
        """An object in the object; an empty one where it is not there."""
        value = self.get(name)
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise wrong(f"{self.name(name)} must be an object.", self.name(name))
        return Fields(value, f"{self.name(name)}.")

    def items(self, name: str, most: int) -> list[Any]:
        value = self.get(name)
        if value is None:
            return []
        if not isinstance(value, list) or len(value) > most:
            raise wrong(
                f"{self.name(name)} must be a list of at most {most:,} items.", self.name(name)
            )
        return value

    def ids(self, name: str, most: int, size: int | None = None) -> list[int]:
        """Token ids. `size`: of the vocabulary, where it is known."""
        return token_ids(self.items(name, most), self.name(name), size)

    def stops(self) -> tuple[str, ...]:
        value = self.get("stop")
        given = [value] if isinstance(value, str) else self.items("stop", MAX_STOPS)
        for stop in given:
            if not isinstance(stop, str) or len(stop.encode("utf-8", "replace")) > MAX_STOP_BYTES:
                raise wrong(f"stop must be texts of at most {MAX_STOP_BYTES} bytes each.", "stop")
        # Some clients send the text of an end token that a vocabulary lacks: nothing at all.
        return tuple(stop for stop in given if stop)


def token_ids(value: list[Any], name: str, size: int | None = None) -> list[int]:
    for token in value:
        if not isinstance(token, int) or isinstance(token, bool) or token < 0:
            raise wrong(f"{name} must hold token ids, whole numbers from 0.", name)
        if size is not None and token >= size:
            raise wrong(f"{name} holds the id {token}; this vocabulary has {size:,}.", name)
    return value
