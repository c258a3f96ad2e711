"""Reading TOML with the standard library (Python 3.11) or its twin, and writing prompts as TOML."""

from __future__ import annotations

import re
import sys
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TOMLError = tomllib.TOMLDecodeError
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r")


def parse_toml(text: str) -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads(text)
    return table


def toml_string(text: str) -> str:
    """A TOML string that reads back as exactly `text`, over several lines where `text` has them."""
    escaped = text.replace("\\", "\\\\")
    escaped = _CONTROL.sub(lambda m: f"\\u{ord(m.group()):04x}", escaped)
    if "\n" not in text:
        return '"' + escaped.replace('"', '\\"').replace("\t", "\\t") + '"'
    # A newline right after the opening quotes is dropped by TOML, so the text begins below them.
    if '"""' in text or text.endswith('"'):
        escaped = escaped.replace('"', '\\"')
    return '"""\n' + escaped + '"""'
