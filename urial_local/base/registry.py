"""What `-m` may name: a file, or one of the two embedded demo models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from urial_local.base.errors import ModelError
from urial_local.base.paths import shipped

DEMO_NOTE = (
    "No model was named, so the embedded demo model answers: 8 MB, trained on a small invented"
    " world, it shows how URIAL works and knows nothing else. For a real one, get a base model in"
    " GGUF and name it with -m FILE or URIAL_MODEL:\n"
    "  hf download TheBloke/Mistral-7B-v0.1-GGUF mistral-7b-v0.1.Q4_K_M.gguf --local-dir ."
)


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A model file, and the prompt that suits it where one is known."""

    path: Path
    prompt: str | None = None


_EMBEDDED = {
    "demo": ("demo-base-q8_0.gguf", "urial-demo"),
    "demo-aligned": ("demo-aligned-q8_0.gguf", "chat"),
}


def find_model(name: str) -> NamedModel:
    """The model that a name stands for. Raises ModelError where the name is no file's.

    A file called `demo` is reached as `./demo`.
    """
    if name in _EMBEDDED:
        file, prompt = _EMBEDDED[name]
        return NamedModel(shipped("demo") / file, prompt)
    if "/" not in name and not Path(name).exists() and not name.endswith(".gguf"):
        raise ModelError(
            f"There is no model {name!r}.",
            f"Name a .gguf file, or one of the embedded models: {', '.join(_EMBEDDED)}.",
        )
    return NamedModel(Path(name).expanduser())
