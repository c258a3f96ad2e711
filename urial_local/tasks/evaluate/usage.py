"""What an endpoint's reply cost in tokens: as it says, where that can be true, else an estimate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# Tokens, besides one a byte, that a template around the texts or a hidden reasoning may take.
UNSEEN = 100_000


def estimate_tokens(text: str) -> int:
    """About how many tokens a text has, at four bytes of UTF-8 a token: an estimate, since only
    the endpoint knows its tokenizer."""
    return -(-_bytes(text) // 4)


def tokens_spent(asked: Sequence[str], reply: str, usage: Any) -> dict[str, int]:
    """prompt_tokens, completion_tokens and cached_tokens of one reply to the texts asked, from the
    `usage` that came with it. No text has more tokens than bytes, so a larger number, or one below
    zero, is not believed."""
    prompt = _said(usage, "prompt_tokens", sum(map(_bytes, asked)) + UNSEEN)
    completion = _said(usage, "completion_tokens", _bytes(reply) + UNSEEN)
    read = sum(map(estimate_tokens, asked)) if prompt is None else prompt
    details = usage.get("prompt_tokens_details") if isinstance(usage, Mapping) else None
    return {
        "prompt_tokens": read,
        "completion_tokens": estimate_tokens(reply) if completion is None else completion,
        "cached_tokens": _said(details, "cached_tokens", read) or 0,
    }


def _said(usage: Any, name: str, most: int) -> int | None:
    found = usage.get(name) if isinstance(usage, Mapping) else None
    if not isinstance(found, int) or isinstance(found, bool):
        return None
    return found if 0 <= found <= most else None


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "replace"))
