"""OpenAI's shapes of answers, whole and in chunks. What they have no field for is in `urial`."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from urial_local.runtime.rows import Completion
from urial_local.server.choices import Piece
from urial_local.server.entries import Entry, Names, content, details, legacy
from urial_local.server.metrics import written

Kind = Literal["chat", "text"]
# The openai client knows stop, length and content_filter only; the rest stands in `urial`.
FINISH = {"length": "length", "context": "length"}


def finish_reason(done: Completion) -> str:
    return FINISH.get(done.finish_reason, "stop")


@dataclass
class Usage:
    """Tokens of a request: each prompt counts once, however many answers it has."""

    prompt: int = 0
    cached: int = 0
    written: int = 0
    _seen: set[int] = field(default_factory=set)

    def take(self, prompt_number: int, done: Completion) -> None:
        self.written += written(done)
        if prompt_number not in self._seen:
            self._seen.add(prompt_number)
            self.prompt += done.prompt_tokens
            self.cached += done.cached_tokens

    def as_dict(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.written,
            "total_tokens": self.prompt + self.written,
            "prompt_tokens_details": {"cached_tokens": self.cached},
        }


@dataclass(frozen=True)
class Shape:
    """How the answers to one request look. `logprobs`: how many of the most probable tokens, or
    None for no log-probabilities; `tokens`: our own data of each token."""

    kind: Kind
    model: str
    names: Names
    logprobs: int | None
    tokens: bool
    as_ids: bool = False
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    created: int = field(default_factory=lambda: int(time.time()))

    def first(self, choices: Iterable[int]) -> list[dict[str, Any]]:
        """Chunks before any text: in a chat, whose turn it is."""
        if self.kind == "text":
            return []
        delta = {"role": "assistant", "content": ""}
        return [self._chunk([{"index": i, "delta": delta, "finish_reason": None}]) for i in choices]

    def chunk(self, piece: Piece) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": piece.choice}
        if self.kind == "chat":
            choice["delta"] = {"content": piece.text} if piece.text else {}
        else:
            choice["text"] = piece.text
        choice |= self._told(piece.entries)
        choice["finish_reason"] = finish_reason(piece.done) if piece.done else None
        if own := self._own(piece.entries, piece.done):
            choice["urial"] = own
        return self._chunk([choice])

    def usage_chunk(self, usage: Usage) -> dict[str, Any]:
        return {**self._chunk([]), "usage": usage.as_dict()}

    def whole(self, pieces: Sequence[Piece], usage: Usage) -> dict[str, Any]:
        """All pieces of all answers as one reply."""
        choices: dict[int, list[Piece]] = {}
        for piece in pieces:
            choices.setdefault(piece.choice, []).append(piece)
        return {
            **self._head(""),
            "choices": [self._choice(number, choices[number]) for number in sorted(choices)],
            "usage": usage.as_dict(),
        }

    def _choice(self, number: int, pieces: Sequence[Piece]) -> dict[str, Any]:
        text = "".join(piece.text for piece in pieces)
        entries = [entry for piece in pieces for entry in piece.entries]
        done = pieces[-1].done
        assert done is not None
        choice: dict[str, Any] = {"index": number}
        if self.kind == "chat":
            choice["message"] = {"role": "assistant", "content": text, "refusal": None}
        else:
            choice["text"] = text
        choice |= self._told(entries)
        return {
            **choice,
            "finish_reason": finish_reason(done),
            "urial": self._own(entries, done),
        }

    def _told(self, entries: Sequence[Entry]) -> dict[str, Any]:
        if self.logprobs is None or not entries:
            return {"logprobs": None}
        if self.kind == "chat":
            return {"logprobs": content(self.names, entries, self.logprobs)}
        return {"logprobs": legacy(self.names, entries, self.logprobs, self.as_ids)}

    def _own(self, entries: Sequence[Entry], done: Completion | None) -> dict[str, Any]:
        own: dict[str, Any] = {}
        if self.tokens and entries:
            own["tokens"] = details(self.names, entries)
        if done is not None:
            own |= {
                "finish_reason": done.finish_reason,
                "end_token": done.end_token,
                "prompt_tokens": done.prompt_tokens,
                "cached_tokens": done.cached_tokens,
                "completion_tokens": written(done),
                "prefill_seconds": round(done.prefill_seconds, 6),
                "tokens_per_second": round(done.tokens_per_second, 2),
            }
            if done.guidance is not None:
                own["guide"] = {
                    "tokens": len(done.guidance.at),
                    "rate": round(done.guidance.rate, 6),
                    "decoded_tokens": done.guidance.decoded,
                }
        return own

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {**self._head(".chunk"), "choices": choices}

    def _head(self, ending: str) -> dict[str, Any]:
        chat = self.kind == "chat"
        return {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{self.id}",
            "object": f"chat.completion{ending}" if chat else "text_completion",
            "created": self.created,
            "model": self.model,
        }
