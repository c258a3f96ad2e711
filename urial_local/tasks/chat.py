"""A conversation with one model: its turns become further examples in the same frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from urial_local.prompting.prompts import Rendered, Turn
from urial_local.runtime.engine import Engine
from urial_local.runtime.interrupt import interruptible
from urial_local.runtime.rows import Completion
from urial_local.tasks.prompted import PromptedModel


@dataclass
class Conversation:
    """Turns so far, and the engine that answers the next. Faces read its fields."""

    asker: PromptedModel
    engine: Engine
    turns: list[Turn] = field(default_factory=list)
    start: int = 0  # turns before this one no longer fit the context; they are kept, not sent
    last: Completion | None = None
    seen: str = ""  # the text of the latest request
    guided: bool = False  # whether a guide wrote some of the text that came last

    def ask(self, query: str) -> Iterator[str]:
        """Stream the answer's text; afterwards the turn is part of the conversation.

        A turn that fails or is stopped with Ctrl-C (Aborted) is not kept: cut off in the middle,
        it would teach the model to break off. Raises what PromptedModel.fit raises, before any
        decoding.
        """
        recent = self.turns[self.start :]
        request, kept = self.asker.fit(query, recent, self.engine.ctx_size)
        self.start += len(recent) - len(kept)
        self.seen = self.asker.render(query, kept).text
        with interruptible(self.engine.decoder.abort_flag):
            for step in self.engine.stream([replace(request, keep=True)]):
                self.last = step.completion or self.last
                self.guided = step.guided
                if step.text:
                    yield step.text
        assert self.last is not None
        if self.last.finish_reason != "error":
            self.turns.append(Turn(query, self.last.text))

    def undo(self) -> Turn | None:
        """Take back the latest turn."""
        turn = self.turns.pop() if self.turns else None
        self.start = min(self.start, len(self.turns))
        return turn

    def clear(self) -> None:
        self.turns, self.start = [], 0

    def pending(self, query: str) -> Rendered:
        """What the model would see for `query` now."""
        _, kept = self.asker.fit(query, self.turns[self.start :], self.engine.ctx_size)
        return self.asker.render(query, kept)

    @property
    def context_used(self) -> int:
        """Tokens of the latest prompt and answer."""
        return self.last.prompt_tokens + len(self.last.tokens) if self.last else 0
