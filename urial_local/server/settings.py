"""How a server is run: where it listens, who may ask, and how much at a time."""

from __future__ import annotations

import hmac
import socket
from dataclasses import dataclass, field
from pathlib import Path

from urial_local.base.errors import UsageError
from urial_local.base.texts import read_text

LOOPBACK = ("127.0.0.1", "localhost", "::1")
KEY_ENV = "URIAL_API_KEY"
MAX_KEY = 4096  # bytes of a file
MAX_BODY = 16 << 20  # bytes


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """What the user chose."""

    host: str = "127.0.0.1"
    port: int = 8080
    key: str = field(default="", repr=False)
    allow_hosts: tuple[str, ...] = ()
    allow_origins: tuple[str, ...] = ()
    queue: int = 256  # requests that wait, beyond those that are answered
    drain: float = 30.0  # seconds that answers have to end when the server is to
    ping: float = 10.0  # seconds of silence in a stream after which a comment is sent
    stall: float = 60.0  # seconds for which a client may read nothing of its answer
    runs: Path | None = None  # folder for conversations that are saved as runs

    def __post_init__(self) -> None:
        """Raises UsageError for an address that others can reach and that has no key."""
        if self.host not in LOOPBACK and not self.key:
            raise UsageError(
                f"Others can reach {self.host}, so a key is needed.",
                f"Set {KEY_ENV} or name a file with --api-key-file; or listen on 127.0.0.1.",
            )
        for origin in self.allow_origins:
            if "://" not in origin or origin.endswith("/") or "*" in origin:
                raise UsageError(
                    f"The origin {origin!r} must be exact, such as https://app.example.org.",
                )

    @property
    def hosts(self) -> list[str]:
        """Names by which the server may be called: no others, so that no page of another site can
        reach it under a name of its own."""
        own = () if self.host in ("0.0.0.0", "::") else (self.host,)
        named = (socket.gethostname(),) if self.host not in LOOPBACK else ()
        return list(dict.fromkeys((*LOOPBACK, "[::1]", *own, *named, *self.allow_hosts)))

    def admits(self, authorization: str) -> bool:
        """Whether a request with this header may ask. Without a key everybody on this machine may,
        with an empty one, too, as some clients send it."""
        if not self.key:
            return True
        scheme, _, given = authorization.partition(" ")
        same = hmac.compare_digest(given.strip().encode(), self.key.encode())
        return scheme.lower() == "bearer" and same


def read_key(path: Path) -> str:
    """The key in a file. Raises UsageError where there is none."""
    key = read_text(path, "The key's file", MAX_KEY).strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise UsageError(f"{path} does not hold a key: one line of ASCII without spaces.")
    return key
