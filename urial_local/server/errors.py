"""What a client is told in place of an answer, in OpenAI's shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from urial_local.base.errors import ContextOverflow, UrialError

TOO_LONG = "context_length_exceeded"


class ApiError(Exception):
    """`param` names the field that is wrong, `reason` is the label in the metric of rejections."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
        reason: str = "",
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        # The openai client asks again after some errors; these would only fail again.
        self.headers = {**({"x-should-retry": "false"} if status < 429 else {}), **(headers or {})}
        self.reason = reason or code or {400: "invalid"}.get(status, str(status))

    @property
    def type(self) -> str:
        if self.status in (401, 403):
            return "authentication_error"
        if self.status == 429:
            return "rate_limit_error"
        return "invalid_request_error" if self.status < 500 else "server_error"

    def body(self) -> dict[str, Any]:
        error = {
            "message": self.message,
            "type": self.type,
            "param": self.param,
            "code": self.code,
        }
        return {"error": error}


def wrong(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """A request that makes no sense."""
    return ApiError(400, message, param=param, code=code)


def too_long(tokens: int, ctx_size: int, param: str) -> ApiError:
    return wrong(
        f"This model's context has {ctx_size:,} tokens, and the prompt has {tokens:,}: no room is"
        " left for an answer. Shorten the prompt or the conversation.",
        param,
        TOO_LONG,
    )


def told(error: UrialError, param: str) -> ApiError:
    """One of our own errors about what the client sent."""
    code = TOO_LONG if isinstance(error, ContextOverflow) else None
    return wrong(error.message, param, code)


def draining() -> ApiError:
    return ApiError(
        503,
        "The server is shutting down.",
        code="draining",
        headers={"retry-after": "5"},
    )
