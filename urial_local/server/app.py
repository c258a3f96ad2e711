"""The ASGI application: routes behind the gates, and the worker over its lifetime."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import Response

from urial_local.server import page
from urial_local.server.endpoints import Endpoints
from urial_local.server.errors import ApiError
from urial_local.server.gate import Catch, Gate
from urial_local.server.lanes import Lane
from urial_local.server.metrics import Metrics
from urial_local.server.own import Own
from urial_local.server.responses import error_reply
from urial_local.server.settings import MAX_BODY, ServeSettings
from urial_local.server.state import State
from urial_local.server.tokens import Tokens
from urial_local.server.worker import Worker

OpenLanes = Callable[[], AbstractContextManager[list[Lane]]]


def make_app(
    settings: ServeSettings,
    open_lanes: OpenLanes,
    on_ready: Callable[[], None] = lambda: None,
) -> Starlette:
    """`open_lanes` is called in the thread that computes. So is `on_ready`, once models are open or
    could not be: `app.state.urial.worker.fault` says which."""
    metrics = Metrics()
    worker = Worker(open_lanes, metrics, settings.stall)
    state = State(settings, worker, metrics)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        worker.start(on_ready)
        try:
            yield
        finally:
            await state.prepared(worker.stop)
            state.close()

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)
        metrics.rejected.labels(error.reason).inc()
        return error_reply(error)

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        said = {404: "There is no such address.", 405: "The address takes another method.",
                413: f"The body has more than {MAX_BODY >> 20} MB."}  # fmt: skip
        message = said.get(error.status_code, str(error.detail))
        own = ApiError(error.status_code, message, headers=error.headers)
        metrics.rejected.labels(own.reason).inc()
        return error_reply(own)

    app = Starlette(
        routes=[
            *Endpoints(state).routes(),
            *Tokens(state).routes(),
            *Own(state).routes(),
            *page.routes(),
        ],
        middleware=_middleware(settings, metrics),
        exception_handlers={ApiError: refused, HTTPException: http_error},
        lifespan=lifespan,
    )
    app.state.urial = state
    return app


def _middleware(settings: ServeSettings, metrics: Metrics) -> Sequence[Middleware]:
    found = [
        Middleware(Catch),
        Middleware(TrustedHostMiddleware, allowed_hosts=settings.hosts, www_redirect=False),
    ]
    if settings.allow_origins:  # exact ones, and never with credentials
        found.append(
            Middleware(
                CORSMiddleware,
                allow_origins=list(settings.allow_origins),
                allow_methods=["GET", "POST"],
                allow_headers=["authorization", "content-type"],
            )
        )
    # The limit is innermost, since it leaves by an exception of its own that nobody else may catch.
    return [
        *found,
        Middleware(Gate, settings=settings, metrics=metrics),
        Middleware(RequestBodyLimitMiddleware, max_body_size=MAX_BODY),
    ]
