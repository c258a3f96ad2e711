"""Puts a model, its sequences and an engine together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from urial_local.base import limits
from urial_local.base.errors import UsageError
from urial_local.base.gguf_header import GGUFHeader
from urial_local.runtime import llama_api
from urial_local.runtime.adapters import Adapter
from urial_local.runtime.engine import Engine
from urial_local.runtime.model import GpuLayers, Model
from urial_local.runtime.prefix_cache import PrefixCache
from urial_local.runtime.prompt_scores import PromptScorer
from urial_local.runtime.sequences import Sequences

DEFAULT_CTX = 4096
PREFIXES = 4  # sequences for prefixes and finished conversations, beside those of rows


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """How to run a model. `ctx_size` is what one row may have; 0 is the model's own, up to 4096."""

    ctx_size: int = 0
    parallel: int = 1
    batch: int = 512
    threads: int | None = None
    gpu_layers: GpuLayers = "auto"
    flash_attention: bool | None = None
    kv_type: Literal["f16", "f32", "q8_0"] = "f16"
    disk_cache: bool = True


def _check(o: RuntimeOptions) -> None:
    """What the command line refuses, for those who call this from a program."""
    bounds = {
        "`parallel`": (1, o.parallel, limits.ROWS_AT_A_TIME),
        "`ctx_size`": (0, o.ctx_size, limits.TOKENS),
        "`batch`": (1, o.batch, limits.BATCH),
        "`threads`": (1, o.threads or 1, limits.THREADS),
    }
    for name, (least, value, most) in bounds.items():
        if not least <= value <= most:
            raise UsageError(f"{name} {value} must be between {least} and {most:,}.")


SCORED_AT_HAND = 2  # prompts whose scores and cells are kept


def open_scorer(
    model: Model, ctx_size: int, options: RuntimeOptions, exact: bool = False
) -> tuple[PromptScorer, Callable[[], None]]:
    """What scores given tokens over a context of its own beside an engine's, and what closes it.

    Raises ModelError where memory is short."""
    sequences = Sequences(
        model,
        cells=ctx_size * SCORED_AT_HAND,
        n_seq=SCORED_AT_HAND,
        batch=min(options.batch, ctx_size),
        threads=options.threads,
        flash_attention=options.flash_attention,
        kv_type=options.kv_type,
        unified=False,
    )
    return PromptScorer(sequences, exact), sequences.close


@contextmanager
def open_engine(
    path: Path | str,
    options: RuntimeOptions | None = None,
    on_prefill: Callable[[int, int], None] | None = None,
    header: GGUFHeader | None = None,
    adapters: Sequence[Adapter] = (),
) -> Iterator[tuple[Model, Engine]]:
    """A model and an engine on it, both closed in the end. `header` is the file's, if it was read;
    `adapters` change the model.

    Raises ModelError, or UsageError for options that make no sense.
    """
    o = options or RuntimeOptions()
    _check(o)
    with Model(path, gpu_layers=o.gpu_layers, header=header, adapters=adapters) as model:
        ctx_size = o.ctx_size or min(model.ctx_train, DEFAULT_CTX)
        # One row at a time has the same numbers on every start; several have not, since the shape
        # of a batch decides the last digits.
        exact = o.parallel == 1
        sequences = Sequences(
            model,
            cells=ctx_size * o.parallel,
            n_seq=min(o.parallel + (1 if exact else PREFIXES), limits.SEQUENCES),
            batch=min(o.batch, ctx_size * o.parallel),
            threads=o.threads,
            flash_attention=o.flash_attention,
            kv_type=o.kv_type,
        )
        try:
            cache = None
            if o.disk_cache:
                parts = [model.fingerprint, llama_api.build_id(), sequences.cache_id]
                # Several rows decode a prefix in the batches of others, whose shape shows in its
                # last digits: such a state is not for a run whose numbers must repeat.
                parts += [] if exact else ["beside others"]
                cache = PrefixCache("\n".join(parts), per_token=model.state_bytes_per_token)
            model.vocab.most = ctx_size
            engine = Engine(
                model.vocab,
                sequences,
                ctx_size=ctx_size,
                rows=o.parallel,
                exact=exact,
                cache=cache,
                on_prefill=on_prefill,
            )
            yield model, engine
        finally:
            sequences.close()
