"""The proxies that the environment names for an address."""

from __future__ import annotations

import ipaddress
import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from urial_local.base.addresses import without_secrets
from urial_local.base.errors import UrialError

# httpx knows one name of these; host names are resolved by the proxy with all of them.
_SAME = {"socks": "socks5", "socks5h": "socks5"}


class NetworkSettings(UrialError):
    """A proxy, a certificate or a token of the environment is in the way of every request."""


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its name or number; names are not looked up."""
    host = host.rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    with suppress(ValueError):
        number = ipaddress.ip_address(host.partition("%")[0])
        number = getattr(number, "ipv4_mapped", None) or number
        return number.is_loopback or number.is_unspecified
    with suppress(OSError):  # 127.1, 0x7f000001, which the resolver takes, too
        return ipaddress.ip_address(socket.inet_aton(host)).is_loopback
    return False


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy: its address, and the variable of the environment that names it."""

    address: str
    variable: str

    @property
    def scheme(self) -> str:
        return self.address.partition("://")[0]


def proxy_for(address: str) -> Proxy | None:
    """The proxy by which an address is reached; None for none, as for every address of this
    machine. Raises NetworkSettings for one that cannot be used."""
    parts = urlsplit(address)
    host, scheme = parts.hostname or "", parts.scheme
    if is_loopback(host):
        return None
    known = getproxies()
    kind = next((kind for kind in (scheme, "all") if known.get(kind)), None)
    if kind is None or _excepted(host, parts.port, known.get("no", "")):
        return None
    names = (f"{kind}_proxy", f"{kind}_proxy".upper())
    variable = next((n for n in names if os.environ.get(n) == known[kind]), None)
    return _usable(known[kind].strip(), variable or "The system's setting for proxies", host)


def _excepted(host: str, port: int | None, names: str) -> bool:
    """Whether NO_PROXY names a host: by its name, its domain, its number or a network."""
    if proxy_bypass(f"{host}:{port}" if port else host):
        return True
    for name in map(str.strip, names.split(",")):
        if name.startswith("*.") and host.endswith(name[1:].lower()):
            return True
        with suppress(ValueError):
            if ipaddress.ip_address(host) in ipaddress.ip_network(name.strip("[]"), strict=False):
                return True
    return False


def _usable(value: str, variable: str, host: str) -> Proxy:
    scheme, there, rest = value.partition("://")
    if not there:
        scheme, rest = "http", value
    scheme = _SAME.get(scheme.lower(), scheme.lower())
    without = f"Unset {variable} to do without it, or add {host} to NO_PROXY."
    if scheme not in ("http", "https", "socks5"):
        raise NetworkSettings(
            f"{variable} names a {scheme}:// proxy, a kind that cannot be used.",
            f"Proxies are http://, https:// or socks5://. {without}",
        )
    address = f"{scheme}://{rest}"
    try:
        parts = urlsplit(address)
        named = parts.hostname and parts.port != 0  # which is read here for its errors
    except ValueError:
        named = False
    if not named:
        raise NetworkSettings(
            f"{variable} is not the address of a proxy: {without_secrets(address)}",
            f"For example {variable}=http://127.0.0.1:3128. {without}",
        )
    if scheme == "socks5" and find_spec("socksio") is None:
        raise NetworkSettings(
            f"{variable} names a SOCKS proxy, and the socksio package, which speaks to those, is"
            " not installed.",
            f"pip install socksio\n{without}",
        )
    return Proxy(address, variable)
