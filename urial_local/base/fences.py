"""Code fences, line by line: which fence line opens, which closes, which ends the frame.

The same rule serves two floors: an answer is cut where this says that the frame's own fence closes
(runtime), and text is given a longer fence when this says that it would close early (prompting).
Follows CommonMark 0.31 §4.5, with one addition: a bare fence of exactly the frame's length, outside
of any inner block, is the frame's own.
"""

from __future__ import annotations

import re

_RUN = re.compile(r"`+")
_BARE = {"", " ", *(shape.replace("x", c) for shape in ("x", "x ", "x x", " x") for c in "`~")}
# Everything that Python, a terminal or a reader may take for the end of a line.
LINE_BREAKS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"


class FenceTracker:
    """Follows the lines of one answer; `inner` is the fence of the open inner block, or empty."""

    def __init__(self, frame_fence: str, begun: bool = False) -> None:
        self.frame_fence = frame_fence
        self.inner = ""
        self._has_text = begun

    def line(self, line: str) -> bool:
        """Take one whole line (without its end); True when it is the frame's closing fence."""
        fence = _fence_line(line.rstrip("\r"))
        if fence is None:
            self._has_text = self._has_text or bool(line.strip())
            return False
        run, info = fence
        if self.inner:
            if not info and run[0] == self.inner[0] and len(run) >= len(self.inner):
                self.inner = ""
            return False
        # Nothing can be closed before it began: a bare fence at the very start opens a block.
        if not info and run == self.frame_fence and self._has_text:
            return True
        self.inner = run
        self._has_text = True
        return False


def _fence_line(line: str) -> tuple[str, str] | None:
    """The run of a line that is a fence, and what stands after it; None for any other line.

    By hand, since blanks may belong to three parts of it: a regular expression that tries all
    ways to share them out takes time with the cube of their number.
    """
    body = line.lstrip(" ")
    rest = body.lstrip("`") if body.startswith("`") else body.lstrip("~")
    run = body[: len(body) - len(rest)]
    if len(line) - len(body) > 3 or len(run) < 3 or "`" in rest:
        return None
    return run, rest.strip(" \t")


class FenceStart:
    """Whether a line still being written may turn out to be a bare fence line: after at most three
    blanks a run, blanks, and a run again. `possible` never turns true again."""

    def __init__(self) -> None:
        self.possible = True
        self._indent = 0
        self._runs = ""  # of each run of a character, one

    def take(self, text: str) -> None:
        """More of the line; what came before is not looked at again."""
        for character in text if self.possible else "":
            kind = " " if character == "\t" else character
            if character == " " and not self._runs:
                self._indent += 1
            elif kind != self._runs[-1:]:
                self._runs += kind
            self.possible = self._indent <= 3 and self._runs in _BARE
            if not self.possible:
                break


def closes_early(text: str, frame_fence: str) -> bool:
    """Whether an answer's text would be cut inside, or leaves an inner block open at its end."""
    tracker = FenceTracker(frame_fence, begun=True)
    early = any(tracker.line(line) for line in text.split("\n"))
    return early or tracker.inner.startswith(frame_fence[:1])


def longer_fence(text: str, fence: str) -> str:
    """The shortest run of backticks, not below `fence`, that is longer than any run in `text`."""
    longest = max((len(run) for run in _RUN.findall(text)), default=0)
    return "`" * max(len(fence), longest + 1)
