"""The one door to a model: found, checked, tried where it is unknown, and opened.

Nobody else constructs a `Model`, so that no file reaches llama.cpp untried; a test holds that.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from urial_local.base import gguf_facts
from urial_local.base.gguf_header import GGUFHeader
from urial_local.base.registry import find_model
from urial_local.runtime.embeddings import Embedder
from urial_local.runtime.engine import Engine
from urial_local.runtime.model import GpuLayers, Model, fingerprint, open_vocabulary
from urial_local.runtime.open import DEFAULT_CTX, RuntimeOptions, open_engine
from urial_local.runtime.probe import check_unknown
from urial_local.runtime.vocabulary import Vocabulary

OnCheck = Callable[[Path], None]  # hears of a file that is tried for the first time
OnPrefill = Callable[[int, int], None]  # hears of a long prompt's progress, in tokens


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model's file, checked, with the name it has in this run."""

    name: str
    path: Path
    header: GGUFHeader
    fingerprint: str
    prompt: str | None = None  # that suits it, where one is known

    @property
    def title(self) -> str:
        return str(self.header.metadata.get("general.name") or self.path.stem)

    @property
    def argument(self) -> str:
        """How a command names it, as a shell reads it."""
        return shlex.quote(str(self.path) if self.name == self.path.stem else self.name)

    @property
    def chat_template(self) -> str:
        """The chat template in the file, or an empty string."""
        return str(self.header.metadata.get("tokenizer.chat_template") or "")

    @property
    def trained_context(self) -> int:
        """Tokens that the model was trained on; 0 where the file does not say."""
        return gguf_facts.context(self.header) or 0

    def about(self) -> dict[str, Any]:
        """For run.json."""
        return {
            "name": self.name,
            "file": self.path.name,
            "title": self.title,
            "architecture": self.header.architecture,
            "quantisation": gguf_facts.quantisation(self.header),
            "fingerprint": self.fingerprint,
        }

    def context(self, asked: int) -> int:
        """Tokens that a row may have: what was asked for, or the model's own, up to 4096."""
        return asked or min(self.trained_context or DEFAULT_CTX, DEFAULT_CTX)

    def load(self, gpu_layers: GpuLayers = "auto") -> Model:
        """The weights, to be closed. Raises ModelError."""
        return Model(self.path, gpu_layers=gpu_layers, header=self.header)

    def open(
        self, options: RuntimeOptions | None = None, on_prefill: OnPrefill | None = None
    ) -> AbstractContextManager[tuple[Model, Engine]]:
        """The weights and an engine over them, both closed in the end. Raises ModelError, or
        UsageError for options that make no sense."""
        return open_engine(self.path, options, on_prefill, self.header)

    def vocabulary(self) -> AbstractContextManager[Vocabulary]:
        """The vocabulary without the weights. Raises ModelError."""
        return open_vocabulary(self.path)

    def embedder(self) -> Embedder:
        """The model for embedding texts, to be closed. Raises ModelError."""
        return Embedder(self.path)


def model_file(name: str, on_check: OnCheck = lambda path: None) -> ModelFile:
    """Find a model and check its file. Raises ModelError."""
    named = find_model(name)
    header = check_unknown(named.path, lambda: on_check(named.path))
    plain = "/" not in name and not name.endswith(".gguf")  # a name of the registry
    label = name if plain else named.path.stem
    return ModelFile(label, named.path, header, fingerprint(named.path, header), named.prompt)


@contextmanager
def open_model(
    name: str,
    options: RuntimeOptions | None = None,
    on_prefill: OnPrefill | None = None,
    on_check: OnCheck = lambda path: None,
) -> Iterator[tuple[ModelFile, Model, Engine]]:
    """A model by its name or file, checked and open, closed in the end. Raises ModelError, or
    UsageError for options that make no sense."""
    file = model_file(name, on_check)
    with file.open(options, on_prefill) as (model, engine):
        yield file, model, engine
