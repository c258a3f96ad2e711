"""The one way by which we ask others over HTTP: replies are bounded in bytes and in time, and what
the environment says of proxies and certificates is told by its name where it does not work.

huggingface_hub and openai bring httpx (newer releases of both: httpx2, which is the same to us).
The module is handed in, and the transport here takes the place of its own.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

from urial_local.base.addresses import without_secrets
from urial_local.base.errors import UrialError
from urial_local.base.proxies import NetworkSettings, Proxy, proxy_for

CONNECT = 20.0  # seconds until a connection stands, with all that a proxy has to say
LARGEST_ERROR = 1 << 16  # bytes that are read of a reply that is a refusal or sends elsewhere
_PIECE = 1 << 20  # bytes that are unpacked at once
_PACKED = ("gzip", "x-gzip", "deflate")


class Excess(UrialError):
    """A reply is larger, or comes more slowly, than any that would be of use."""


class TooLong(Excess):
    """More bytes than there may be."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a reply may take."""

    size: int  # bytes of its body, unpacked
    seconds: float  # for all of it, from the moment when the connection stands …
    pace: int | None = None  # … or for each so many bytes


def http_library(of: type) -> Any:
    """The HTTP library that a class of another package is built on. Raises LookupError."""
    names = (base.__module__.partition(".")[0] for base in of.__mro__)
    return next(sys.modules[name] for name in names if name in ("httpx", "httpx2"))


class GuardedTransport:
    """What `http.Client(transport=…)` takes; for one thread. `bounds` is asked at every request.

    Requests raise Excess and NetworkSettings besides the library's own errors."""

    def __init__(self, http: Any, bounds: Callable[[], Bounds]) -> None:
        self._http, self._bounds = http, bounds
        self._inner: dict[tuple[str, bool], Any] = {}
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self._stream = type("Stream", (_Body, http.SyncByteStream), {})

    def __enter__(self) -> GuardedTransport:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for inner in self._inner.values():
            inner.close()

    def handle_request(self, request: Any) -> Any:
        url, bounds = request.url, self._bounds()
        proxy = proxy_for(f"{url.scheme}://{url.netloc.decode('ascii')}")
        inner = self._transport(url.scheme == "https", proxy)
        watch = _Watch(bounds, self._sockets, url.scheme == "https", proxy)
        told = _Told(self._http, url, proxy, watch)
        request.headers["Accept-Encoding"] = "identity"
        request.extensions = {**request.extensions, "trace": watch.trace}
        try:
            response = inner.handle_request(request)
            if proxy and response.status_code == 407:
                response.close()
                raise told.by_the_proxy("it requires another user or password (407)")
        except BaseException as error:
            watch.stop()
            if watch.connecting:  # httpcore leaves it open where a SOCKS proxy fails
                watch.each(socket.socket.close)
            told.raise_for(error)
            raise
        return self._bounded(response, bounds, told)

    def _bounded(self, response: Any, bounds: Bounds, told: _Told) -> Any:
        heads = response.headers
        packed = heads.get("content-encoding", "identity").strip().lower()
        fine = 200 <= response.status_code < 300
        body = self._stream(
            response.stream, told, bounds.size if fine else LARGEST_ERROR, fine, packed
        )
        if packed != "identity":  # it is unpacked here, and its length is another
            gone = (b"content-encoding", b"content-length")
            heads = [(k, v) for k, v in heads.raw if k.lower() not in gone]
        return self._http.Response(
            response.status_code, headers=heads, stream=body, extensions=response.extensions
        )

    def _transport(self, encrypted: bool, proxy: Proxy | None) -> Any:
        """Certificates are read only where a connection needs them."""
        secure = encrypted or bool(proxy and proxy.scheme == "https")
        key = (proxy.address if proxy else "", secure)
        if key not in self._inner:
            context = certificates(self._http) if secure else False
            way = None
            if proxy:
                own = {"ssl_context": context} if proxy.scheme == "https" else {}
                try:
                    way = self._http.Proxy(proxy.address, **own)
                except (self._http.InvalidURL, ValueError) as error:
                    told = f"{proxy.variable} is not the address of a proxy: {error}"
                    raise NetworkSettings(without_secrets(told)) from None
            self._inner[key] = self._http.HTTPTransport(verify=context, proxy=way)
        return self._inner[key]


def certificates(http: Any) -> Any:
    """The certificates that servers are held against. Raises NetworkSettings that names the
    variable where the environment's cannot be read."""
    file, folders = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if file and not os.path.isfile(file):
        raise NetworkSettings(f"SSL_CERT_FILE names {file}, which is not a file.", _UNSET)
    if folders and not file and not any(map(os.path.isdir, folders.split(os.pathsep))):
        raise NetworkSettings(f"SSL_CERT_DIR names {folders}, which is not a folder.", _UNSET)
    try:
        return http.create_ssl_context()
    except (OSError, ValueError) as error:
        names = [n for n in ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE") if n in os.environ]
        what = f"What {names[0]} names" if names else "The certificates of this system"
        raise NetworkSettings(f"{what} cannot be used: {error}.", _UNSET if names else "") from None


_UNSET = "It names trusted certificates; unset it to use the usual ones."


class _Watch:
    """Ends a request whose time is up, whatever it waits for: bytes that come one by one would
    renew every time limit of a socket."""

    def __init__(
        self, bounds: Bounds, sockets: WeakSet[socket.socket], encrypted: bool, proxy: Proxy | None
    ) -> None:
        self.bounds, self._sockets = bounds, sockets
        self.over = self.connecting = False
        by_socks = proxy is not None and proxy.scheme == "socks5"
        self._last = (
            "start_tls" if encrypted else "setup_socks5_connection" if by_socks else "connect_tcp"
        )
        self._fresh = 0  # bytes since time was bought
        self._due = time.monotonic() + bounds.seconds
        self._lock, self._done = threading.Lock(), threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def stop(self) -> None:
        self._done.set()

    def came(self, size: int) -> None:
        """So many bytes of the body."""
        self._fresh += size
        if self.bounds.pace and self._fresh >= self.bounds.pace:
            self._fresh, self._due = 0, time.monotonic() + self.bounds.seconds

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """What httpx tells of a request's course."""
        step, _, state = ".".join(event.split(".")[-2:]).partition(".")
        if (step, state) == ("connect_tcp", "started"):
            self.connecting, self._due = True, time.monotonic() + CONNECT
        if state != "complete":
            return
        if step in ("connect_tcp", "start_tls"):
            found = info["return_value"].get_extra_info("socket")
            with self._lock:
                self._sockets.add(found)
        if step == self._last:
            self.connecting, self._due = False, time.monotonic() + self.bounds.seconds

    def _run(self) -> None:
        while not self._done.wait(min(1.0, max(0.0, self._due - time.monotonic()))):
            if time.monotonic() >= self._due:
                self.over = True
                # The plain one, not TLS's own: somebody reads from it at this moment.
                self.each(lambda one: socket.socket.shutdown(one, socket.SHUT_RDWR))
                return

    def each(self, ending: Callable[[socket.socket], None]) -> None:
        with self._lock:
            for one in self._sockets:
                with suppress(OSError):
                    ending(one)


class _Told:
    """What is said of a request that fails."""

    def __init__(self, http: Any, url: Any, proxy: Proxy | None, watch: _Watch) -> None:
        self.http, self._proxy, self.watch = http, proxy, watch
        self.host, self._name = url.netloc.decode("ascii"), url.host

    def by_the_proxy(self, why: str) -> NetworkSettings:
        assert self._proxy is not None
        named = without_secrets(self._proxy.address)
        return NetworkSettings(
            f"{self.host} cannot be reached through the proxy {named}, which"
            f" {self._proxy.variable} names: {why}.",
            f"Is that proxy right? Unset {self._proxy.variable} to do without it, or add"
            f" {self._name} to NO_PROXY.",
        )

    def slow(self) -> Excess:
        seconds, pace = self.watch.bounds.seconds, self.watch.bounds.pace
        said = f"its next {pace:,} bytes" if pace else "a whole reply"
        return Excess(f"{self.host} did not send {said} within {seconds:g} s.")

    def long(self, size: int) -> TooLong:
        return TooLong(f"{self.host} sent more than {size:,} bytes, which no reply needs.")

    def raise_for(self, error: BaseException) -> None:
        """Raise what an error means where that is known better than the error says."""
        if isinstance(error, UrialError) or not isinstance(error, Exception):
            return
        reason = re.sub(r"^\[Errno -?\d+\] ", "", str(error).strip()).rstrip(".")
        reason = reason or type(error).__name__
        wrong = _first(error, ssl.SSLCertVerificationError)
        if wrong:
            raise NetworkSettings(
                f"The certificate of {self.host} is not trusted: {wrong.verify_message}.",
                "Where a network has certificates of its own, SSL_CERT_FILE names a file of them.",
            ) from error
        if self._proxy and (self.watch.connecting or isinstance(error, self.http.ProxyError)):
            why = f"nothing within {CONNECT:g} s" if self.watch.over else reason
            raise self.by_the_proxy(without_secrets(why)) from error
        if self.watch.over and self.watch.connecting:
            raise self.http.ConnectTimeout(f"no connection within {CONNECT:g} s") from error
        if self.watch.over:
            raise self.slow() from error


def _first(error: BaseException | None, kind: type[Any]) -> Any:
    """The first exception of a kind among an error and its causes."""
    while error is not None and not isinstance(error, kind):
        error = error.__cause__ or error.__context__
    return error


class _Body:
    """A reply's body, counted as it is unpacked. One that is no success is cut where it grows too
    long, so that its status is told all the same; any other raises TooLong."""

    def __init__(self, raw: Any, told: _Told, limit: int, fine: bool, packed: str) -> None:
        self._raw, self._told, self._limit, self._fine = raw, told, limit, fine
        self._packed = packed

    def __iter__(self) -> Iterator[bytes]:
        left = self._limit
        try:
            for piece in self._unpacked():
                left -= len(piece)
                if left < 0:
                    if self._fine:
                        raise self._told.long(self._limit)
                    return
                yield piece
        except Exception as error:
            self._told.raise_for(error)
            raise
        finally:
            self._told.watch.stop()
        if self._told.watch.over:  # to a server that closes, an end like any other
            raise self._told.slow()

    def _unpacked(self) -> Iterator[bytes]:
        if self._packed == "identity":
            yield from self._pieces()
            return
        if self._packed not in _PACKED:
            raise self._told.http.DecodingError("an encoding that was not asked for")
        tool = zlib.decompressobj(zlib.MAX_WBITS | 32)
        try:
            for data in self._pieces():
                while data:
                    yield tool.decompress(data, _PIECE)
                    data = tool.unconsumed_tail
            yield tool.flush()
        except zlib.error as error:
            raise self._told.http.DecodingError(str(error)) from None

    def _pieces(self) -> Iterator[bytes]:
        for data in self._raw:
            self._told.watch.came(len(data))
            yield data

    def close(self) -> None:
        self._told.watch.stop()
        self._raw.close()
