"""A request's body, read whole before anything is done about it."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from urial_local.server.errors import ApiError
from urial_local.server.fields import Fields, decoded

SLOWEST = 60.0  # seconds for all of it


async def fields_of(request: Request) -> Fields:
    """Raises ApiError for what is not a JSON object, or comes too slowly."""
    try:
        async with asyncio.timeout(SLOWEST):
            body = await request.body()
    except TimeoutError:
        raise ApiError(408, "The body did not arrive within a minute.", code="slow_body") from None
    return decoded(body)
