"""Which prompt was chosen for a model by measurement: by the model's fingerprint, in the user's
folder of settings, so that it is the default for that very file under any name."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import filelock

from urial_local.base.errors import UrialError, UsageError
from urial_local.base.files import private_folder, replacing
from urial_local.base.paths import config_dir, user_prompts_dir
from urial_local.base.texts import read_text
from urial_local.prompting.library import load_prompt, prompt_files, prompt_toml
from urial_local.prompting.prompts import Prompt

MAX_FILE = 1 << 20  # bytes
MAX_NAME = 50  # characters of a model's name in its prompt's
PATIENCE = 10.0  # seconds that another process may take to write a line
_FINGERPRINT = re.compile(r"[0-9a-f]{8,64}")


def defaults_path() -> Path:
    return config_dir() / "defaults.json"


def fitted_prompt(fingerprint: str) -> str | None:
    """The name of a model's own default prompt, where one was chosen. Raises UsageError where the
    settings cannot be read."""
    return _read().get(fingerprint)


def keep_default(fingerprint: str, prompt: str | None) -> None:
    """Make a prompt the default of a model; None takes it back. Raises UsageError where the
    settings cannot be read, or written: then they are as they were."""
    path = defaults_path()
    if _read().get(fingerprint) == prompt:
        return
    try:
        private_folder(path.parent)
        with filelock.FileLock(path.with_suffix(".lock"), timeout=PATIENCE):
            chosen = {**_read(), fingerprint: prompt}  # again: another process may have written
            kept = {name: value for name, value in sorted(chosen.items()) if value}
            with replacing(path) as file:
                file.write(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    except filelock.Timeout:
        raise UsageError(f"Another process is writing {path}.", "Try it again.") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}.") from None


def keep_prompt(prompt: Prompt) -> None:
    """Put a prompt among the user's own, in place of one of its name. Raises UsageError."""
    path = user_prompts_dir() / f"{prompt.name}.toml"
    try:
        private_folder(path.parent)
        with replacing(path) as file:
            file.write(prompt_toml(prompt))
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}.") from None


def fit_name(model: str) -> str:
    """`fit-MODEL`, as a file or a folder can be called."""
    return "fit-" + re.sub(r"[^\w.=-]", "_", model)[:MAX_NAME]


def prompt_name(model: str, fingerprint: str) -> str:
    """What a model's own prompt is called: `fit-MODEL`, with a few digits of its fingerprint where
    something else has that name, such as the prompt of another model called the same."""
    name = fit_name(model)
    if name not in prompt_files() or _made_for(name) == fingerprint:
        return name
    return f"{name}-{fingerprint[:8]}"


def _made_for(name: str) -> str:
    """The fingerprint of the model that a prompt was made for; empty for one of the user's."""
    try:
        return str(load_prompt(name).evidence.get("fingerprint", ""))
    except UrialError:
        return ""


def _read() -> Mapping[str, str]:
    path = defaults_path()
    if not os.path.lexists(path):
        return {}
    try:
        found = json.loads(
            read_text(path, "The file of default prompts", MAX_FILE, error=UsageError)
        )
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
