"""Conversations as JSON: earlier turns to render, and what `chat` saves and loads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from urial_local.base.errors import PromptError
from urial_local.base.files import open_regular
from urial_local.base.texts import read_text
from urial_local.prompting.prompts import Turn

MAX_HISTORY_BYTES = 16 << 20  # some four million tokens; as objects up to 25 times as much
_EXPECTED = (
    'Expected a list of texts (query, answer, query, …), a list of {"role", "content"} messages, or'
    " a conversation that `/save` wrote."
)


def read_history(path: Path) -> list[Turn]:
    """The turns of a conversation file. Raises PromptError when it has none of the known forms."""
    text = read_text(path, "The conversation", MAX_HISTORY_BYTES)
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise PromptError(f"{path} is not JSON.", _EXPECTED) from None
    return turns_of(data, str(path))


def turns_of(data: Any, name: str) -> list[Turn]:
    """Turns from decoded JSON, in any of the known forms."""
    if isinstance(data, dict):
        data = data.get("turns", data.get("messages"))
    if not isinstance(data, list):
        raise PromptError(f"{name} does not hold a conversation.", _EXPECTED)
    texts: list[str] = []
    for item in data:
        if isinstance(item, str):
            texts.append(item)
        elif isinstance(item, dict) and "query" in item:
            texts += [item["query"], item.get("answer", "")]
        elif isinstance(item, dict) and item.get("role") == (
            "assistant" if len(texts) % 2 else "user"
        ):
            texts.append(item.get("content", ""))
        else:
            raise PromptError(f"{name}: item {len(texts) + 1} is not the expected turn.", _EXPECTED)
    if len(texts) % 2 or not all(isinstance(t, str) and _is_unicode(t) for t in texts):
        raise PromptError(
            f"{name}: the last query has no answer, or a turn is not a text.", _EXPECTED
        )
    return [Turn(q, a) for q, a in zip(texts[::2], texts[1::2], strict=True)]


def _is_unicode(text: str) -> bool:
    """JSON can hold halves of characters (lone surrogates), which no model can be given."""
    return not any("\ud800" <= c <= "\udfff" for c in text)


def history_json(turns: Sequence[Turn], **about: str) -> str:
    """A conversation as `/save` writes it; `about` says with what it was held."""
    data = {"version": 1, **about, "turns": [{"query": t.query, "answer": t.answer} for t in turns]}
    return json.dumps(data, ensure_ascii=False, indent=2) + "\n"


def was_saved(path: Path) -> bool:
    """Whether `/save` wrote this file, so that it may write it again; or it is empty."""
    try:
        with open_regular(path) as file:
            text = file.read(MAX_HISTORY_BYTES + 1)
        if not text:
            return True
        data = json.loads(text) if len(text) <= MAX_HISTORY_BYTES else None
        saved = isinstance(data, dict) and {"version", "model", "prompt", "turns"} <= set(data)
        return saved and turns_of(data, str(path)) is not None
    except (OSError, ValueError, RecursionError, PromptError):
        return False
