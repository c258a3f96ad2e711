"""A prompt is a frame plus content: system text and ordered examples. Rendering gives one string.

    text = system + turn(example 1) + ... + turn(example K)     the constant prefix
         + turn(history 1) + ... + turn(history n)              earlier turns, in the same frame
         + request(query)                                       up to where the answer begins

The same inputs always give the same text, and nothing is added to it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from urial_local.base.errors import PromptError
from urial_local.prompting.chat_template import ChatTemplate, Message
from urial_local.prompting.frames import Frame
from urial_local.prompting.markers import MarkerPolicy


@dataclass(frozen=True, slots=True)
class Turn:
    """A query with its answer. `layout` holds the literal text before, between and after the two
    where an imported file's spacing differs from its frame's."""

    query: str
    answer: str
    layout: tuple[str, str, str] | None = None


@dataclass(frozen=True, slots=True)
class Rendered:
    """A text for a model, and how to read its answer.

    `prefix_end` is the offset in `text` (characters) where the part that depends on neither history
    nor query ends. `parse_special` says that control tokens in `text` are meant; then `literals`
    maps placeholders in `text` to the user's own text that only looks like such tokens.
    """

    text: str
    prefix_end: int
    fence: str = ""
    marker: str = ""
    parse_special: bool = False
    literals: Mapping[str, str] = field(default_factory=dict)

    @property
    def framed(self) -> bool:
        return bool(self.fence or self.marker)


@dataclass(frozen=True, slots=True)
class Prompt:
    """Frame and content. `system` is all text before the first example, its header included."""

    name: str
    frame: Frame
    description: str = ""
    system: str = ""
    examples: tuple[Turn, ...] = ()
    sampling: Mapping[str, float | int] = field(default_factory=dict)  # recommended by the author
    evidence: Mapping[str, str | float | int] = field(default_factory=dict)  # why it is as it is

    def shots(self, k: int) -> Prompt:
        """The same prompt with its first k examples. Raises PromptError when it has fewer."""
        if not 0 <= k <= len(self.examples):
            raise PromptError(
                f"The prompt {self.name!r} has {len(self.examples)} examples, not {k}."
            )
        return replace(self, examples=self.examples[:k])

    def prefix(self) -> str:
        """The constant prefix: system text and examples, as the frame's own blocks lay them out.

        A model's chat template lays out whole conversations only: for it, the system text.
        """
        if self.frame.template == "model":
            return self.system
        pieces = [self.system]
        for example in self.examples:
            if example.layout is None:
                piece = self.frame.turn(example.query, example.answer)
            else:
                before, between, after = example.layout
                piece = before + example.query + between + example.answer + after
            pieces.append(piece)
        return _joined(pieces)

    def render(
        self,
        query: str,
        history: Sequence[Turn] = (),
        policy: MarkerPolicy = "escape",
        chat: ChatTemplate | None = None,
    ) -> Rendered:
        """The text a model sees for `query` after `history`.

        `chat` is needed by the `chat` frame alone. Raises UnsafeText under the policy `refuse`, and
        PromptError where the model has no chat template or its template fails.
        """
        if self.frame.template == "model":
            return self._render_chat(query, history, chat)
        pieces = [self.prefix()]
        pieces += [self.frame.turn(turn.query, turn.answer, policy) for turn in history]
        pieces.append(self.frame.request(query, policy))
        return Rendered(_joined(pieces), len(pieces[0]), self.frame.fence, self.frame.query_marker)

    def _render_chat(
        self, query: str, history: Sequence[Turn], chat: ChatTemplate | None
    ) -> Rendered:
        if chat is None:
            raise PromptError(
                f"The prompt {self.name!r} needs a chat template, and this model carries none.",
                "A base model wants a URIAL prompt: `prompt=urial`.",
            )
        messages = [Message("system", self.system)] if self.system else []
        for turn in (*self.examples, *history):
            messages += [Message("user", turn.query), Message("assistant", turn.answer)]
        text, literals = chat.render([*messages, Message("user", query)])
        return Rendered(text, 0, parse_special=True, literals=literals)

    def fingerprint(self) -> str:
        """sha256 (first 16 hex digits) of all that decides the rendered text."""
        digest = hashlib.sha256()
        examples = [t for e in self.examples for t in (e.query, e.answer)]
        for part in (self.frame.source, self.frame.name, self.prefix(), *examples):
            digest.update(part.encode("utf-8", "surrogatepass") + b"\0")
        return digest.hexdigest()[:16]

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "frame": self.frame.name,
            "description": self.description,
            "fingerprint": self.fingerprint(),
            "system": self.system,
            "examples": [{"query": e.query, "answer": e.answer} for e in self.examples],
            "sampling": dict(self.sampling),
            "evidence": dict(self.evidence),
        }


def _joined(pieces: Sequence[str]) -> str:
    """Turns begin with the blank line that parts them; at the very start there is none."""
    text = "".join(pieces)
    return text if pieces[0] else text.lstrip("\n")
