"""What to type to ask a model as a cell does."""

from __future__ import annotations

import shlex
from pathlib import Path

from urial_local.prompting.library import prompt_files
from urial_local.tasks.benchmark.results import Cell


def usage(cell: Cell) -> str:
    """The command. Names of the registry and of prompts are as they are; what came from a file is
    called as the file is, wherever it lies now."""
    model, prompt = cell.facts.model, cell.facts.prompt.name
    named = model.file if Path(model.file).stem == model.name else model.name
    asked = prompt if prompt in prompt_files() else f"{prompt}.toml"
    return f'{shlex.join(["urial-local", "ask", "-m", named, "-p", asked])} "…"'
