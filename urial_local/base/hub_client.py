"""How huggingface_hub speaks to the hub: by our guarded transport, with a token that can be sent,
and with remarks that drive no terminal and tell no secrets."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from contextvars import ContextVar
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from urial_local.base.addresses import without_secrets
from urial_local.base.guarded import Bounds, GuardedTransport, http_library
from urial_local.base.hub import constants
from urial_local.base.proxies import NetworkSettings
from urial_local.base.terminal import printable

# The largest descriptions of repositories, with a line for each of some 30,000 files.
DESCRIPTION = Bounds(16 << 20, 60.0)
PACE = 1 << 16  # bytes of a download that must come within a minute
LARGEST = 50 * 10**9  # bytes of a file; the hub sends larger ones by Xet only
LONGEST_WAIT = 60  # seconds that a hub may ask us to wait
_bounds: ContextVar[Bounds] = ContextVar("bounds", default=DESCRIPTION)


@contextlib.contextmanager
def download_of(size: int | None) -> Iterator[None]:
    """Inside, replies are a file of so many bytes: in a time that is measured by its pace."""
    before = _bounds.set(Bounds(LARGEST if size is None else size, DESCRIPTION.seconds, PACE))
    try:
        yield
    finally:
        _bounds.reset(before)


def use_our_client() -> None:
    """Raises NetworkSettings where the environment's endpoint or token cannot be used."""
    _check_endpoint(constants().ENDPOINT)
    _check_token()
    _install()


@cache
def _install() -> None:
    from huggingface_hub import errors, set_client_factory

    http = http_library(errors.HfHubHTTPError)

    def client() -> Any:
        return http.Client(
            transport=GuardedTransport(http, _bounds.get),
            follow_redirects=True,
            timeout=DESCRIPTION.seconds,
            event_hooks={"request": [_not_offline], "response": [_no_long_waits]},
        )

    set_client_factory(client)
    for handler in logging.getLogger("huggingface_hub").handlers:
        handler.addFilter(_harmless)


def _not_offline(request: Any) -> None:
    from huggingface_hub import errors

    if constants().HF_HUB_OFFLINE:
        raise errors.OfflineModeIsEnabled("HF_HUB_OFFLINE is set")


def _no_long_waits(response: Any) -> None:
    """huggingface_hub sleeps for as long as it is asked to, days included."""
    wait = response.headers.get("retry-after", "0").strip()
    if not (wait.isdecimal() and len(wait) < 9 and int(wait) <= LONGEST_WAIT):
        del response.headers["retry-after"]
    if "ratelimit" in response.headers:
        del response.headers["ratelimit"]


def _harmless(record: logging.LogRecord) -> bool:
    record.msg, record.args = printable(without_secrets(record.getMessage())), ()
    return True


def _check_endpoint(address: str) -> None:
    try:
        parts = urlsplit(address)
        named = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        named = False
    if not named:
        raise NetworkSettings("HF_ENDPOINT is not an http:// or https:// address.", "Unset it.")


def _check_token() -> None:
    from huggingface_hub import get_token

    variable = next((n for n in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN") if os.environ.get(n)), "")
    place = variable or f"The file {constants().HF_TOKEN_PATH}"
    try:
        token = get_token() or ""
        fine = token.isascii() and (token + "x").isprintable()
    except UnicodeDecodeError:
        fine = False
    if not fine:
        raise NetworkSettings(
            f"{place} does not hold a token: it has characters that no token has.",
            f"Unset {variable}, or set it again." if variable else "`hf auth login` replaces it.",
        )
