"""Which prompt was chosen for a model by measurement: by the model's fingerprint, in the user's
folder of settings, so that it is the default for that very file under any name."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

from urial_local.base.errors import UrialError, UsageError
from urial_local.base.files import replacing
from urial_local.base.paths import config_dir
from urial_local.base.texts import read_text

MAX_FILE = 1 << 20  # bytes
_FINGERPRINT = re.compile(r"[0-9a-f]{8,64}")


def defaults_path() -> Path:
    return config_dir() / "defaults.json"


def fitted_prompt(fingerprint: str) -> str | None:
    """The name of a model's own default prompt, where one was chosen. A file of settings that
    cannot be read counts as none: `keep_default` says what is wrong with it."""
    with contextlib.suppress(UrialError):
        return _read().get(fingerprint)
    return None


def keep_default(fingerprint: str, prompt: str | None) -> None:
    """Make a prompt the default of a model; None takes it back. Raises UsageError where the
    settings cannot be read or written."""
    chosen = {**_read(), fingerprint: prompt}
    path = defaults_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            kept = {name: value for name, value in sorted(chosen.items()) if value}
            file.write(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}.") from None


def _read() -> Mapping[str, str]:
    path = defaults_path()
    if not path.exists():
        return {}
    try:
        found = json.loads(read_text(path, "The file of default prompts", MAX_FILE))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(
        _FINGERPRINT.fullmatch(key) and isinstance(value, str) for key, value in found.items()
    ):
        raise UsageError(
            f"{path} is malformed: it must hold a prompt's name for each fingerprint.",
            "Correct it, or move it away.",
        )
    return found
