"""Where things lie: shipped files, the user's own, and caches."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from urial_local.base.errors import UrialError, UsageError

PACKAGE = Path(__file__).resolve().parent.parent
MAX_NAME = 4096  # characters of a path, as on Linux


def shipped(name: str) -> Path:
    """A shipped file or folder: `templates`, `models.txt`, `demo`.

    They lie inside the package once it is installed from a wheel, and one level up in a source
    tree (an editable install), where the import machinery does not show them.
    """
    inside = PACKAGE / name
    return inside if inside.exists() else PACKAGE.parent / name


def config_dir() -> Path:
    """The user's prompts and registry; `URIAL_CONFIG_DIR` overrides the platform's place."""
    return _chosen("URIAL_CONFIG_DIR") or Path(platformdirs.user_config_dir("urial-local", False))


def cache_dir() -> Path:
    """Saved prompt states and indexes; safe to delete at any time. `URIAL_CACHE_DIR` overrides."""
    return _chosen("URIAL_CACHE_DIR") or Path(platformdirs.user_cache_dir("urial-local", False))


def state_dir() -> Path:
    """The history of typed lines, and what was pulled. `URIAL_STATE_DIR` overrides."""
    return _chosen("URIAL_STATE_DIR") or Path(platformdirs.user_state_dir("urial-local", False))


def _chosen(variable: str) -> Path | None:
    """The folder that a variable names. A shell leaves a `~` in quotes, or in a file of settings,
    as it is. Raises UsageError where it cannot be a folder's name."""
    name = os.environ.get(variable)
    return user_path(name, variable) if name else None


def user_prompts_dir() -> Path:
    return config_dir() / "prompts"


def prefix_cache_dir() -> Path:
    return cache_dir() / "prefixes"


def user_path(
    name: str,
    what: str = "The path",
    beside: Path | None = None,
    error: type[UrialError] = UsageError,
) -> Path:
    """The path of a file or folder that a user or a text names, relative to the folder `beside`;
    `~` and `~user` are homes. Raises `error`, which begins with `what`, for a name that cannot be
    a file's."""
    if len(name) > MAX_NAME:  # which nobody wants to read in an error, either
        raise error(f"{what} has a name of {len(name):,} characters.", "Check the path.")
    if "\0" in name:
        raise error(f"{what} {name!r} is not a file name: it holds a null character.")
    try:
        return (beside or Path()) / Path(name).expanduser()
    except RuntimeError:
        raise error(f"{what} {name!r} names the home of an unknown user.") from None


def pools_dir() -> Path:
    """Indexes of pools of examples: they hold the users' texts."""
    return cache_dir() / "pools"
