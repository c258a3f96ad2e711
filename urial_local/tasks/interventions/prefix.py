"""How much of an answer another model goes on after.

A number k stands for the first k tokens, `sentence` for the fewest tokens whose text holds the
answer's first sentence (see tasks.prose), `all` for all of it. Where an answer has no more than
that, nothing is left to go on with: it is handed over whole.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence

from urial_local.base import limits
from urial_local.base.errors import UsageError
from urial_local.tasks.prose import sentences

SENTENCE, ALL = "sentence", "all"
MOST = 64  # places in a list


def handovers(text: str) -> tuple[str, ...]:
    """`0,1,2,sentence` as a list without doubles, 0 first: each model's own answer is always made.
    Raises UsageError."""
    found = ["0"]
    for part in filter(None, (one.strip() for one in text.split(","))):
        number = limits.count(part, limits.TOKENS)
        if part not in (SENTENCE, ALL) and number is None and part.strip("0"):
            raise UsageError(
                f"`handover` {part[:40]!r} is neither a number of tokens nor {SENTENCE} nor {ALL}.",
                "Write a list such as 0,1,2,5,10,sentence.",
            )
        name = part if part in (SENTENCE, ALL) else str(number or 0)
        if name not in found:
            found.append(name)
    if len(found) > MOST:
        raise UsageError(f"`handover` takes at most {MOST} places.")
    return tuple(found)


def length(after: str, ids: Sequence[int], piece: Callable[[int], bytes]) -> int:
    """How many of an answer's tokens are handed over."""
    if after == ALL:
        return len(ids)
    if after != SENTENCE:
        return min(int(after), len(ids))
    return first_sentence(ids, piece)


def first_sentence(ids: Sequence[int], piece: Callable[[int], bytes]) -> int:
    """The fewest tokens whose text holds the first sentence; all where there is none."""
    whole = sentences(decoded(ids, piece))
    if not whole:
        return len(ids)
    text, decoder = "", codecs.getincrementaldecoder("utf-8")("replace")
    for n, token in enumerate(ids, 1):
        text += decoder.decode(piece(token))
        if sentences(text)[:1] == whole[:1]:
            return n
    return len(ids)


def decoded(ids: Sequence[int], piece: Callable[[int], bytes]) -> str:
    return b"".join(map(piece, ids)).decode("utf-8", "replace")
