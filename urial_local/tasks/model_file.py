"""The one door to a model: found, checked, tried where it is unknown, and opened.

Nobody else constructs a `Model`, so that no file reaches llama.cpp untried; a test holds that.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from urial_local.base import gguf_facts
from urial_local.base.gguf_header import GGUFHeader
from urial_local.base.model_names import parse_name
from urial_local.base.registry import find_model
from urial_local.prompting.chat_template import read_template
from urial_local.runtime.adapters import Adapter, checked_adapters, titled, with_adapters
from urial_local.runtime.embeddings import Embedder
from urial_local.runtime.engine import Engine
from urial_local.runtime.model import GpuLayers, Model, fingerprint, open_vocabulary
from urial_local.runtime.open import DEFAULT_CTX, RuntimeOptions, open_engine
from urial_local.runtime.probe import check_adapters, check_unknown
from urial_local.runtime.vocabulary import Vocabulary

OnCheck = Callable[[Path], None]  # hears of a file that is tried for the first time
OnPrefill = Callable[[int, int], None]  # hears of a long prompt's progress, in tokens
_TEMPLATE = "tokenizer.chat_template"


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
    template_sha: str = ""  # of a chat template that was given in place of the file's own

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
        """The chat template in the file, or the one given in its place, or an empty string."""
        return str(self.header.metadata.get(_TEMPLATE) or "")

    @property
    def aligned_prompt(self) -> str | None:
        """What a model that was trained to be asked is asked under: the prompt that is known to
        suit it, or its chat template; None where there is neither. What suits a base says nothing
        of how its adapter was trained."""
        known = None if self.adapters else self.prompt
        return known or ("chat" if self.chat_template else None)

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
            # Only where they are chosen, so that runs from before they could be go on.
            **({"adapters": [a.about() for a in self.adapters]} if self.adapters else {}),
            **({"chat_template": self.template_sha} if self.template_sha else {}),
        }

    def with_template(self, path: str | None) -> ModelFile:
        """The same, asked in the chat template in a file, where one is named. Raises
        PromptError."""
        if path is None:
            return self
        source = read_template(path)
        header = replace(self.header, metadata={**self.header.metadata, _TEMPLATE: source})
        sha = hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()
        return replace(self, header=header, prompt=None, template_sha=sha)

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


def model_file(
    name: str, on_check: OnCheck = lambda path: None, chat_template: str | None = None
) -> ModelFile:
    """Find a model, with its adapters, and check the files. `chat_template`: a file with one, in
    place of the model's own, and of the prompt that is known to suit it.

    Raises ModelError, PromptError for the template, or UsageError for a name that makes no sense.
    """
    named = find_model(name)
    header = check_unknown(named.path, lambda: on_check(named.path))
    adapters = checked_adapters(named.adapters, header)
    check_adapters(named.path, header, adapters, lambda: on_check(named.path))
    base = parse_name(name).base
    plain = "/" not in base and not base.endswith(".gguf")  # a name of the registry
    label = "+".join([base if plain else named.path.stem, *(a.named.label for a in adapters)])
    own = with_adapters(fingerprint(named.path, header), adapters)
    found = ModelFile(label, named.path, header, own, named.prompt, adapters, name)
    return found.with_template(chat_template)


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
