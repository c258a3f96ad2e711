"""Puts a self-contained page together: style, scripts and data in one file that needs no network.

Everything that comes from a model or a user goes in as data, never as markup: JSON with `<`
escaped, read by the page's script and put on the screen as text. A content security policy lets
exactly the page's own script and style run, by their hashes, and nothing load from anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TextIO

from urial_local.base.addresses import without_secrets
from urial_local.base.errors import UsageError
from urial_local.base.files import holds_other, replacing
from urial_local.base.paths import shipped
from urial_local.records.runs import RunInfo

_START = '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
_MARK = '<meta name="generator" content="urial-local">\n'
_POLICY = '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; script-src'


def template(name: str) -> str:
    """A shipped file of `templates/report`."""
    return shipped(f"templates/report/{name}").read_text("utf-8")


def write_html(
    path: Path,
    *,
    title: str,
    body: str,
    styles: Sequence[str],
    scripts: Sequence[str],
    data: Any,
    blobs: Iterable[tuple[str, str]] = (),
) -> None:
    """Write a page, in place of an older one. Raises UsageError where another file lies there.

    `body` is our own markup; `data` becomes the element #data, and each blob
    (name, text) an element of its own that the script reads when it needs it."""
    style, script = "\n".join(styles), "\n".join(scripts)
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}';"
        " img-src data:; base-uri 'none'; form-action 'none'"
    )
    if holds_other(path, _is_page):
        raise UsageError(
            f"{path} is not a page that urial-local made, so it is left as it is.",
            "Give the page another name with -o, or move that file away.",
        )
    with replacing(path) as out:
        out.write(_START)
        out.write(_MARK)
        out.write(f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n')
        out.write('<meta name="viewport" content="width=device-width, initial-scale=1">\n')
        out.write('<meta name="color-scheme" content="light dark">\n')
        out.write(f"<title>{html.escape(title)}</title>\n<style>{style}</style>\n</head>\n")
        out.write(f"<body>\n{body}\n")
        _element(out, "data", "application/json", embed(data))
        for name, text in blobs:
            _element(out, name, "text/plain", text)
        out.write(f"<script>{script}</script>\n</body>\n</html>\n")


def _is_page(head: bytes) -> bool:
    # Earlier pages have no mark, but begin with the same policy.
    begins = tuple((_START + line).encode() for line in (_MARK, _POLICY))
    return head.startswith(begins)


def _element(out: TextIO, name: str, kind: str, text: str) -> None:
    out.write(f'<script type="{kind}" id="{html.escape(name)}">{text}</script>\n')


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode()


def sessions(info: RunInfo) -> list[list[str]]:
    """Each start of a run, from its run.json, as lines of [label, text]: when, where, with what."""
    lines = []
    for start in info.sessions:
        versions = ", ".join(f"{k} {v}" for k, v in start.versions.items())
        lines.append(["run", f"{start.started}, {start.platform}; {versions}"])
        lines.append(["command", without_secrets(start.command)])
    return lines


def embed(value: Any) -> str:
    """JSON that can stand inside a script element, whatever texts it holds."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    escaped = text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return escaped.encode("utf-8", "replace").decode("utf-8")


def packed(value: Any) -> str:
    """JSON, deflated, in base64: what the page unpacks with DecompressionStream."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    data = text.encode("utf-8", "replace")  # half characters of strangers' texts
    return base64.b64encode(zlib.compress(data, 9)).decode("ascii")
