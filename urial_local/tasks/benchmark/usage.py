"""What to type to ask a model as a cell does."""

from __future__ import annotations

import shlex
from pathlib import Path

from urial_local.prompting.library import prompt_files
from urial_local.records.generated import AdapterFacts, ModelFacts, PromptFacts
from urial_local.runtime.guides import Rule
from urial_local.tasks.benchmark.results import Cell, GuideCellFacts


def usage(cell: Cell) -> str:
    """The command. Names of the registry and of prompts are as they are; what came from a file is
    called as the file is, wherever it lies now."""
    facts = cell.facts
    options = ["-m", _model(facts.model), "-p", _prompt(facts.prompt.name)]
    if facts.guide is not None:
        options += _guide(facts.guide)
    return f'{shlex.join(["urial-local", "ask", *options])} "…"'


def _guide(guide: GuideCellFacts) -> list[str]:
    """What differs from the defaults is named; the guide's own prompt, too, where that may not be
    its default."""
    options = ["--guide", _model(guide.model)] if guide.model else []
    options += ["--guide-base", _model(guide.base)] if guide.base else []
    chosen = Rule(guide.rule)
    if guide.rule != Rule().name:
        options += ["--guide-rule", guide.rule]
    for name in ("gamma", "beta", "alpha"):
        value = getattr(guide, name)
        if value is not None and value != getattr(chosen, name):
            options += [f"--{name}", f"{value:g}"]
    if isinstance(guide.prompt, PromptFacts) and guide.prompt.name not in ("chat", "zero-shot"):
        options += ["--guide-prompt", _prompt(guide.prompt.name)]
    return options


def _model(model: ModelFacts) -> str:
    base, *labels = model.name.rsplit("+", len(model.adapters)) if model.adapters else [model.name]
    files = [
        _adapter(label, adapter) for label, adapter in zip(labels, model.adapters, strict=False)
    ]
    return "+".join([model.file if Path(model.file).stem == base else base, *files])


def _adapter(label: str, adapter: AdapterFacts) -> str:
    scale = "" if adapter.scale == 1 else f"@{adapter.scale:.12g}"
    kind = "cvec:" if adapter.kind == "cvec" else ""
    return f"{kind}{label.removesuffix(scale)}.gguf{scale}"


def _prompt(name: str) -> str:
    return name if name in prompt_files() else f"{name}.toml"
