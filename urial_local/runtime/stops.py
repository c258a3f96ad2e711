"""Where an answer ends: the frame's closing fence, the next turn's marker, the user's stop strings.

Works on text, across the borders of tokens, and while text is still arriving: what may turn out to
be part of an ending is held back, so that nothing of it is ever shown. The result does not depend
on how the text was cut into pieces, and the time is in proportion to the text: each piece is looked
at once, however long a line or a run of blanks becomes.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Literal

from urial_local.base.fences import FenceStart, FenceTracker

Ending = Literal["", "frame", "stop"]
_FENCES = "`~ \t\r\n\v\f"  # what an answer is empty of that has nothing else


@dataclass(frozen=True, slots=True)
class StopPolicy:
    """`fence` closes the answer on a line of its own, outside inner code blocks; `marker` ends it
    at the start of a line; `strings` end it anywhere. With all empty, only the model ends it."""

    fence: str = ""
    marker: str = ""
    strings: tuple[str, ...] = ()

    @property
    def framed(self) -> bool:
        return bool(self.fence or self.marker)


class _OpenLine:
    """The line that is still being written, by what may yet come of it."""

    def __init__(self, marker: str, start: int) -> None:
        self.start = start  # offset in the whole text
        self.end = start
        self.fence = FenceStart()
        self.backticks: int | None = None  # where backticks begin that nothing but blanks follows
        self._marker = marker
        self._head = ""  # the first characters after blanks, as many as the marker has
        self._bare = ""  # the same after white space of any kind
        self._more = False  # text follows these
        self._last = ""

    def take(self, piece: str) -> None:
        if not piece:
            return
        size = len(self._marker)
        if len(self._head) < size:
            self._head = (self._head + piece).lstrip(" \t")[:size]
        room = max(size, 1) - len(self._bare)
        text = piece if self._bare else piece.lstrip()
        self._bare += text[:room]
        self._more = self._more or bool(text[room:].strip())
        self.fence.take(piece)
        bare = piece.rstrip()
        rest = bare.rstrip("`")
        if rest != bare and (rest or self._last != "`"):
            self.backticks = self.end + len(rest)
        elif rest:
            self.backticks = None
        self._last = piece[-1]
        self.end += len(piece)

    @property
    def blank(self) -> bool:
        return not self._bare

    @property
    def begins_marker(self) -> bool:
        return bool(self._marker) and self._head == self._marker

    @property
    def may_be_marker(self) -> bool:
        """Whether all of it is the beginning of the marker."""
        bare = self._bare.rstrip()
        return bool(bare) and not self._more and self._marker.startswith(bare)


class _Finder:
    """Finds a string in text that arrives in pieces (Knuth, Morris and Pratt)."""

    def __init__(self, string: str) -> None:
        self.string = string
        self.begun = 0  # characters of the string that the text so far ends with
        self._borders = [0]  # for each beginning, the longest shorter one that it ends with
        for i in range(1, len(string)):
            self._borders.append(self._next(self._borders[i - 1], string[i]))

    def feed(self, text: str) -> int:
        """Characters of `text` up to the end of the string, 0 where it is not there."""
        at = 0
        while at < len(text):
            if not self.begun and (at := text.find(self.string[0], at)) < 0:
                return 0
            self.begun = self._next(self.begun, text[at])
            at += 1
            if self.begun == len(self.string):
                return at
        return 0

    def _next(self, begun: int, character: str) -> int:
        while begun and self.string[begun] != character:
            begun = self._borders[begun - 1]
        return begun + (self.string[begun] == character)


class StopScanner:
    """Reads one answer as it arrives. `feed` and `close` return text that may be shown."""

    def __init__(self, policy: StopPolicy) -> None:
        self.policy = policy
        self.reason: Ending = ""  # "frame" or "stop" once the answer has ended
        self._raw = io.StringIO(newline="")  # everything that was fed
        self._size = 0  # of it
        self._shown = 0  # offset in it up to which text was returned
        self._blank = 0  # offset up to which nothing but blanks follows what was returned
        self._begun = not policy.framed  # framed answers lose blank space at their start
        self._line = _OpenLine(policy.marker, 0)
        self._tracker = FenceTracker(policy.fence)
        self._tail: int | None = None  # a fence at the end of a line of text: "... done.```"
        self._inner_marker: int | None = None  # a marker line inside an inner code block
        self._finders = [_Finder(string) for string in policy.strings if string]

    @property
    def raw(self) -> str:
        """Everything that was fed."""
        return self._raw.getvalue()

    def feed(self, text: str) -> str:
        """Take more text; return what is now certain to belong to the answer."""
        if self.reason or not text:
            return ""
        before = self._size
        self._raw.seek(before)
        self._raw.write(text)
        self._size += len(text)
        cut = self._framed_cut(text, before) if self.policy.framed else None
        # The string that ends first; of two that end together, the longer one.
        found = [(n, -len(f.string)) for f in self._finders if (n := f.feed(text))]
        if found and (cut is None or before + sum(min(found)) < cut):
            return self._end(before + sum(min(found)), "stop")
        if cut is not None:
            return self._end(cut, "frame")
        return self._show(self._certain())

    def close(self) -> str:
        """No more text will come: return the rest, without what the frame would have closed."""
        if self.reason:
            return ""
        end = self._size
        if self.policy.framed:
            line = self._between(self._line.start, end)
            if (self.policy.fence and self._tracker.line(line)) or (
                self._line.may_be_marker and len(line) > 2
            ):
                end = self._line.start
            elif line.strip():
                self._tail = self._tail_fence(line, self._line.start)
            if self._inner_marker is not None:
                end = min(end, self._inner_marker)
            if self._tail is not None and not self._between(self._tail, self._size).strip("`\n \t"):
                end = min(end, self._tail)
        return self._end(end, "")

    def _between(self, start: int, end: int) -> str:
        self._raw.seek(start)
        return self._raw.read(max(0, end - start))

    def _framed_cut(self, text: str, before: int) -> int | None:
        """Offset where the frame ends the answer, or None; the new text stands at `before`."""
        at = 0
        while (newline := text.find("\n", at)) >= 0:
            cut = self._whole_line(self._between(self._line.start, before + newline))
            if cut is not None:
                return cut
            at = newline + 1
            self._line = _OpenLine(self.policy.marker, before + at)
        self._line.take(text[at:])
        if self._line.begins_marker and not self._tracker.inner:
            return self._before_marker()
        return None

    def _whole_line(self, line: str) -> int | None:
        start, marker, fence = self._line.start, self.policy.marker, self.policy.fence
        if self._inner_marker is not None:
            # "# Query:" may be a comment in code; with the frame's fence below it is a new turn.
            if line.rstrip() == fence:
                return self._inner_marker
            self._inner_marker = None
        if marker and line.lstrip(" \t").startswith(marker):
            if not self._tracker.inner:
                return self._before_marker()
            if fence and line.strip() == marker:
                self._inner_marker = start
        if not fence:
            return None
        if self._tracker.line(line):
            return start
        if line.strip():
            self._tail = self._tail_fence(line, start)
        return None

    def _before_marker(self) -> int:
        return self._line.start if self._tail is None else self._tail

    def _tail_fence(self, line: str, start: int) -> int | None:
        """Offset of a lone frame fence at the end of a line of text, or None."""
        fence, bare = self.policy.fence, line.rstrip()
        if self._tracker.inner or not bare.endswith(fence) or bare.count("`") != len(fence):
            return None
        at = len(bare) - len(fence)
        return start + at if bare[:at].strip() else None

    def _certain(self) -> int:
        """Offset up to which nothing that may still come can change the text."""
        end = self._size
        if self.policy.framed:
            line = self._line
            if line.may_be_marker or (self.policy.fence and line.fence.possible):
                end = line.start
            elif self.policy.fence and not self._tracker.inner and line.backticks is not None:
                # Backticks at the end of the line may be the frame's fence in the wrong place.
                end = line.backticks
            for held in (self._tail, self._inner_marker):
                if held is not None and (
                    held == self._inner_marker or line.blank or line.may_be_marker
                ):
                    end = min(end, held)
        return min([end, *(self._size - finder.begun for finder in self._finders)])

    def _show(self, end: int) -> str:
        """What is new up to `end`; in a framed answer without the blanks before it, which may turn
        out to be the answer's last, and nothing before there is more than fences: a fence is shown
        with what it fences, and alone it is an answer that never began."""
        start = max(self._shown, self._blank)
        if end <= start:
            return ""
        if self.policy.framed:
            new = self._between(start, end)
            size = len(new.rstrip())
            self._blank = end
            if not (self._begun or new.strip(_FENCES)) or not size:
                return ""
            end = start + size
        start, self._shown = self._shown, end
        text = self._between(start, end)
        if not self._begun:
            self._begun = True
            text = text.lstrip()
        return text

    def _end(self, at: int, reason: Ending) -> str:
        self.reason = reason
        return self._show(at)
