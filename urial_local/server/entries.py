"""What is told of each token, and where it stands in the text. Ids decide; texts are to be read."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from urial_local.runtime.prompt_scores import Scored
from urial_local.runtime.rows import Step

FLOOR = -9999.0  # nats; what has no probability at all is written so, since JSON has no infinity


class Names(Protocol):
    """What this needs of a vocabulary."""

    def piece(self, token: int) -> bytes: ...
    def text(self, token: int) -> str: ...
    def is_end(self, token: int) -> bool: ...


@dataclass(frozen=True, slots=True)
class Entry:
    """A token of a text. `logprob` is None for a prompt's first, and for a word of a guide."""

    token: int
    offset: int  # characters of the text before it
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()
    rank: int = 0
    entropy: float | None = None
    base_top: float | None = None  # the model's own top-1 probability, where the guide wrote it

    @staticmethod
    def chosen(step: Step, i: int, offset: int) -> Entry:
        """The i-th token of a step."""
        token, logprob = step.tokens[i], step.logprobs[i]
        guided = step.guidance
        base_top = None
        if guided is not None and i in guided.at:
            base_top = guided.base_top[guided.at.index(i)]
        if i >= len(step.top):
            return Entry(token, offset, logprob, base_top=base_top)
        top = step.top[i]
        pairs = tuple(zip(top.ids, top.logprobs, strict=True))
        return Entry(token, offset, logprob, pairs, top.rank, top.entropy, base_top)

    @staticmethod
    def given(token: int, offset: int, scored: Scored | None) -> Entry:
        if scored is None:
            return Entry(token, offset)
        pairs = tuple(zip(scored.ids, scored.logprobs, strict=True))
        return Entry(token, offset, scored.logprob, pairs, scored.rank)


def moved(entry: Entry, by: int) -> Entry:
    """The same so many characters further on; not before the text."""
    return replace(entry, offset=max(0, entry.offset + by))


class Offsets:
    """Counts the characters of a text whose bytes come as tokens."""

    def __init__(self, piece: Callable[[int], bytes]) -> None:
        self._piece = piece
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.at = 0
        self.texts: list[str] = []

    def end(self) -> None:
        """No more tokens: bytes that never became a character stand as U+FFFD."""
        self.texts.append(self._decoder.decode(b"", final=True))

    def take(self, token: int) -> int:
        """Where this token begins: the characters that were whole before it."""
        start = self.at
        text = self._decoder.decode(self._piece(token))
        self.at += len(text)
        self.texts.append(text)
        return start

    @property
    def text(self) -> str:
        return "".join(self.texts)


def laid_out(names: Names, tokens: Iterable[int], given: str | None) -> tuple[str, list[int]]:
    """A prompt's text and where each token begins in it. A blank that the tokeniser put before a
    given text is left out."""
    offsets = Offsets(names.piece)
    starts = [offsets.take(token) for token in tokens]
    offsets.end()
    text = offsets.text
    if given is not None and text == f" {given}":
        return given, [max(0, start - 1) for start in starts]
    return text, starts


def token_text(names: Names, token: int) -> str:
    """As OpenAI writes tokens: the text, the name of a control token, or bytes that are no text."""
    piece = names.piece(token)
    if not piece:
        return names.text(token)
    try:
        return piece.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)


def finite(logprob: float | None) -> float | None:
    return None if logprob is None else max(FLOOR, logprob)


def legacy(names: Names, entries: Sequence[Entry], most: int, as_ids: bool) -> dict[str, Any]:
    """The `logprobs` of /v1/completions. A top dictionary holds the token itself, too; of two ids
    with one text the more probable one's number."""

    def name(token: int) -> str:
        return f"token_id:{token}" if as_ids else token_text(names, token)

    tops: list[dict[str, float] | None] = []
    for entry in entries:
        if entry.logprob is None:
            tops.append(None)
            continue
        top: dict[str, float] = {}
        for token, logprob in (*entry.top[:most], (entry.token, entry.logprob)):
            key = name(token)
            top[key] = max(top.get(key, FLOOR), logprob)
        tops.append(top)
    return {
        "tokens": [name(entry.token) for entry in entries],
        "token_logprobs": [finite(entry.logprob) for entry in entries],
        "top_logprobs": tops,
        "text_offset": [entry.offset for entry in entries],
        "bytes": [list(names.piece(entry.token)) for entry in entries],
        "token_ids": [entry.token for entry in entries],
    }


def content(names: Names, entries: Sequence[Entry], most: int) -> dict[str, Any]:
    """The `logprobs` of /v1/chat/completions."""

    def one(token: int, logprob: float | None) -> dict[str, Any]:
        return {
            "token": token_text(names, token),
            "logprob": finite(logprob),
            "bytes": list(names.piece(token)),
        }

    return {
        "content": [
            {
                **one(entry.token, entry.logprob),
                "top_logprobs": [one(*pair) for pair in entry.top[:most]],
            }
            for entry in entries
        ],
        "refusal": None,
    }


def details(names: Names, entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Our own data of each token, for the chat page."""
    return [
        {
            "id": entry.token,
            "text": token_text(names, entry.token),
            "bytes": list(names.piece(entry.token)),
            "logprob": finite(entry.logprob),
            "rank": entry.rank or None,
            "entropy": entry.entropy,
            "base_top": entry.base_top,
            "top": [likely(names, token, logprob) for token, logprob in entry.top],
        }
        for entry in entries
    ]


def likely(names: Names, token: int, logprob: float) -> dict[str, Any]:
    """A token that was likely at some place, and whether it would have ended the answer there."""
    return {
        "id": token,
        "text": token_text(names, token),
        "logprob": finite(logprob),
        "ends": names.is_end(token),
    }
