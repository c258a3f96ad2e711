"""Answers of the evaluation through the project's own runtime, many rows at a time."""

from __future__ import annotations

from pathlib import Path

from tools.demo_pair.evaluate import MOST_TOKENS, Answerer, Reply
from tools.demo_pair.frames import FENCE
from urial_local.runtime.engine import shared_length
from urial_local.runtime.open import RuntimeOptions, open_engine
from urial_local.runtime.rows import Request
from urial_local.runtime.stops import StopPolicy

PARALLEL = 16


def runtime_answerer(path: Path, *, chat: bool) -> Answerer:
    """An answerer on the engine, greedy; `chat` leaves the ending to the model alone."""
    stop = StopPolicy() if chat else StopPolicy(FENCE, "# Query:")

    def answer(prompts: list[str]) -> list[Reply]:
        options = RuntimeOptions(ctx_size=2048, parallel=PARALLEL, disk_cache=False)
        with open_engine(path, options) as (model, engine):
            rows = [model.vocab.tokenize(text, parse_special=chat) for text in prompts]
            # Two prompts of a setting differ from their question on, so what the first and the
            # last share is what all share.
            shared = shared_length(rows[0], rows[-1])
            done = engine.complete(
                Request(row.tolist(), stop=stop, max_tokens=MOST_TOKENS, shared=shared)
                for row in rows
            )
        return [Reply(c.text, c.finish_reason in ("frame", "eos")) for c in done]

    return lambda prompts: answer(list(prompts))
