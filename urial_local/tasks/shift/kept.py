"""The ids of an answer, without what closed it."""

from __future__ import annotations

from collections.abc import Callable

from urial_local.runtime.rows import Completion


def kept_ids(done: Completion, piece: Callable[[int], bytes]) -> list[int]:
    """The ids of an answer; of one that its frame or a stop string ended, without the closing's."""
    if done.finish_reason not in ("frame", "stop"):
        return list(done.tokens)
    text = done.raw_text
    size = len(text[: text.find(done.text) + len(done.text)].encode("utf-8"))
    kept: list[int] = []
    for token in done.tokens:
        if size <= 0:
            break
        kept.append(token)
        size -= len(piece(token))
    return kept
