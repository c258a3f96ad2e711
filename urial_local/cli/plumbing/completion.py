"""How shells complete our commands, models and prompts, where click's own way falls short."""

from __future__ import annotations

import os
import re
from typing import Any

from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    split_arg_string,
)

HARMLESS = re.compile(r"[\w.:/@+-]+")


class Harmless(ShellComplete):
    """Offers no name that a shell would act upon. Models and prompts are files that others named,
    bash puts on the line what it is given, and shells differ in what they quote and how."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[Any]]:
        found = super().get_completions(args, incomplete)
        return [i for i in found if i.type != "plain" or HARMLESS.fullmatch(str(i.value))]


class Zsh(Harmless, ZshComplete):
    """click's."""


class Fish(Harmless, FishComplete):
    """click's."""


class Bash(Harmless, BashComplete):
    """click's, but for `:` and `=`: bash ends words there, and our names (hf:user/repo) and options
    (--model=NAME) go on. So the line itself is read, and what bash takes for done is left out."""

    source_template = BashComplete.source_template.replace(
        "COMP_CWORD=$COMP_CWORD",
        'COMP_CWORD=$COMP_CWORD COMP_LINE="${COMP_LINE:0:COMP_POINT}"'
        ' COMP_WORDBREAKS="$COMP_WORDBREAKS"',
    )
    _begun = ""

    def get_completion_args(self) -> tuple[list[str], str]:
        if "COMP_LINE" not in os.environ:
            return super().get_completion_args()
        line = os.environ["COMP_LINE"]
        words = split_arg_string(line)
        self._begun = "" if line[-1:].isspace() else words.pop()
        return words[1:], self._begun

    def format_completion(self, item: CompletionItem) -> str:
        breaks = os.environ.get("COMP_WORDBREAKS", "")
        option, equals, begun = self._begun.rpartition("=")
        value = str(item.value)
        if item.type == "plain":
            done = begun.rfind(":") + 1 if ":" in breaks else 0
            value = value[done:] if value.startswith(begun[:done]) else value
            if equals and "=" not in breaks:
                value = f"{option}={value}"
        return f"{item.type},{value}"


def teach() -> None:
    """Let click use ours."""
    for kind in (Bash, Zsh, Fish):
        add_completion_class(kind)
