"""What the fields of a row say: questions of a dialogue, texts, replies, tags."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from urial_local.records.ids import shown

TAG_FIELDS = ("category", "task", "topic", "difficulty", "dataset", "source")
DIALOGUES = ("conversations", "messages")
BY_COLUMNS = "a table stored by columns must be written by rows"
USERS = ("user", "human")


def turns_of(name: str, value: Any) -> tuple[str, ...]:
    """The user's questions in a field: one text, MT-bench's list of turns, or the first question
    of a conversation, whose later ones follow answers that are not ours.

    Raises ValueError, to follow the row's name, for a list of which only a part would be asked.
    """
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not value:
        return ()
    if isinstance(value[0], Mapping):
        return _first_question(value)
    texts = tuple(v for v in value if isinstance(v, str))
    if name == "turns":
        return texts
    if len(value) > 1 and name not in DIALOGUES:
        raise ValueError(f"has a list of {len(value)} in {name}, not one text; {BY_COLUMNS}")
    return texts[:1]


def _first_question(messages: Sequence[Any]) -> tuple[str, ...]:
    for message in messages:
        if isinstance(message, Mapping) and _role(message) in USERS:
            parts = message.get("content")
            if isinstance(parts, list) and len(parts) > 1:
                raise ValueError(f"has a message of {len(parts)} parts, of which one is a question")
            said = first_text(message)
            return (said,) if said else ()
    return ()


def _role(message: Mapping[str, Any]) -> str:
    return str(message.get("role", message.get("from", "user")))


def says_more(value: list[Any]) -> bool:
    """Whether a conversation has a system text or a second question, which are not asked."""
    roles = [_role(m) for m in value if isinstance(m, Mapping)]
    return "system" in roles or sum(role in USERS for role in roles) > 1


def is_alpaca_input(row: Mapping[str, Any]) -> bool:
    """Whether `input` is Alpaca's second part of an instruction, rather than a copy of it."""
    instruction, extra = row.get("instruction"), row.get("input")
    return (
        isinstance(instruction, str)
        and isinstance(extra, str)
        and bool(extra.strip())
        and "generator" not in row
        and extra.strip() != instruction.strip()
    )


def reply_of(value: Any) -> str | None:
    """The answer to the first question of a conversation."""
    return first_text(value[1]) if isinstance(value, list) and len(value) > 1 else None


def first_text(value: Any) -> str | None:
    """The text of a field: itself, its first entry, or a message's content."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value:
        return first_text(value[0])
    if isinstance(value, Mapping):
        for key in ("content", "value", "turns", "text"):
            if key in value:
                return first_text(value[key])
    return None


def tags_of(row: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    inner = row.get("tags")
    found: dict[str, tuple[str, ...]] = {}
    sources: Iterable[Mapping[str, Any]] = (row, inner) if isinstance(inner, Mapping) else (row,)
    for source in sources:
        for name in TAG_FIELDS:
            value = source.get(name)
            if value is None:
                continue
            values = value if isinstance(value, list) else [value]
            kept = (v for v in values if isinstance(v, str | int | float | bool))
            texts = tuple(shown(v) for v in kept if v != "" and not isinstance(v, bool))
            if texts:
                found[name] = texts
    return found
