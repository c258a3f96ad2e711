"""What the chat page asks beyond OpenAI's endpoints: what there is, the exact prompt, what else
was likely at a token, what alignment changed, and to save a conversation. See docs/serve.md."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from urial_local import __version__
from urial_local.base import limits
from urial_local.base.errors import UsageError
from urial_local.runtime.prompt_scores import Scored
from urial_local.runtime.vocabulary_pair import compare_vocabularies
from urial_local.server import requests
from urial_local.server.body import fields_of
from urial_local.server.entries import finite, laid_out, likely, token_text
from urial_local.server.errors import ApiError, too_long, wrong
from urial_local.server.fields import Fields
from urial_local.server.inbox import ScoreOrder
from urial_local.server.lanes import Lane
from urial_local.server.preparing import Talk, chat_tokens, talk_of
from urial_local.server.responses import Json, Told
from urial_local.server.saving import save
from urial_local.server.scoring import scored
from urial_local.server.state import State
from urial_local.tasks.shift.classes import CLASSES, classes

TOP = 10  # tokens that are shown in place of one


@dataclass(frozen=True, slots=True)
class Place:
    """A conversation under one model's prompt, and ids of the answer to it."""

    lane: Lane
    prompt: list[int]
    ids: list[int]

    @property
    def tokens(self) -> list[int]:
        return [*self.prompt, *self.ids]


class Own:
    """The handlers, over one state."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._difference: str | None = None  # of the two vocabularies, once they were compared

    def routes(self) -> list[Route]:
        def post(path: str, make: Callable[[Fields], Awaitable[dict[str, Any]]]) -> Route:
            async def handler(request: Request) -> ASGIApp:
                fields = await fields_of(request)
                self._state.enter()
                return Told(self._state, lambda: make(fields))

            return Route(path, handler, methods=["POST"])

        return [
            Route("/api/info", self.info),
            post("/api/render", self.render),
            post("/api/top", self.top),
            post("/api/shift", self.shift),
            post("/api/save", self.save),
        ]

    # --- what there is ----------------------------------------------------------------------------

    async def info(self, request: Request) -> Response:
        self._state.check_ready()
        lanes = list(self._state.worker.lanes.values())
        return Json(
            {
                "version": __version__,
                "llama_cpp_python": importlib.metadata.version("llama-cpp-python"),
                "models": [_about(lane) for lane in lanes],
                "pair": await self._pair(),
                "saves": self._state.settings.runs is not None,
                "key": bool(self._state.settings.key),
            }
        )

    async def _pair(self) -> dict[str, Any] | None:
        lanes = list(self._state.worker.lanes.values())
        if len(lanes) < 2:
            return None
        difference = await self._compared()
        return {
            "base": lanes[0].name,
            "aligned": lanes[1].name,
            "comparable": not difference,
            "difference": difference,
        }

    async def _compared(self) -> str:
        """The first difference between the two vocabularies; an empty text where there is none."""
        if self._difference is None:
            base, aligned = list(self._state.worker.lanes.values())[:2]

            def difference() -> str:
                try:
                    pair = compare_vocabularies(base.model.vocab, aligned.model.vocab)
                except UsageError as error:
                    return error.message
                return pair.difference

            self._difference = await self._state.prepared(difference)
        return self._difference

    # --- the exact prompt -------------------------------------------------------------------------

    async def render(self, fields: Fields) -> dict[str, Any]:
        place = (await self._places(fields, [fields.text("model")]))[0]
        names, tokens = place.lane.model.vocab, place.tokens
        text, starts = laid_out(names, tokens, None)
        engine = place.lane.engine
        every = range(engine.decoder.n_seq)
        cached = await self._state.computed(
            lambda: max(engine.held.usable(s, tokens[:-1]) for s in every)
        )
        return {
            "text": text,
            "tokens": [
                {"id": token, "text": token_text(names, token), "offset": start}
                for token, start in zip(tokens, starts, strict=True)
            ],
            "cached_tokens": cached,
            "ctx_size": place.lane.ctx_size,
        }

    # --- what else was likely --------------------------------------------------------------------

    async def top(self, fields: Fields) -> dict[str, Any]:
        """`ids` of an answer, and a `position` in it: the most probable tokens there, under each of
        `models`."""
        asked = fields.items("models", 8) or list(self._state.worker.lanes)
        if not all(isinstance(name, str) for name in asked):
            raise wrong("models must be a list of model names.", "models")
        ids = fields.ids("ids", limits.TOKENS)
        position = fields.whole("position", 0, len(ids), len(ids))
        places = await self._places(fields, asked, ids[: position + 1])
        await self._refuse_unlike(places)
        told = {}
        for name, place in zip(asked, places, strict=True):
            at = len(place.prompt) + position
            order = ScoreOrder(0, place.tokens, at)
            job = (await scored(self._state, {place.lane.name: order}))[place.lane.name]
            here = job.scores[at] if position < len(ids) else job.next
            assert here is not None
            told[name] = _top(place.lane, here, position < len(ids))
        return {"position": position, "models": told}

    async def shift(self, fields: Fields) -> dict[str, Any]:
        """Of each of `ids`, an answer to `messages`: rank and log-probability in both models, and
        what class of shift that is."""
        lanes = list(self._state.worker.lanes)
        if len(lanes) < 2:
            raise wrong("Only a pair of models can be compared: serve with --aligned.")
        ids = fields.ids("ids", limits.TOKENS)
        if not ids:
            raise wrong("ids must hold the tokens of an answer.", "ids")
        names = [fields.text("base", lanes[0]), fields.text("aligned", lanes[1])]
        places = await self._places(fields, names, ids)
        if [place.lane.name for place in places] != lanes[:2]:
            raise wrong(f"base must be of {lanes[0]}, and aligned of {lanes[1]}.", "base")
        await self._refuse_unlike(places)
        jobs = await scored(
            self._state, {p.lane.name: ScoreOrder(0, p.tokens, len(p.prompt)) for p in places}
        )
        found = [_found(jobs[p.lane.name].scores[len(p.prompt) :]) for p in places]
        ranks = np.array([score.rank for score in found[0]], np.int32)
        kinds = classes(np.zeros(len(ids), np.int32), ranks)
        names_of = places[0].lane.model.vocab
        return {
            "tokens": [
                {
                    "id": token,
                    "text": token_text(names_of, token),
                    "class": CLASSES[kind],
                    "base": {"rank": base.rank, "logprob": finite(base.logprob)},
                    "aligned": {"rank": aligned.rank, "logprob": finite(aligned.logprob)},
                }
                for token, kind, base, aligned in zip(ids, kinds, *found, strict=True)
            ]
        }

    async def _refuse_unlike(self, places: list[Place]) -> None:
        """Raises ApiError where ids would mean other tokens in another model."""
        if len({place.lane.name for place in places}) > 1 and (said := await self._compared()):
            raise wrong(f"The two models cannot be compared by token. {said}", "models")

    async def _places(
        self, fields: Fields, models: list[str], ids: list[int] | None = None
    ) -> list[Place]:
        """The conversation under each model's prompt. Raises ApiError."""
        messages = requests.messages(fields)
        talk = talk_of(messages, messages[-1].role == "assistant")
        given = fields.ids("ids", limits.TOKENS) if ids is None else ids

        def place(name: str) -> Place:
            lane, prompt = self._state.named(name)
            return placed(lane, prompt, talk, given)

        return await self._state.prepared(lambda: [place(name) for name in models])

    # --- keeping it -------------------------------------------------------------------------------

    async def save(self, fields: Fields) -> dict[str, Any]:
        folder = self._state.settings.runs
        if folder is None:
            raise ApiError(
                403, "This server saves nothing: start it with --runs FOLDER.", code="not_saving"
            )
        lane, prompt = self._state.named(fields.text("model"))
        return await self._state.prepared(lambda: save(folder, lane, prompt, fields))


def placed(lane: Lane, prompt: str, talk: Talk, ids: list[int]) -> Place:
    """Raises ApiError, also for what does not fit the context."""
    request, _ = chat_tokens(lane, prompt, talk)
    size = lane.model.vocab.size
    for token in ids:
        if token >= size:
            raise wrong(f"ids holds the id {token}; this vocabulary has {size:,}.", "ids")
    if len(request.tokens) + len(ids) > lane.ctx_size:
        raise too_long(len(request.tokens) + len(ids), lane.ctx_size, "ids")
    return Place(lane, list(request.tokens), ids)


def _found(scores: list[Scored | None]) -> list[Scored]:
    return [score for score in scores if score is not None]


def _top(lane: Lane, here: Scored, given: bool) -> dict[str, Any]:
    names = lane.model.vocab
    token = {
        "id": here.token,
        "text": token_text(names, here.token),
        "rank": here.rank,
        "logprob": finite(here.logprob),
    }
    pairs = list(zip(here.ids, here.logprobs, strict=True))[:TOP]
    return {
        "token": token if given else None,
        "top": [likely(names, token, logprob) for token, logprob in pairs],
    }


def _about(lane: Lane) -> dict[str, Any]:
    return {
        "name": lane.name,
        "title": lane.plan.file.title,
        "prompt": lane.default.name,
        "prompts": [
            {"name": name, "description": prompt.description, "shots": len(prompt.examples)}
            for name, prompt in lane.prompts.items()
        ],
        "remark": lane.remark,
        "ctx_size": lane.ctx_size,
        "vocab_size": lane.model.vocab.size,
        "parallel": lane.plan.runtime.parallel,
        "exact": lane.plan.exact,
        "chat_template": bool(lane.model.chat_template),
        "fingerprint": lane.plan.file.fingerprint,
        "guide": lane.plan.guide.config() if lane.plan.guide else None,
    }
