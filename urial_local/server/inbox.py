"""What the engine's thread has for one request, on its way to the event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from urial_local.runtime.prompt_scores import ScoreJob
from urial_local.runtime.rows import Request, Step

UNREAD = 256  # events; then the request's rows wait for their reader


@dataclass(frozen=True, slots=True)
class RowOrder:
    """An answer to be written. Its events carry the tag. `after`: the tag of another answer to the
    same prompt, which goes first, so that this one begins with what that has read."""

    tag: int
    request: Request
    after: int | None = None


@dataclass(frozen=True, slots=True)
class ScoreOrder:
    """A prompt to be scored, from its token `first` on."""

    tag: int
    tokens: Sequence[int]
    first: int = 1


@dataclass(frozen=True, slots=True)
class Event:
    """One of: a step of a row, a prompt's scores, an error that ends the whole request."""

    tag: int = -1
    step: Step | None = None
    scored: ScoreJob | None = None
    error: str = ""
    draining: bool = False


ENDING = Event(error="The server is shutting down.", draining=True)


class Inbox:
    """The events of one request. The engine's thread puts, the event loop gets."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, endpoint: str = "", unread: int = UNREAD
    ) -> None:
        self.endpoint, self.most = endpoint, unread
        self._loop = loop
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._put = self._got = 0  # each counted by one thread only
        self.held = False  # whether rows wait for the reader
        self.on_read: Callable[[], None] = lambda: None  # called once they need not any more

    @property
    def full(self) -> bool:
        return self._put - self._got >= self.most

    @property
    def drained(self) -> bool:
        return self._put - self._got <= self.most // 4

    def put(self, event: Event) -> None:
        """From the engine's thread."""
        self._put += 1
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it the reader
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    async def get(self, patience: float) -> Event | None:
        """The next event; None where none came within so many seconds."""
        if self._events.empty():
            try:
                # Not wait_for: in Python 3.11 it can swallow the news that the reader has left.
                async with asyncio.timeout(patience):
                    event = await self._events.get()
            except TimeoutError:
                return None
        else:
            event = self._events.get_nowait()
        self._got += 1
        if self.held and self.drained:
            self.held = False
            self.on_read()
        return event
