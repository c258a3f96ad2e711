"""Small texts in files that somebody else may have written: nothing is taken for granted."""

from __future__ import annotations

from pathlib import Path

from urial_local.base.encodings import decoded
from urial_local.base.errors import PromptError, UrialError, UsageError
from urial_local.base.files import open_regular


def read_text(
    path: Path,
    what: str,
    most: int,
    hint: str = "Check the path.",
    error: type[UrialError] = PromptError,
) -> str:
    """All of a file, its line ends as they are, a byte order mark left out: UTF-8, or UTF-16 or
    UTF-32 with a mark. At most `most` bytes are read, whatever the file's size is said to be.

    Raises `error`, which begins with `what` ("The frame") and names the file: for what is not an
    ordinary file (a device or a pipe may have no end), too large, unreadable, or not text.
    """
    name = f"{what} {path}"
    try:
        with open_regular(path) as file:
            data = file.read(most + 1)
    except (OSError, ValueError) as wrong:  # the latter for a name with a zero byte
        reason = (wrong.strerror if isinstance(wrong, OSError) else None) or str(wrong)
        raise error(f"{name} cannot be read: {reason[:1].lower()}{reason[1:]}.", hint) from None
    if len(data) > most:
        raise error(f"{name} is larger than {most:,} bytes.", hint)
    try:
        return decoded(data, name)
    except UsageError as wrong:
        raise error(wrong.message, wrong.hint) from None
