"""Runs the server until it is told to stop, and lets answers end before it does."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from urial_local.base.errors import UsageError
from urial_local.base.formats import counted
from urial_local.server.app import OpenLanes, make_app
from urial_local.server.settings import ServeSettings
from urial_local.server.state import State

LAST = 2.0  # seconds in which requests that were ended are told so
BACKLOG = 2048  # connections that were not taken yet
HEADERS = 64 << 10  # bytes of a request's head
# A machine that is gone says nothing, not even that it left: after so many seconds of silence its
# system is asked whether it is there, so many times at such a distance.
GONE = {"TCP_KEEPIDLE": 20, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 4}


class Server(uvicorn.Server):
    """uvicorn, but a signal drains first: no new requests, and those in flight may end. A second
    signal ends them at once."""

    def __init__(self, app: Starlette, on_drain: Callable[[int], None] = lambda open: None) -> None:
        config = uvicorn.Config(
            app,
            lifespan="on",
            access_log=False,  # addresses of requests are nobody's business
            log_config=None,
            server_header=False,
            h11_max_incomplete_event_size=HEADERS,
            timeout_graceful_shutdown=int(LAST) + 1,
        )
        super().__init__(config)
        self._state: State = app.state.urial
        self._on_drain = on_drain
        self._draining: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """From a signal handler, or any thread."""
        with contextlib.suppress(RuntimeError):  # it has ended meanwhile
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._begin_drain)

    def _begin_drain(self) -> None:
        if self._draining is None:
            self._state.draining = True
            self._on_drain(self._state.open)
            self._draining = asyncio.create_task(self._drain())
        else:
            self._state.worker.end_all()

    async def _drain(self) -> None:
        if not await self._state.quiet(self._state.settings.drain):
            self._state.worker.end_all()
            await self._state.quiet(LAST)
        self.should_exit = True

    def end(self) -> None:
        """Leave without draining, from any thread: the models could not be opened."""
        self.should_exit = True


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises UsageError where that cannot be."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named as TCP: only for such sockets does asyncio turn off the wait for more to send, which
    # costs 40 ms a reply.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # connections inherit these
        for name, value in GONE.items():
            if (option := getattr(socket, name, None)) is not None:
                listening.setsockopt(socket.IPPROTO_TCP, option, value)
        listening.bind((host, port))
        listening.listen(BACKLOG)
        return listening
    except (OSError, OverflowError) as error:
        listening.close()
        said = getattr(error, "strerror", None) or error
        raise UsageError(
            f"The server cannot listen on {host}, port {port}: {said}.",
            "Choose another port with --port; 0 takes a free one.",
        ) from None


def serve(
    settings: ServeSettings,
    open_lanes: OpenLanes,
    tell: Callable[[str], None] = lambda text: None,
) -> None:
    """Serve until a signal comes. `tell` hears what an operator wants to know.

    Raises UsageError where the address is taken, ModelError where a model cannot be opened."""
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    listening = listen(settings.host, settings.port)
    name = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"http://{name}:{listening.getsockname()[1]}"

    def on_ready() -> None:
        worker = app.state.urial.worker
        if worker.fault is not None:
            server.end()
            return
        for lane in worker.lanes.values():
            tell(f"{lane.name}: {lane.plan.file.title}, prompt {lane.default.name},"
                 f" {lane.ctx_size:,} tokens a row")  # fmt: skip
            if lane.remark:
                tell(lane.remark)
        tell(f"Ready: {address} (the chat page), {address}/v1 (OpenAI's API). Ctrl-C stops it.")

    def on_drain(open: int) -> None:
        if open:
            rest = counted(open, "request is", "requests are")
            tell(f"Stopping once {rest} answered; again to stop at once.")

    app = make_app(settings, open_lanes, on_ready)
    server = Server(app, on_drain)
    tell(f"Loading; {address}/health says when it is ready.")
    server.run(sockets=[listening])
    fault = app.state.urial.worker.fault
    if fault is not None:
        raise fault
