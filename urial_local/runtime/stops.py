"""Where an answer ends: the frame's closing fence, the next turn's marker, the user's stop strings.

Works on text, across the borders of tokens, and while text is still arriving: what may turn out to
be part of an ending is held back, so that nothing of it is ever shown. The result does not depend
on how the text was cut into pieces.
"""

from __future__ import annotations

from dataclasses import dataclass

from urial_local.base.fences import FenceTracker, may_become_fence


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


class StopScanner:
    """Reads one answer as it arrives. `feed` and `close` return text that may be shown."""

    def __init__(self, policy: StopPolicy) -> None:
        self.policy = policy
        self.reason = ""  # "frame" or "stop" once the answer has ended
        self.raw = ""  # everything that was fed
        self._shown = 0  # offset in raw up to which text was returned
        self._begun = not policy.framed  # framed answers lose blank space at their start
        self._line = 0  # offset of the line that is still being written
        self._tracker = FenceTracker(policy.fence)
        self._tail: int | None = None  # a fence at the end of a line of text: "... done.```"
        self._inner_marker: int | None = None  # a marker line inside an inner code block
        self._longest_stop = max((len(s) for s in policy.strings), default=0)

    def feed(self, text: str) -> str:
        """Take more text; return what is now certain to belong to the answer."""
        if self.reason or not text:
            return ""
        searched = max(0, len(self.raw) - self._longest_stop + 1)
        self.raw += text
        cut = self._framed_cut()
        stop = min(
            (at for s in self.policy.strings if (at := self.raw.find(s, searched)) >= 0), default=-1
        )
        if stop >= 0 and (cut is None or stop < cut):
            return self._end(stop, "stop")
        if cut is not None:
            return self._end(cut, "frame")
        return self._show(self._certain())

    def close(self) -> str:
        """No more text will come: return the rest, without what the frame would have closed."""
        if self.reason:
            return ""
        end = len(self.raw)
        if self.policy.framed:
            line = self.raw[self._line :]
            if (self.policy.fence and self._tracker.line(line)) or (
                self._is_marker_start(line) and len(line) > 2
            ):
                end = self._line
            elif line.strip():
                self._tail = self._tail_fence(line, self._line)
            if self._inner_marker is not None:
                end = min(end, self._inner_marker)
            if self._tail is not None and not self.raw[self._tail :].strip("`\n \t"):
                end = min(end, self._tail)
        return self._end(end, "")

    def _framed_cut(self) -> int | None:
        """Offset where the frame ends the answer, or None."""
        if not self.policy.framed:
            return None
        while (newline := self.raw.find("\n", self._line)) >= 0:
            cut = self._whole_line(self.raw[self._line : newline])
            if cut is not None:
                return cut
            self._line = newline + 1
        line, marker = self.raw[self._line :], self.policy.marker
        if marker and not self._tracker.inner and line.lstrip(" \t").startswith(marker):
            return self._before_marker()
        return None

    def _whole_line(self, line: str) -> int | None:
        start, marker, fence = self._line, self.policy.marker, self.policy.fence
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
        return self._line if self._tail is None else self._tail

    def _tail_fence(self, line: str, start: int) -> int | None:
        """Offset of a lone frame fence at the end of a line of text, or None."""
        fence, bare = self.policy.fence, line.rstrip()
        if self._tracker.inner or not bare.endswith(fence) or bare.count("`") != len(fence):
            return None
        at = len(bare) - len(fence)
        return start + at if bare[:at].strip() else None

    def _is_marker_start(self, line: str) -> bool:
        bare = line.strip()
        return bool(bare) and self.policy.marker.startswith(bare)

    def _certain(self) -> int:
        """Offset up to which nothing that may still come can change the text."""
        end = len(self.raw)
        if self.policy.framed:
            line = self.raw[self._line :]
            if self._is_marker_start(line) or (self.policy.fence and may_become_fence(line)):
                end = self._line
            elif self.policy.fence and not self._tracker.inner:
                # Backticks at the end of the line may be the frame's fence in the wrong place.
                bare = line.rstrip()
                end -= len(line) - len(bare.rstrip("`")) if bare.endswith("`") else 0
            for held in (self._tail, self._inner_marker):
                if held is not None and (
                    held == self._inner_marker or not line.strip() or self._is_marker_start(line)
                ):
                    end = min(end, held)
        for stop in self.policy.strings:
            for n in range(min(len(stop) - 1, len(self.raw)), 0, -1):
                if self.raw.endswith(stop[:n]):
                    end = min(end, len(self.raw) - n)
                    break
        return len(self.raw[:end].rstrip()) if self.policy.framed else end

    def _show(self, end: int) -> str:
        start, self._shown = self._shown, max(self._shown, end)
        text = self.raw[start : self._shown]
        if not self._begun:
            text = text.lstrip()
            self._begun = bool(text)
        return text

    def _end(self, at: int, reason: str) -> str:
        self.reason = reason
        kept = self.raw[:at]
        return self._show(len(kept.rstrip() if self.policy.framed else kept))
