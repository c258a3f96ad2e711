"""Renders the chat template that an aligned model's GGUF carries, or one from a file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from urial_local.base.errors import PromptError
from urial_local.base.placeholders import Names
from urial_local.base.texts import read_text
from urial_local.prompting.sandbox import render_untrusted

Layout = Literal["text", "parts", "merged text", "merged parts"]
LAYOUTS: tuple[Layout, ...] = ("text", "parts", "merged text", "merged parts")
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

        Raises PromptError when the template fails, or leaves out or changes what the user says, in
        every layout: see `_layout`.
        """
        if len(self.source) > MAX_TEMPLATE:
            raise PromptError(
                f"The chat template has {len(self.source):,} characters; no real one has that many."
            )
        literals: dict[str, str] = {}
        names = _names(self.special_texts)
        safe = [Message(m.role, names.hide(m.content, literals)) for m in messages]
        roles = tuple(m.role for m in safe)
        text = _rendered(self, safe, _layout(self, roles))
        if not holds(text, safe[-1].content):
            raise PromptError(*LEFT_OUT)
        return text, literals


def read_template(path: str) -> str:
    """A chat template from a file, in place of the one in a model's. Raises PromptError where it
    cannot be read, or is empty or too large."""
    text = read_text(Path(path).expanduser(), "The chat template", MAX_TEMPLATE)
    if not text.strip():
        raise PromptError(f"The chat template {path} is empty.", "Name a file with a template.")
    return text


@lru_cache(maxsize=2)
def _names(texts: tuple[str, ...]) -> Names:
    return Names(texts)


LEFT_OUT = (
    "The model's chat template leaves out the question, or changes it.",
    "Choose another prompt: `prompt=urial` or `prompt=vanilla`.",
)
# A list of parts that was written out as it is, by a template that takes it for a text.
_LISTED = re.compile(r"""['"]type['"]: ['"]text['"]""")


def holds(text: str, part: str) -> bool:
    """Whether a text holds another, whatever blanks were added or taken away."""
    return "".join(part.split()) in "".join(text.split())


@lru_cache(256)
def _layout(template: ChatTemplate, roles: tuple[str, ...]) -> Layout:
    """How the template takes messages of these roles: their content as text, or as a list of parts,
    as templates of models that see want it; the system text on its own, or merged into the first
    user message, as templates without a system role want it.

    Found with words that stand in no template, so that a short question is not found in the
    template's own text. Raises PromptError where none of them shows the model the question, and the
    system text if there is one.
    """
    probe = [Message(role, f"wOrD{i}oF{role}") for i, role in enumerate(roles)]
    wanted = [m.content for m in probe if m.role == "system"] + [probe[-1].content]
    failure = PromptError(*LEFT_OUT)
    failed = False
    for layout in LAYOUTS:
        if layout.startswith("merged") and roles[:2] != ("system", "user"):
            break
        try:
            text = _rendered(template, probe, layout)
        except PromptError as error:
            if not failed:
                failure, failed = error, True
            continue
        if all(part in text for part in wanted) and not _LISTED.search(text):
            return layout
    raise failure


def _rendered(template: ChatTemplate, messages: Sequence[Message], layout: Layout) -> str:
    if layout.startswith("merged"):
        first = Message("user", f"{messages[0].content}\n\n{messages[1].content}")
        messages = [first, *messages[2:]]
    parts = layout.endswith("parts")
    return render_untrusted(
        template.source,
        {
            "messages": [
                {
                    "role": m.role,
                    "content": [{"type": "text", "text": m.content}] if parts else m.content,
                }
                for m in messages
            ],
            "add_generation_prompt": True,
            "bos_token": template.bos,
            "eos_token": template.eos,
        },
    )
