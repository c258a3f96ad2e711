"""Code fences, line by line: which fence line opens, which closes, which ends the frame.

The same rule serves two floors: an answer is cut where this says that the frame's own fence closes
(runtime), and text is given a longer fence when this says that it would close early (prompting).
Follows CommonMark 0.31 §4.5, with one addition: a bare fence of exactly the frame's length, outside
of any inner block, is the frame's own.
"""

from __future__ import annotations

import re

_FENCE_LINE = re.compile(r"^ {0,3}(`{3,}|~{3,})[ \t]*([^`\n]*?)[ \t]*$")
_RUN = re.compile(r"`+")
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
        match = _FENCE_LINE.match(line.rstrip("\r"))
        if not match:
            self._has_text = self._has_text or bool(line.strip())
            return False
        run, info = match.groups()
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


def may_become_fence(line: str) -> bool:
    """Whether a line still being written may turn out to be a bare fence line."""
    body = line.lstrip(" ")
    if len(line) - len(body) > 3:
        return False
    return not body.strip("`").strip(" \t") or not body.strip("~").strip(" \t")


def closes_early(text: str, frame_fence: str) -> bool:
    """Whether an answer's text would be cut inside, or leaves an inner block open at its end."""
    tracker = FenceTracker(frame_fence, begun=True)
    early = any(tracker.line(line) for line in text.split("\n"))
    return early or tracker.inner.startswith(frame_fence[:1])


def longer_fence(text: str, fence: str) -> str:
    """The shortest run of backticks, not below `fence`, that is longer than any run in `text`."""
    longest = max((len(run) for run in _RUN.findall(text)), default=0)
    return "`" * max(len(fence), longest + 1)
