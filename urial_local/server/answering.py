"""One request from its tokens to its pieces: what is ordered of the engine's thread, and how its
events become the pieces that are sent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from urial_local.runtime.rows import Request
from urial_local.server.choices import Choice, Given, Piece
from urial_local.server.errors import ApiError, draining
from urial_local.server.inbox import Event, Inbox, RowOrder, ScoreOrder
from urial_local.server.lanes import Lane
from urial_local.server.preparing import chat_requests, completion_requests, completion_tokens
from urial_local.server.requests import Chat, Completion
from urial_local.server.shapes import Shape, Usage
from urial_local.server.state import State


@dataclass(frozen=True)
class Job:
    """All that is known of a request before it is queued. Choices are n to a prompt, in order."""

    endpoint: str
    lane: Lane
    shape: Shape
    choices: tuple[Choice, ...]
    orders: tuple[RowOrder | ScoreOrder, ...]
    n: int
    stream: bool
    usage: bool  # at the end of a stream


def chat_job(lane: Lane, prompt: str, asked: Chat) -> Job:
    """Raises ApiError."""
    common = asked.common
    requests = chat_requests(lane, prompt, asked)
    names = lane.model.vocab
    shape = Shape("chat", common.model or lane.name, names, asked.logprobs, common.tokens)
    choices = tuple(Choice(i, names, request) for i, request in enumerate(requests))
    orders = tuple(_rows(requests, 0))
    return Job("chat", lane, shape, choices, orders, common.n, common.stream, common.usage)


def completion_job(lane: Lane, asked: Completion) -> Job:
    """Raises ApiError."""
    common = asked.common
    names = lane.model.vocab
    shape = Shape(
        "text",
        common.model or lane.name,
        names,
        asked.logprobs,
        common.tokens,
        asked.names_as_ids,
    )
    scored = asked.echo and asked.logprobs is not None
    choices: list[Choice] = []
    orders: list[RowOrder | ScoreOrder] = []
    for number, tokens in enumerate(completion_tokens(lane, asked)):
        requests = completion_requests(lane, asked, tokens)
        given = asked.prompts[number]
        echoed = Given(tokens, given if isinstance(given, str) else None)
        told = scored and bool(requests) and _is_one_greedy_token(requests[0])
        first = len(choices)
        for i in range(common.n):
            request = requests[i] if requests and not told else None
            shown = echoed if asked.echo or request is None else None
            choices.append(Choice(first + i, names, request, shown, scored, told, asked.echo))
        if scored:
            orders.append(ScoreOrder(number, tokens))
        if requests and not told:
            orders += _rows(requests, first)
    # Prompts that begin alike follow on each other, so that what they share is scored once.
    orders.sort(key=lambda o: list(o.tokens) if isinstance(o, ScoreOrder) else [])
    return Job(
        "completions",
        lane,
        shape,
        tuple(choices),
        tuple(orders),
        common.n,
        common.stream,
        common.usage,
    )


def _rows(requests: Sequence[Request], first: int) -> list[RowOrder]:
    return [
        RowOrder(first + i, request, first if i else None) for i, request in enumerate(requests)
    ]


def _is_one_greedy_token(request: Request) -> bool:
    """Whether scoring the prompt tells all that the engine would: the one most probable token."""
    sampling = request.sampling
    plain = sampling.temperature == 0 and sampling.repeat_penalty == 1
    simple = plain and not request.stop.strings and not request.measured and not request.tilt
    return request.max_tokens == 1 and simple


class Answering:
    """A job under way. Iterate over `pieces` once, then look at `usage`; `close` leaves what is not
    done."""

    def __init__(self, state: State, job: Job) -> None:
        self.job, self.usage = job, Usage()
        self._state = state
        self._inbox = Inbox(asyncio.get_running_loop(), job.endpoint)

    @property
    def unfinished(self) -> bool:
        return any(choice.open for choice in self.job.choices)

    def close(self) -> None:
        if self.unfinished:
            self._state.worker.cancel(self._inbox)

    async def pieces(self) -> AsyncGenerator[Piece | None, None]:
        """Each piece as it comes; None where a stream was silent for so long that it is time for a
        sign of life. Raises ApiError where the request fails."""
        job, ping = self.job, self._state.settings.ping
        if job.orders:
            self._state.worker.submit(job.lane.name, self._inbox, job.orders)
        for choice in job.choices:
            for piece in choice.begin():
                yield self._counted(piece)
        latest = time.monotonic()
        while self.unfinished:
            event = await self._inbox.get(max(0.0, latest + ping - time.monotonic()))
            found = self._taken(event) if event else []
            for piece in found:
                yield self._counted(piece)
            if not found and time.monotonic() >= latest + ping:
                yield None
                latest = time.monotonic()
            elif found:
                latest = time.monotonic()

    def _taken(self, event: Event) -> list[Piece]:
        if event.error:
            raise draining() if event.draining else ApiError(500, event.error, code="failed")
        job = self.job
        if event.scored is not None:
            at = event.tag * job.n
            return [p for c in job.choices[at : at + job.n] for p in c.scored(event.scored)]
        assert event.step is not None
        done = event.step.completion
        if done is not None and done.finish_reason == "error":
            raise ApiError(500, done.error, code="failed")
        return list(job.choices[event.tag].step(event.step))

    def _counted(self, piece: Piece) -> Piece:
        if piece.done is not None:
            self.usage.take(piece.choice // self.job.n, piece.done)
            if self.job.choices[piece.choice].request is None:  # the engine did not count it
                metrics = self._state.metrics
                metrics.ended(self.job.lane.name, self.job.endpoint, piece.done)
        return piece
