"""The paper's tuning-free methods: what of a prompt stands before a question.

URIAL, vanilla in-context learning, system text alone, zero-shot, an aligned model's own template
and plain completion are prompts; K shots are the first K examples of one. Two methods are more than
a prompt: retrieval puts the most similar examples of a pool before each question, and restyling
first drafts an answer and then has it rewritten under the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from urial_local.base.errors import UsageError
from urial_local.base.paths import shipped
from urial_local.prompting.prompts import Turn
from urial_local.runtime.rows import Request
from urial_local.tasks.generate.copied import Shown
from urial_local.tasks.prompted import PromptedModel
from urial_local.tasks.retrieve import Pool


@dataclass
class Method:
    """A way to ask. `pool` and `shots` make it retrieval, `drafter` restyling."""

    asker: PromptedModel
    pool: Pool | None = None
    shots: int = 0
    drafter: PromptedModel | None = None
    _restyle: str = field(default="", repr=False)
    _shown: Shown | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.pool is not None and self.asker.prompt.frame.template == "model":
            raise UsageError(
                "`retrieve` puts examples into a URIAL frame, not into a chat template.",
                "Name a prompt such as `prompt=system-only`.",
            )
        if self.pool is not None:
            # The constant prefix is the system text; examples differ from row to row.
            self.asker.prompt = self.asker.prompt.shots(0)
        if self.drafter is not None:
            self._restyle = shipped("templates/restyle.txt").read_text("utf-8").rstrip("\n")

    @property
    def drafts(self) -> bool:
        return self.drafter is not None

    @property
    def fingerprint(self) -> str:
        """Of the prompt as rendered, for rows."""
        return self.asker.prompt.fingerprint()

    def examples(self, query: str) -> list[Turn]:
        """What retrieval puts before a question; none under the other methods."""
        return self.pool.examples(query, self.shots) if self.pool else []

    def shown(self, examples: Sequence[Turn]) -> Shown:
        """The texts that an answer under this method could copy."""
        prompt = self.asker.prompt
        if self._shown is None or examples:
            shown = Shown.of(prompt.system, (*prompt.examples, *examples))
            if examples:
                return shown
            self._shown = shown
        return self._shown

    def request(
        self,
        query: str,
        history: Sequence[Turn],
        draft: str | None = None,
        examples: Sequence[Turn] = (),
    ) -> Request:
        """To the engine: the question under this method, after the examples found for it and the
        turns there were.

        With a drafter, first the draft's request, and with a draft the one that rewrites it. Raises
        TokenizeError, UnsafeText or PromptError.
        """
        if self.drafter is not None and draft is None:
            return self.drafter.request(query, history)
        if self.drafter is not None and draft is not None:
            parts = {"{query}": query, "{draft}": draft}  # in one pass: a draft may hold braces
            text = re.sub(r"\{(query|draft)\}", lambda m: parts[m.group()], self._restyle)
            return self.asker.request(text, history)
        return self.asker.request(query, [*examples, *history])
