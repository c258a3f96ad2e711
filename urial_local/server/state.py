"""What all endpoints share: the worker, who is being answered, and whether more may come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from urial_local.server.errors import ApiError, draining
from urial_local.server.lanes import Lane
from urial_local.server.metrics import Metrics
from urial_local.server.settings import ServeSettings
from urial_local.server.worker import Worker

T = TypeVar("T")


class State:
    """Event loop only. Made once for a server."""

    def __init__(self, settings: ServeSettings, worker: Worker, metrics: Metrics) -> None:
        self.settings, self.worker, self.metrics = settings, worker, metrics
        self.draining = False
        self.open = 0  # requests that are being answered, or wait
        self._quiet = asyncio.Event()
        # Rendering and tokenising, one at a time and beside the event loop.
        self._desk = ThreadPoolExecutor(1, "prepare")

    @property
    def ready(self) -> bool:
        return self.worker.ready.is_set() and self.worker.fault is None

    async def prepared(self, make: Callable[[], T]) -> T:
        """The result of what takes a while, without holding up other requests."""
        return await asyncio.get_running_loop().run_in_executor(self._desk, make)

    async def computed(self, make: Callable[[], T]) -> T:
        """The result of what only the engine's thread may look at."""
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return  # who asked has left
            try:
                future.set_result(make())
            except Exception as error:
                future.set_exception(error)

        self.worker.call(run)
        return await asyncio.wrap_future(future)

    def check_ready(self) -> None:
        """Raises ApiError while models load and while the server drains."""
        if self.draining:
            raise draining()
        if not self.ready:
            raise ApiError(
                503, "The model is being loaded.", code="loading", headers={"retry-after": "1"}
            )

    def enter(self) -> None:
        """One more request. Raises ApiError where there are too many."""
        self.check_ready()
        room = sum(lane.plan.runtime.parallel for lane in self.worker.lanes.values())
        if self.open >= self.settings.queue + room:
            raise ApiError(
                429,
                f"{self.open:,} requests are being answered or waiting; try again later.",
                code="queue_full",
                headers={"retry-after": "1"},
            )
        self.open += 1

    def leave(self) -> None:
        self.open -= 1
        if not self.open:
            self._quiet.set()

    async def quiet(self, seconds: float) -> bool:
        """Wait until no request is open; False where that takes longer."""
        self._quiet.clear()
        if not self.open:
            return True
        try:
            async with asyncio.timeout(seconds):
                await self._quiet.wait()
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        self._desk.shutdown(wait=False, cancel_futures=True)

    # --- names of models --------------------------------------------------------------------------

    def names(self) -> dict[str, tuple[Lane, str]]:
        """All names that requests may use, with the lane and the prompt that they mean."""
        found = {}
        for lane in self.worker.lanes.values():
            found[lane.name] = (lane, lane.default.name)
            for prompt in lane.prompts:
                found[f"{lane.name}:{prompt}"] = (lane, prompt)
        return found

    def named(self, name: str) -> tuple[Lane, str]:
        """Raises ApiError for a name that no model has; without a name it is the first."""
        names = self.names()
        if not name:
            return next(iter(names.values()))
        if name not in names:
            raise ApiError(
                404,
                f"There is no model {name[:100]!r}; GET /v1/models lists them.",
                param="model",
                code="model_not_found",
            )
        return names[name]
