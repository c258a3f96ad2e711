"""Where an endpoint is, with what key, and the client that asks it: one that sends nothing on to
another address, and reads no more than a reply may have."""

from __future__ import annotations

import base64
import ipaddress
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from urial_local.base.addresses import without_secrets
from urial_local.base.errors import UsageError
from urial_local.base.guarded import CONNECT, Bounds, GuardedTransport, http_library

if TYPE_CHECKING:
    import openai

LARGEST_BODY = 1 << 21  # bytes of all that is sent with a reply, the judge's thoughts for one
NO_KEY = "none"  # for a server nearby that wants none; the client insists on one
SHORTEST_SECRET = 4  # characters: what is shorter may be part of any word
_SENT = ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_CUSTOM_HEADERS")  # by the client, as heads


@dataclass(frozen=True, slots=True, repr=False)
class Address:
    """An endpoint's base URL and key. `host` is what may be written of it."""

    url: str
    key: str
    host: str

    def unsaid(self, text: str) -> str:
        """A text of the endpoint's, in which it may repeat what it was sent, without the key and
        the address's password and query."""
        for secret in self._secrets():
            text = text.replace(secret, "…")
        return text

    def _secrets(self) -> list[str]:
        """The longest first."""
        parts = urlsplit(self.url)
        login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        found = {parts.query, *(value for _, value in parse_qsl(parts.query))}
        if parts.password:
            found |= {parts.password, unquote(parts.password)}
            found.add(base64.b64encode(login.encode("utf-8", "replace")).decode())
        found = {secret for secret in found if len(secret) >= SHORTEST_SECRET}
        return sorted(found | ({self.key} - {NO_KEY}), key=len, reverse=True)


def address(url: str) -> Address:
    """Raises UsageError for a malformed address, and for a key that is lacking or malformed."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port  # which is read here for its errors
    except ValueError:
        host = ""
    if not host or parts.scheme not in ("http", "https"):
        hint = "For example `base_url=http://127.0.0.1:8080/v1`"
        raise UsageError("The base URL is not an http:// or https:// address.", hint)
    shown = without_secrets(f"http://{parts.netloc}").partition("://")[2]
    for name in _SENT:
        if not os.environ.get(name, "").isascii():
            raise UsageError(f"{name} has characters that cannot be sent.", f"Unset {name}.")
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    try:
        near = ipaddress.ip_address(host).is_private
    except ValueError:
        near = "." not in host or host.endswith((".local", ".localhost"))
    if not key and near:
        return Address(url, NO_KEY, shown)
    if not key or not key.isascii() or not key.isprintable():
        state = "is not a key" if key else "is not set"
        raise UsageError(f"{shown} wants a key, and OPENAI_API_KEY {state}.", "Set OPENAI_API_KEY.")
    return Address(url, key, shown)


def client(library: Any, asked: Address, seconds: float) -> openai.OpenAI:
    """A client of the openai package, for one thread. A reply may take a second more than the
    silence that ends a try, since only of a silent server another try may bring more."""
    http = http_library(library.DefaultHttpxClient)
    bounds = Bounds(LARGEST_BODY, seconds + 1)
    timeout = http.Timeout(seconds, connect=min(seconds, CONNECT))
    transport = GuardedTransport(http, lambda: bounds)
    plain, _, query = asked.url.partition("#")[0].partition("?")
    found: openai.OpenAI = library.OpenAI(
        api_key=asked.key,
        base_url=plain,
        default_query=dict(parse_qsl(query, keep_blank_values=True)),
        timeout=timeout,
        max_retries=0,
        http_client=http.Client(transport=transport, timeout=timeout, follow_redirects=False),
    )
    return found
