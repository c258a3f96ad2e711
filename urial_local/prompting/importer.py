"""Imports the authors' prompt files: one text document, read for its frame, split into its parts.

The result renders byte for byte as the reference assembles the same file (FACTS: the file is taken
raw, then each turn of the conversation is appended in the frame). Where the spacing of a file's
examples is not its frame's, each example keeps its own, as `layout`.
"""

from __future__ import annotations

import re
from dataclasses import replace

from urial_local.base.errors import PromptError
from urial_local.prompting.frames import Frame, load_frame
from urial_local.prompting.prompts import Prompt, Turn

# Frames told apart by what stands in the file; the first whose marker begins a line is tried.
_MARKED = {"# Query:": ("fenced",), "# User:": ("user-assistant", "user-assistant-tight")}


def import_text(text: str, name: str, frame: str | None = None) -> Prompt:
    """A prompt from the authors' plain-text form. `frame` replaces the frame that is recognised.

    Examples keep the file's spacing in frames with the same markers, and take the new frame's where
    the markers differ. Raises PromptError where a query has no answer or an answer no query: such a
    file would teach the model a broken frame.
    """
    recognised = _recognise(text)
    wanted = load_frame(frame) if frame else recognised
    first = re.search(rf"^{re.escape(recognised.query_marker)}", text, re.MULTILINE)
    if first is None:
        return Prompt(name=name, frame=wanted, description="Imported", system=text)
    # The blank line before the first marker belongs to the frame where the frame writes one.
    blank = _leading_breaks(recognised.turn("q", "a"))
    before = text[: first.start()]
    while blank and before.endswith("\n") and len(before) > 1 and before[-2] == "\n":
        before, blank = before[:-1], blank - 1
    examples = _split(text[len(before) :], recognised)
    prompt = Prompt(name, recognised, "Imported", before, tuple(examples))
    if prompt.prefix() != text:  # an invariant of the splitting, cheap to keep
        raise PromptError(f"The file {name!r} could not be split without changing it.")
    if wanted.markers != recognised.markers:
        examples = [replace(example, layout=None) for example in examples]
    return replace(prompt, frame=wanted, examples=tuple(examples))


def _leading_breaks(text: str) -> int:
    return len(text) - len(text.lstrip("\n"))


def _recognise(text: str) -> Frame:
    for marker, names in _MARKED.items():
        if not re.search(rf"^{re.escape(marker)}", text, re.MULTILINE):
            continue
        # Of two frames with the same markers, the one whose own spacing fits the examples.
        frames = [load_frame(n) for n in names]
        return max(frames, key=lambda f: sum(t.layout is None for t in _try_split(text, f)))
    return load_frame("fenced")


def _try_split(text: str, frame: Frame) -> list[Turn]:
    start = re.search(rf"^{re.escape(frame.query_marker)}", text, re.MULTILINE)
    try:
        return _split(text[start.start() :], frame) if start else []
    except PromptError:
        return []


def _split(text: str, frame: Frame) -> list[Turn]:
    """Examples of `text`, whose pieces add up to exactly `text`."""
    marks = [
        (m.start(), m.group())
        for m in re.finditer(
            rf"^(?:{re.escape(frame.query_marker)}|{re.escape(frame.answer_marker)})",
            text,
            re.MULTILINE,
        )
    ]
    kinds = [kind == frame.query_marker for _, kind in marks]
    for i, is_query in enumerate(kinds):
        if is_query != (i % 2 == 0):
            what = "a second query before an answer" if is_query else "an answer without a query"
            raise PromptError(f"Line {_line(text, marks[i][0])} of the examples is {what}.")
    if len(kinds) % 2:
        raise PromptError("The last query of the file has no answer.")
    starts = [at for at, _ in marks[0::2]] + [len(text)]
    lead = _leading_breaks(frame.turn("q", "a"))
    turns = []
    begin = 0
    for i in range(len(starts) - 1):
        last = i == len(starts) - 2
        # Newlines between examples go to the next one, as many as its frame begins with.
        end = starts[i + 1]
        while not last and starts[i + 1] - end < lead and text[end - 1] == "\n":
            end -= 1
        block = text[begin:end]
        turns.append(_example(block, frame, marks[2 * i + 1][0] - begin))
        begin = end
    return turns


def _example(block: str, frame: Frame, answer_at: int) -> Turn:
    query_span = _body(block, 0, answer_at, frame.query_marker, frame.fence)
    answer_span = _body(block, answer_at, len(block), frame.answer_marker, frame.fence)
    turn = Turn(block[slice(*query_span)], block[slice(*answer_span)])
    layout = (
        block[: query_span[0]],
        block[query_span[1] : answer_span[0]],
        block[answer_span[1] :],
    )
    own = frame.turn(turn.query, turn.answer)
    return turn if own == block else replace(turn, layout=layout)


def _body(block: str, start: int, end: int, marker: str, fence: str) -> tuple[int, int]:
    """Where the text of one role stands: after its marker and fence, before the closing fence."""
    at = block.index(marker, start, end) + len(marker)
    stop = end
    if fence:
        opening, closing = block.find(fence, at, end), block.rfind(fence, at, end)
        if opening != closing:
            at, stop = opening + len(fence), closing
    # Line breaks right inside the fences are the frame's, all other white space is the text's.
    while at < stop and block[at] == "\n":
        at += 1
    while stop > at and block[stop - 1] == "\n":
        stop -= 1
    return at, stop


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1
