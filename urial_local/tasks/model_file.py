"""A model's file, found, checked and described, before its weights are loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from urial_local.base.gguf_facts import quantisation
from urial_local.base.gguf_header import GGUFHeader
from urial_local.base.registry import find_model
from urial_local.runtime.model import fingerprint
from urial_local.runtime.probe import check_unknown


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model's file, checked, with the name it has in this run."""

    name: str
    path: Path
    header: GGUFHeader
    fingerprint: str

    @property
    def chat_template(self) -> str:
        """The chat template in the file, or an empty string."""
        return str(self.header.metadata.get("tokenizer.chat_template") or "")

    def about(self) -> dict[str, Any]:
        """For run.json."""
        meta = self.header.metadata
        return {
            "name": self.name,
            "file": self.path.name,
            "title": str(meta.get("general.name") or self.path.stem),
            "architecture": self.header.architecture,
            "quantisation": quantisation(self.header),
            "fingerprint": self.fingerprint,
        }


def model_file(name: str, on_check: Callable[[Path], None] = lambda path: None) -> ModelFile:
    """Find a model and check its file. Raises ModelError; `on_check` hears of a first try."""
    named = find_model(name)
    header = check_unknown(named.path, lambda: on_check(named.path))
    plain = "/" not in name and not name.endswith(".gguf")  # a name of the registry
    label = name if plain else named.path.stem
    return ModelFile(label, named.path, header, fingerprint(named.path, header))
