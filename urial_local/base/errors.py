"""The errors that reach a user: what is wrong, and what to do next.

Everything else that is raised is a defect of ours and shows a traceback.
"""

from __future__ import annotations

from difflib import get_close_matches


class UrialError(Exception):
    """Something a user can understand and mend. Exit code 1.

    `message` is one sentence that says what is wrong; `hint` says what to do or type next.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class UsageError(UrialError):
    """The command was asked for something that makes no sense. Exit code 2."""

    exit_code = 2


class ModelError(UrialError):
    """A model file is missing, malformed, or not usable here."""


class TokenizeError(UrialError):
    """The model's vocabulary cannot express a text."""


class ContextOverflow(UrialError):
    """A prompt does not fit the context window; raised before anything is decoded."""


class PromptError(UrialError):
    """A prompt or frame is unknown, malformed, or refused."""


class UnsafeText(UrialError):
    """A user's text holds the frame's own markers and `--markers refuse` was asked for."""


class RunError(UrialError):
    """A run folder is taken, damaged, or cannot be written."""


class Interrupted(UrialError):
    """The user pressed Ctrl-C. Exit code 130, as shells expect."""

    exit_code = 130


class Unfinished(UrialError):
    """Work was stopped by SIGTERM, or lacks a part; the same command resumes with it. Exit code 75,
    the EX_TEMPFAIL of sysexits.h, so that a script can tell it from a failure."""

    exit_code = 75


MANY = 40  # names; more than anybody reads
LONGEST_NAME = 100  # characters of a name that near ones are looked for: that takes their square


def near(name: str, known: list[str]) -> str:
    """A hint with the names nearest to a misspelt one, whatever their case, or all of them when
    none is near and they are few."""
    names = {n.lower() for n in known if len(n) <= LONGEST_NAME}
    wanted = name.lower() if len(name) <= LONGEST_NAME else ""
    small = get_close_matches(wanted, names, n=3, cutoff=0.5)
    close = [next(n for n in known if n.lower() == one) for one in small]
    if close:
        return f"Did you mean {' or '.join(close)}?"
    return f"Known: {', '.join(sorted(known))}." if len(known) <= MANY else ""
