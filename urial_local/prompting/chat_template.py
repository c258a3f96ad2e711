"""Renders the chat template that an aligned model's GGUF carries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from urial_local.base.errors import PromptError
from urial_local.base.placeholders import Names
from urial_local.prompting.sandbox import render_untrusted

MAX_TEMPLATE = 256 * 1024  # characters; real ones have some thousands


@dataclass(frozen=True, slots=True)
class Message:
    role: str  # system, user or assistant
    content: str


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A template's source and what it needs of the vocabulary.

    `special_texts` are the texts of all control tokens: a message that holds one of them is given
    a placeholder in its place, so that the tokeniser can tell the user's text from the template's.
    """

    source: str
    bos: str
    eos: str
    special_texts: tuple[str, ...] = ()

    def render(self, messages: Sequence[Message]) -> tuple[str, dict[str, str]]:
        """The text up to where the assistant's answer begins, and its placeholders.

        Raises PromptError when the template fails, also with the system text moved into the first
        user message, which is how templates without a system role want it.
        """
        if len(self.source) > MAX_TEMPLATE:
            raise PromptError(
                f"The chat template has {len(self.source):,} characters; none needs so."
            )
        literals: dict[str, str] = {}
        names = _names(self.special_texts)
        safe = [Message(m.role, names.hide(m.content, literals)) for m in messages]
        try:
            return self._render(safe), literals
        except PromptError:
            if len(safe) < 2 or safe[0].role != "system":
                raise
            merged = Message("user", f"{safe[0].content}\n\n{safe[1].content}")
            return self._render([merged, *safe[2:]]), literals

    def _render(self, messages: Sequence[Message]) -> str:
        return render_untrusted(
            self.source,
            {
                "messages": [{"role": m.role, "content": m.content} for m in messages],
                "add_generation_prompt": True,
                "bos_token": self.bos,
                "eos_token": self.eos,
            },
        )


@lru_cache(maxsize=2)
def _names(texts: tuple[str, ...]) -> Names:
    return Names(texts)
