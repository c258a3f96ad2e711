"""OpenAI's endpoints, and those around them that clients and operators look for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from urial_local.server import requests
from urial_local.server.answering import Job, chat_job, completion_job
from urial_local.server.body import fields_of
from urial_local.server.fields import Fields
from urial_local.server.metrics import CONTENT_TYPE_LATEST
from urial_local.server.responses import Answer, Json
from urial_local.server.state import State

Endpoint = Callable[[Request], Awaitable[Response]]


class Endpoints:
    """The handlers, over one state."""

    def __init__(self, state: State) -> None:
        self._state = state

    def routes(self) -> list[Route]:
        return [
            Route("/health", self.health),
            Route("/metrics", self.metrics),
            Route("/v1/models", self.models),
            Route("/v1/models/{name:path}", self.model),
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/v1/completions", self.completions, methods=["POST"]),
        ]

    async def health(self, request: Request) -> Response:
        if self._state.draining or not self._state.ready:
            status = "draining" if self._state.draining else "loading"
            return Json({"status": status}, 503, {"retry-after": "1"})
        return Json({"status": "ok"})

    async def metrics(self, request: Request) -> Response:
        return Response(self._state.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    async def models(self, request: Request) -> Response:
        self._state.check_ready()
        return Json({"object": "list", "data": [self._model(n) for n in self._state.names()]})

    async def model(self, request: Request) -> Response:
        self._state.check_ready()
        name = request.path_params["name"]
        self._state.named(name)
        return Json(self._model(name))

    def _model(self, name: str) -> dict[str, Any]:
        lane, prompt = self._state.named(name)
        return {
            "id": name,
            "object": "model",
            "created": lane.opened,
            "owned_by": "urial-local",
            "urial": {
                "model": lane.name,
                "prompt": prompt,
                "ctx_size": lane.ctx_size,
                **({"guide": lane.plan.guide.config()} if lane.plan.guide else {}),
            },
        }

    async def chat(self, request: Request) -> ASGIApp:
        def job(fields: Fields) -> Job:
            asked = requests.chat(fields)
            lane, prompt = self._state.named(asked.common.model)
            return chat_job(lane, prompt, asked)

        return await self._answer(request, job)

    async def completions(self, request: Request) -> ASGIApp:
        def job(fields: Fields) -> Job:
            asked = requests.completion(fields)
            lane, _ = self._state.named(asked.common.model)
            return completion_job(lane, asked)

        return await self._answer(request, job)

    async def _answer(self, request: Request, job: Callable[[Fields], Job]) -> ASGIApp:
        fields = await fields_of(request)
        self._state.enter()
        try:
            made = await self._state.prepared(lambda: job(fields))
        except BaseException:
            self._state.leave()
            raise
        return Answer(self._state, made)
