"""The lines typed into `chat`, kept for the next time: private, and never a reason to stop."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from prompt_toolkit.history import History

from urial_local.base.files import open_regular, private_append, private_folder

MAX_BYTES = 16 << 20  # of the file's end; nobody scrolls further back


class TypedLines(History):
    """A file of typed lines. Where it cannot be read or written, `trouble` says why, once, and the
    lines are kept in memory."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._trouble = ""
        self._usable = True
        try:
            private_folder(path.parent)
            private_append(path).close()
        except OSError as error:
            self._give_up(error)

    def trouble(self) -> str:
        """A sentence for the user, and nothing when asked again."""
        said, self._trouble = self._trouble, ""
        return said

    def load_history_strings(self) -> Iterable[str]:
        if not self._usable:
            return []
        try:
            with open_regular(self.path) as file:
                size = file.seek(0, 2)
                file.seek(max(0, size - MAX_BYTES))
                return _entries(file.read(MAX_BYTES))
        except OSError as error:
            self._give_up(error)
            return []

    def store_string(self, string: str) -> None:
        if not self._usable:
            return
        try:
            with private_append(self.path) as file:
                lines = "".join(f"+{line}\n" for line in string.split("\n"))
                file.write((f"\n# {datetime.now()}\n" + lines).encode("utf-8", "backslashreplace"))
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self._usable = False
        self._trouble = (
            f"Typed lines cannot be kept in {self.path} ({error.strerror or error}); they are"
            " forgotten at the end of this session."
        )


def _entries(data: bytes) -> list[str]:
    """prompt_toolkit's form: an entry's lines begin with +, everything else is between entries.
    The newest entry first."""
    found: list[str] = []
    lines: list[str] = []
    for line in [*data.decode("utf-8", "replace").split("\n"), ""]:
        if line.startswith("+"):
            lines.append(line[1:])
        elif lines:
            found.append("\n".join(lines))
            lines = []
    return found[::-1]
