"""What a run over texts is asked to do, and the checks that need no weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from urial_local.base.errors import UsageError
from urial_local.base.registry import counterpart
from urial_local.runtime.open import RuntimeOptions
from urial_local.runtime.vocabulary import Vocabulary
from urial_local.runtime.vocabulary_pair import compare_vocabularies
from urial_local.tasks.model_file import ModelFile, model_file
from urial_local.tasks.shift_texts.chunks import SCORES, Score
from urial_local.tasks.shift_texts.mining import listed
from urial_local.tasks.shift_texts.record import TASK

DEFAULT_CTX = 512
MOST_CTX = 1 << 15  # counts of a row are kept in 16 bits
LEAST_CTX = 8


@dataclass(frozen=True, slots=True)
class TextOptions:
    """What the user chose. `ctx`: tokens that a model reads at a time."""

    base: str
    aligned: str | None = None
    ctx: int = DEFAULT_CTX
    score: Score = "all"
    shard: tuple[int, int] | None = None
    runtime: RuntimeOptions = field(default_factory=RuntimeOptions)


@dataclass(frozen=True, slots=True)
class TextSetup:
    """All that is known before weights are loaded."""

    options: TextOptions
    base: ModelFile
    aligned: ModelFile
    vocabulary: int  # tokens in it

    def config(self) -> dict[str, Any]:
        """All that decides a row; another one is refused when a run is resumed."""
        o = self.options
        return {
            "task": TASK,
            "base": self.base.about(),
            "aligned": self.aligned.about(),
            "vocabulary": self.vocabulary,
            "ctx": o.ctx,
            "score": o.score,
            "k": listed(self.vocabulary),
            "kv_type": o.runtime.kv_type,
            "shard": "/".join(map(str, o.shard)) if o.shard else None,
        }


def set_up(options: TextOptions, on_check: Callable[[Path], None] = lambda path: None) -> TextSetup:
    """Check files and vocabularies. Raises ModelError or UsageError."""
    if options.score not in SCORES:
        raise UsageError(f"`score` {options.score!r} must be one of {', '.join(SCORES)}.")
    if not LEAST_CTX <= options.ctx <= MOST_CTX:
        raise UsageError(f"`ctx` {options.ctx:,} must be between {LEAST_CTX} and {MOST_CTX:,}.")
    name = options.aligned or counterpart(options.base)
    if not name:
        raise UsageError(
            f"No aligned counterpart of {options.base} is known.", "Name one with `aligned`."
        )
    base, aligned = model_file(options.base, on_check), model_file(name, on_check)
    for file in (base, aligned):
        if file.trained_context and options.ctx > file.trained_context:
            raise UsageError(
                f"`ctx` {options.ctx:,} is more than {file.path.name} was trained for:"
                f" {file.trained_context:,} tokens.",
                "Use a smaller `ctx`.",
            )
    with base.vocabulary() as ours, aligned.vocabulary() as theirs:
        if apart := _difference(ours, theirs):
            raise UsageError(
                f"{base.path.name} and {aligned.path.name} have different vocabularies. {apart}",
                "Texts are compared token by token, which needs the same tokens.",
            )
        size = ours.size
    return TextSetup(options, base, aligned, size)


def _difference(base: Vocabulary, aligned: Vocabulary) -> str:
    """What keeps two models from being compared on the same ids, or an empty string. Control tokens
    may have other names: no text becomes one."""
    if base is aligned:
        return ""
    try:
        pair = compare_vocabularies(base, aligned)
    except UsageError as error:
        return error.message
    if pair.same:
        return ""
    if base.size == aligned.size:
        apart = set(range(base.size)) - set(pair.shared.tolist())
        if apart <= base.controls.keys() and apart <= aligned.controls.keys():
            return ""
    return pair.difference
