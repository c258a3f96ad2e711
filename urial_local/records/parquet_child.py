"""Rows of Parquet, read in a child process: one changed byte in a file's metadata can make pyarrow
abort, which no `except` can catch.

The child writes a line of JSON for each row, [number, fields, what is wrong with it], and at the
end a line that is not a list: null, or why it could not go on.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

from urial_local.base import child
from urial_local.base.errors import UsageError
from urial_local.records.parquet import MAX_RATIO, MAX_UNPACKED, Parsed, parquet_rows
from urial_local.records.plain import Packed, plain

MEMORY = 4 << 30  # bytes beyond what the file may unpack to: Python, pyarrow, a row as JSON
MAX_LINE = 512 << 20  # bytes of a row as JSON
_PACKED = "\0packed"  # the only name in an object that stands for a Packed


def rows_apart(path: Path, name: str) -> Generator[Parsed, None, None]:
    """The rows of a file; `name` is what the user called it. Raises UsageError where pyarrow is
    missing, or where the file cannot be read or ends the child."""
    with subprocess.Popen(
        child.command(__name__, str(path), name),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for us, not for the child
    ) as process:
        assert process.stdout is not None
        try:
            while isinstance(said := _next(process.stdout), list):
                yield int(said[0]), said[1], str(said[2])
            if isinstance(said, dict):
                raise UsageError(str(said["error"]), str(said["hint"]))
            if said is not None:
                how = child.breakdown(process.wait()) or "its child process failed"
                raise UsageError(f"{name} cannot be read: pyarrow crashes ({how}).")
        finally:
            process.kill()


def _next(lines: Any) -> Any:
    """What the child says next; False where it says nothing that is whole."""
    line = lines.readline(MAX_LINE)
    if not line.endswith(b"\n"):
        return False
    return json.loads(line, object_hook=_unpacked)


def _unpacked(found: dict[str, Any]) -> Any:
    return Packed(found[_PACKED]) if len(found) == 1 and _PACKED in found else found


def _packed(value: Any) -> Any:
    """JSON knows no kinds of text, so what is Packed becomes an object."""
    if isinstance(value, Packed):
        return {_PACKED: str(value)}
    if isinstance(value, Mapping):
        return {name: _packed(inner) for name, inner in value.items()}
    return [_packed(inner) for inner in value] if isinstance(value, list) else value


def main() -> None:
    """The child: its arguments are the file and what the user called it."""
    path, name = Path(sys.argv[1]), sys.argv[2]
    child.limit_memory(MEMORY + 2 * max(MAX_UNPACKED, MAX_RATIO * path.stat().st_size))
    end: dict[str, str] | None = None
    with contextlib.suppress(BrokenPipeError):
        try:
            for number, fields, problem in parquet_rows(path, name):
                try:
                    line = json.dumps([number, _packed(plain(fields)), problem])
                except RecursionError:
                    line = json.dumps([number, {}, f"row {number} is nested too deeply"])
                sys.stdout.write(line + "\n")
        except UsageError as error:
            end = {"error": error.message, "hint": error.hint}
        print(json.dumps(end), flush=True)
