"""The chat page: one static file. Its own script and style may run, by their hashes, and nothing
else; it may ask this server and nobody else."""

from __future__ import annotations

import base64
import hashlib
import re

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from urial_local.base.paths import shipped

FILE = "templates/server/chat.html"
PLAIN = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>urial-local</title></head>
<body><h1>urial-local</h1>
<p>This is a server of OpenAI's API, at <code>/v1</code>: <code>/v1/models</code> lists what it
serves, <code>/health</code> says whether it is ready.</p>
</body></html>
"""
_INLINE = re.compile(r"<(script|style)(?:\s[^>]*)?>(.*?)</\1>", re.DOTALL)


def routes() -> list[Route]:
    return [Route("/", page)]


async def page(request: Request) -> Response:
    file = shipped(FILE)
    text = file.read_text("utf-8") if file.is_file() else PLAIN
    return HTMLResponse(text, headers=headers(text))


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
