"""A question from the command line or from standard input."""

from __future__ import annotations

import sys

from urial_local.base.encodings import decoded
from urial_local.base.errors import UsageError

MAX_STDIN = 64 << 20  # bytes


def read_question(text: tuple[str, ...]) -> str:
    """The question from the arguments or standard input. Raises UsageError where there is none."""
    if text == ("-",) or (not text and sys.stdin is not None and not sys.stdin.isatty()):
        if sys.stdin is None:
            raise UsageError("Standard input is closed, so there is no question to read.")
        data = sys.stdin.buffer.read(MAX_STDIN + 1)
        if len(data) > MAX_STDIN:
            raise UsageError(f"Standard input has more than {MAX_STDIN >> 20} MB.")
        question = decoded(data, "Standard input").removesuffix("\n").removesuffix("\r")
        if "\0" in question:
            raise UsageError("Standard input holds a NUL, as UTF-16 and binary data do.")
    else:
        question = " ".join(text)
        try:
            question.encode("utf-8")
        except UnicodeEncodeError:
            raise UsageError("The question is not valid UTF-8.") from None
    if not question.strip():
        raise UsageError("The question is empty.", 'Type it in quotes: urial-local ask -m … "Why?"')
    return question
