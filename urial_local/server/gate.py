"""Who may ask: checked before anything of a request is read."""

from __future__ import annotations

import logging
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from urial_local.server.duty import told_where
from urial_local.server.errors import ApiError
from urial_local.server.metrics import Metrics
from urial_local.server.responses import error_reply
from urial_local.server.settings import ServeSettings

log = logging.getLogger("urial_local.server")
PUBLIC = ("/", "/health")  # the page itself holds nothing
SAFE = ("GET", "HEAD", "OPTIONS")


class Gate:
    """Refuses what pages of other sites send, whatever they call it, and what lacks the key."""

    def __init__(self, app: ASGIApp, settings: ServeSettings, metrics: Metrics) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        error = self._refusal(scope)
        if error is None:
            await self._app(scope, receive, send)
            return
        self._metrics.rejected.labels(error.reason).inc()
        await error_reply(error)(scope, receive, send)

    def _refusal(self, scope: Scope) -> ApiError | None:
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        if origin and scope["method"] not in SAFE and not self._trusts(origin, headers):
            return ApiError(
                403,
                "Requests from pages of other sites are refused; --allow-origin allows one.",
                code="foreign_origin",
            )
        if scope["path"] not in PUBLIC and not self._settings.admits(
            headers.get("authorization", "")
        ):
            return ApiError(
                401,
                "The key is missing or wrong.",
                code="invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )
        return None

    def _trusts(self, origin: str, headers: Headers) -> bool:
        """Our own page, or an origin that was allowed. Our own name is one of the allowed hosts."""
        if origin in self._settings.allow_origins:
            return True
        try:
            return urlsplit(origin).netloc == headers.get("host") != ""
        except ValueError:
            return False


class Catch:
    """The last resort: a defect of ours becomes a reply, and a line in the log that says where, but
    nothing of what was asked."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def noting(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except ClientDisconnect:
            pass  # amid its own request
        except Exception as error:
            log.error("%s", told_where(error))
            if not started and scope["type"] == "http":
                reply = error_reply(ApiError(500, "The server failed; its log says where."))
                await reply(scope, receive, send)
