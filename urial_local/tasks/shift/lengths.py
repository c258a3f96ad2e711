"""How long a run's prompts and answers are at most, in tokens: what its contexts must hold."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from urial_local.base.errors import UrialError
from urial_local.records.datasets import Item
from urial_local.tasks.prompted import PromptedModel

SLACK = 32  # tokens


def longest_prompt(asker: PromptedModel, items: Sequence[Item]) -> int:
    """Tokens of the longest question's prompt. To lay out all of them would take seconds (chat
    templates are rendered in a process of their own), so it is done only where a question's own
    tokens may make it the longest; SLACK is for tokens that are other ones inside a frame."""
    vocab = asker.model.vocab
    frame = counted(lambda: len(asker.request("x").tokens))
    return longest(
        [item.query for item in items if not item.error],
        lambda query: counted(lambda: len(asker.request(query).tokens)),
        lambda query: frame + counted(lambda: vocab.count(query)) + _escapes(query),
        frame,
    )


def _escapes(query: str) -> int:
    """Tokens at most that keep a question inside its frame: a backslash a line, longer fences."""
    fence = max(map(len, re.findall("[`~]+", query)), default=0)
    return 2 * (query.count("\n") + 1 + fence)


def counted(count: Callable[[], int]) -> int:
    try:
        return count()
    except UrialError:
        return 0  # an error row, when its turn comes


def longest(
    texts: Sequence[str],
    tokens: Callable[[str], int],
    at_most: Callable[[str], int] | None = None,
    frame: int = 0,
) -> int:
    """The most tokens that any of the texts has, `frame` of them around it. A token has a byte at
    least (two are reckoned, for escaped markers), so texts too short to have more than is known are
    not tokenised; nor are those whose bound, which is cheaper, says the same."""
    most = 0
    for text in sorted(texts, key=lambda t: -len(t.encode("utf-8", "surrogatepass"))):
        if frame + 2 * len(text.encode("utf-8", "surrogatepass")) <= most:
            break
        if at_most is None or at_most(text) > most:
            most = max(most, tokens(text))
    return most
