"""Scores of given tokens for a request that waits for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from urial_local.runtime.prompt_scores import ScoreJob
from urial_local.server.errors import ApiError, draining
from urial_local.server.inbox import Inbox, ScoreOrder
from urial_local.server.state import State

LOOK = 1.0  # seconds


async def scored(state: State, orders: Mapping[str, ScoreOrder]) -> dict[str, ScoreJob]:
    """One prompt for each lane, by the lane's name. Raises ApiError where one cannot be scored."""
    inbox = Inbox(asyncio.get_running_loop())
    names = list(orders)
    found: dict[str, ScoreJob] = {}
    try:
        for number, name in enumerate(names):
            order = orders[name]
            tagged = ScoreOrder(number, order.tokens, order.first)
            state.worker.submit(name, inbox, [tagged])
        while len(found) < len(names):
            event = await inbox.get(LOOK)
            if event is None:
                continue
            if event.error:
                raise draining() if event.draining else ApiError(500, event.error, code="failed")
            assert event.scored is not None
            found[names[event.tag]] = event.scored
    finally:
        if len(found) < len(names):
            state.worker.cancel(inbox)
    return found
