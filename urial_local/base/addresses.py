"""Addresses as they may be written down: in run folders, pages, rows, and on the terminal."""

from __future__ import annotations

import os
import re

_IN_TEXT = re.compile(r"(://)([^\s\"'<>`]*)")
_ALONE = re.compile(r"((?:--?[\w-]+=)?[A-Za-z][A-Za-z0-9+.-]*://)(.*)", re.DOTALL)
_KEYS = ("OPENAI_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
SHORTEST_KEY = 8  # characters: what is shorter may be part of any word


def without_secrets(text: str) -> str:
    """The text with each address in it reduced to scheme, host, port and path, and without the
    keys of the environment."""
    text = _IN_TEXT.sub(_reduced, text)
    for name in _KEYS:
        key = os.environ.get(name, "").strip()
        if len(key) >= SHORTEST_KEY:
            text = text.replace(key, "…")
    return text


def told_argument(argument: str) -> str:
    """The same for an argument of a command line: an address, alone or as an option's value
    (`--base-url=http://…`), is one to its end, blanks and quotes included."""
    alone = _ALONE.fullmatch(argument)
    return without_secrets(_reduced(alone) if alone else argument)


def _reduced(found: re.Match[str]) -> str:
    place = re.split("[?#]", found[2], maxsplit=1)[0]
    host, slash, path = place.partition("/")
    return f"{found[1]}{host.rpartition('@')[2]}{slash}{path}"
