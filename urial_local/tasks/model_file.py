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
from urial_local.base.model_names import parse_name
from urial_local.base.registry import find_model
from urial_local.runtime.adapters import Adapter, checked_adapters, titled, with_adapters
from urial_local.runtime.embeddings import Embedder
from urial_local.runtime.engine import Engine
from urial_local.runtime.model import GpuLayers, Model, fingerprint, open_vocabulary
from urial_local.runtime.open import DEFAULT_CTX, RuntimeOptions, open_engine
from urial_local.runtime.probe import check_adapters, check_unknown
from urial_local.runtime.vocabulary import Vocabulary

OnCheck = Callable[[Path], None]  # hears of a file that is tried for the first time
OnPrefill = Callable[[int, int], None]  # hears of a long prompt's progress, in tokens


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model's file, checked, with the name it has in this run."""

    name: str
    path: Path
    header: GGUFHeader
    fingerprint: str  # of the file with its adapters
    prompt: str | None = None  # that suits it, where one is known
    adapters: tuple[Adapter, ...] = ()
    asked: str = ""  # the name it was found by

    @property
    def title(self) -> str:
        own = str(self.header.metadata.get("general.name") or self.path.stem)
        return titled(own, self.adapters)

    @property
    def argument(self) -> str:
        """How a command names it, as a shell reads it."""
        if self.adapters:
            return shlex.quote(self.asked)
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
            # Only where there are some, so that runs from before they could be go on.
            **({"adapters": [a.about() for a in self.adapters]} if self.adapters else {}),
        }

    def context(self, asked: int) -> int:
        """Tokens that a row may have: what was asked for, or the model's own, up to 4096."""
        return asked or min(self.trained_context or DEFAULT_CTX, DEFAULT_CTX)

    def load(self, gpu_layers: GpuLayers = "auto") -> Model:
        """The weights, to be closed. Raises ModelError."""
        return Model(self.path, gpu_layers=gpu_layers, header=self.header, adapters=self.adapters)

    def open(
        self, options: RuntimeOptions | None = None, on_prefill: OnPrefill | None = None
    ) -> AbstractContextManager[tuple[Model, Engine]]:
        """The weights and an engine over them, both closed in the end. Raises ModelError, or
        UsageError for options that make no sense."""
        return open_engine(self.path, options, on_prefill, self.header, self.adapters)

    def vocabulary(self) -> AbstractContextManager[Vocabulary]:
        """The vocabulary without the weights. Raises ModelError."""
        return open_vocabulary(self.path)

    def embedder(self) -> Embedder:
        """The model for embedding texts, to be closed. Raises ModelError."""
        return Embedder(self.path, adapters=self.adapters)


def model_file(name: str, on_check: OnCheck = lambda path: None) -> ModelFile:
    """Find a model, with its adapters, and check the files. Raises ModelError, or UsageError for a
    name that makes no sense."""
    named = find_model(name)
    header = check_unknown(named.path, lambda: on_check(named.path))
    adapters = checked_adapters(named.adapters, header)
    check_adapters(named.path, header, adapters, lambda: on_check(named.path))
    base = parse_name(name).base
    plain = "/" not in base and not base.endswith(".gguf")  # a name of the registry
    label = "+".join([base if plain else named.path.stem, *(a.named.label for a in adapters)])
    own = with_adapters(fingerprint(named.path, header), adapters)
    return ModelFile(label, named.path, header, own, named.prompt, adapters, name)


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
