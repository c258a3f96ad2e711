"""The chat page: one static file, put together when it is asked for first. Its own script and style
may run, by their hashes, and nothing else; it may ask this server and nobody else."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from urial_local.base.paths import shipped

SCRIPTS = (
    "dom.js",
    "markdown.js",
    "api.js",
    "talk.js",
    "checked.js",
    "store.js",
    "settings.js",
    "answering.js",
    "tokens.js",
    "likely.js",
    "exact.js",
    "turns.js",
    "side.js",
    "chat.js",
)
_INLINE = re.compile(r"<(script|style)(?:\s[^>]*)?>(.*?)</\1>", re.DOTALL)


def routes() -> list[Route]:
    return [Route("/", page)]


async def page(request: Request) -> Response:
    text = assembled()
    return HTMLResponse(text, headers=headers(text))


@cache
def assembled() -> str:
    """The page: markup, with the style and the scripts in it."""

    def template(name: str) -> str:
        return shipped(f"templates/server/{name}").read_text("utf-8")

    script = "\n".join(map(template, SCRIPTS))
    text = template("chat.html").replace("/* style */", template("chat.css"))
    return text.replace("/* script */", script)


def headers(text: str) -> dict[str, str]:
    """What a browser must know of the page before it reads it."""
    hashes: dict[str, list[str]] = {"script": [], "style": []}
    for kind, inner in _INLINE.findall(text):
        digest = base64.b64encode(hashlib.sha256(inner.encode("utf-8")).digest()).decode()
        hashes[kind].append(f"'sha256-{digest}'")
    policy = {
        "default-src": "'none'",
        "script-src": " ".join(hashes["script"]) or "'none'",
        "style-src": " ".join(hashes["style"]) or "'none'",
        "img-src": "data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    return {
        "content-security-policy": "; ".join(f"{k} {v}" for k, v in policy.items()),
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "cache-control": "no-cache",
    }
