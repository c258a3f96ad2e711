"""What each kind of run needs so that its workers make the driver's own rows."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from urial_local.base.errors import UsageError
from urial_local.records.runlog import differences
from urial_local.runtime.llama_api import build_id
from urial_local.runtime.open import RuntimeOptions
from urial_local.tasks.model_file import ModelFile


def go_to(folder: str) -> None:
    """Names of files are meant as in the driver's folder, where this machine has it."""
    if folder != os.getcwd():
        with contextlib.suppress(OSError):
            os.chdir(folder)


def name_for_workers(file: ModelFile) -> str:
    """The name by which a worker finds this model, and calls it the same: what the user wrote, or
    the file's whole path, where a link stays one."""
    path = Path(file.asked).expanduser().absolute()
    return str(path) if path == file.path.absolute() else file.asked


def for_each(runtime: RuntimeOptions, threads: int | None, on_cpu: bool) -> RuntimeOptions:
    """The runtime of each worker. `threads`: unless the user chose; `on_cpu`: no GPU is used."""
    return replace(
        runtime,
        threads=runtime.threads or threads,
        gpu_layers=0 if on_cpu else runtime.gpu_layers,
    )


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """A run's config as its run.json has it."""
    found: dict[str, Any] = json.loads(json.dumps(config))
    return found


def refuse_others(driver: Mapping[str, Any], build: str, own: Mapping[str, Any]) -> None:
    """Raises UsageError where models, prompts or options differ from the driver's, or llama.cpp
    was built otherwise."""
    lines = differences(
        {**driver, "llama.cpp": build},
        {**plain(own), "llama.cpp": build_id()},
        "at the driver",
        "here",
    )
    if lines:
        raise UsageError(
            "This worker would make other rows than the driver asks for.", "\n".join(lines)
        )
