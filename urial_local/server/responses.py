"""How answers leave: as one JSON object, or as a stream of events. Whoever closes the connection
ends the work for it, in either case, also while it waits in the queue."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from urial_local.server.answering import Answering, Job
from urial_local.server.errors import ApiError
from urial_local.server.state import State

STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # a proxy must not wait for more
}


def as_json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode(
        "utf-8", "replace"
    )


class Json(Response):
    """A JSON reply in UTF-8; a number that JSON lacks would be a defect of ours."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return as_json(content)


def error_reply(error: ApiError) -> Response:
    return Json(error.body(), error.status, error.headers)


class Answer:
    """Runs a job and sends what comes of it. An ASGI application for one request, which has been
    counted as open."""

    def __init__(self, state: State, job: Job) -> None:
        self._state, self._job = state, job

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answering = Answering(self._state, self._job)
        write = self._stream if self._job.stream else self._whole
        try:
            left = await unless_left(receive, lambda: write(answering, scope, receive, send))
            if left and answering.unfinished:
                self._state.metrics.disconnects.inc()
        finally:
            answering.close()
            self._state.leave()

    async def _whole(
        self, answering: Answering, scope: Scope, receive: Receive, send: Send
    ) -> None:
        reply: Response
        try:
            pieces = [piece async for piece in answering.pieces() if piece is not None]
        except ApiError as error:
            self._state.metrics.rejected.labels(error.reason).inc()
            reply = error_reply(error)
        else:
            reply = Json(self._job.shape.whole(pieces, answering.usage))
        await reply(scope, receive, send)

    async def _stream(
        self, answering: Answering, scope: Scope, receive: Receive, send: Send
    ) -> None:
        headers = [(k.encode(), v.encode()) for k, v in STREAM_HEADERS.items()]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async with contextlib.aclosing(self._events(answering)) as events:
            async for event in events:
                await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _events(self, answering: Answering) -> AsyncGenerator[bytes, None]:
        shape = self._job.shape
        yield b": ping\n\n"  # so that the headers go out at once
        for chunk in shape.first(choice.number for choice in self._job.choices):
            yield _event(chunk)
        try:
            async with contextlib.aclosing(answering.pieces()) as pieces:
                async for piece in pieces:
                    yield b": ping\n\n" if piece is None else _event(shape.chunk(piece))
        except ApiError as error:
            self._state.metrics.rejected.labels(error.reason).inc()
            yield _event(error.body())
        else:
            if self._job.usage:
                yield _event(shape.usage_chunk(answering.usage))
        yield b"data: [DONE]\n\n"


class Told:
    """The JSON that `make` gives. As with `Answer`, the request has been counted as open, and who
    leaves ends the work for it."""

    def __init__(self, state: State, make: Callable[[], Awaitable[Any]]) -> None:
        self._state, self._make = state, make

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def tell() -> None:
            await Json(await self._make())(scope, receive, send)

        try:
            if await unless_left(receive, tell):
                self._state.metrics.disconnects.inc()
        finally:
            self._state.leave()


def _event(value: Any) -> bytes:
    return b"data: " + as_json(value) + b"\n\n"


async def unless_left(receive: Receive, work: Callable[[], Coroutine[Any, Any, None]]) -> bool:
    """Do the work, unless the client leaves before it is done; then True. The request's body has
    been read."""

    async def left() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    working, leaving = asyncio.create_task(work()), asyncio.create_task(left())
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        gone = not working.done()
    finally:
        for task in (working, leaving):
            task.cancel()
        results = await asyncio.gather(working, leaving, return_exceptions=True)
    if isinstance(results[0], Exception):
        raise results[0]
    return gone
