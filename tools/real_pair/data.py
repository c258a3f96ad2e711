"""Which answers are learnt, which are held out, and how they become tokens."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from urial_local.prompting.prompts import Prompt
from urial_local.records.datasets import Item, read_items
from urial_local.runtime.vocabulary import Vocabulary

HELD_OUT = "7"  # the last digit of the ids that are never learnt: 100 of just-eval's 1,000


@dataclass(frozen=True, slots=True)
class Example:
    """Tokens of a prompt and of its answer, the end token last; the answer alone is learnt."""

    id: str
    prompt: tuple[int, ...]
    answer: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Of both."""
        return len(self.prompt) + len(self.answer)


@dataclass(frozen=True, slots=True)
class Split:
    """The examples to learn and those held out."""

    learnt: tuple[Example, ...]
    held_out: tuple[Example, ...]


def is_held_out(row_id: str) -> bool:
    """The fixed rule; the same rows as in docs/prompts.md."""
    return row_id.endswith(HELD_OUT)


def split(path: Path, vocab: Vocabulary, prompt: Prompt, longest: int) -> Split:
    """All rows of a file of answers that have one, are whole, and fit `longest` tokens."""
    fitting = [e for e in _examples(read_items(path), vocab, prompt) if e.tokens <= longest]
    return Split(
        tuple(e for e in fitting if not is_held_out(e.id)),
        tuple(e for e in fitting if is_held_out(e.id)),
    )


def _examples(items: Iterable[Item], vocab: Vocabulary, prompt: Prompt) -> Iterable[Example]:
    for item in items:
        if item.error or not item.answer or not item.answer.strip():
            continue
        text = prompt.render(item.query).text
        asked = [int(t) for t in vocab.tokenize(text)]
        said = [int(t) for t in vocab.continuation(text, item.answer.strip())]
        yield Example(item.id, tuple(asked), (*said, vocab.eos))
