"""A short measurement on the embedded model: how fast this machine reads and writes tokens."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from urial_local.base.errors import UrialError
from urial_local.runtime.open import RuntimeOptions
from urial_local.runtime.rows import Completion, Request
from urial_local.tasks.model_file import open_model

ROWS = 8  # of the decode measurement with several at a time
PROMPT, ANSWER = 1024, 64  # tokens


@dataclass(frozen=True, slots=True)
class Rates:
    """Tokens a second on the embedded demo model; medians of several passes."""

    prefill: float  # reading a prompt of 1,024 tokens
    decode: float  # writing, one row
    batch: float  # writing, eight rows, all of them together
    seconds: float  # that the measurement took


def measure(seconds: float = 10.0) -> Rates:
    """Prefill and decode rates, from passes repeated for about so many seconds.

    Raises UrialError where the embedded model does not load, or writes other tokens from one pass
    to the next, which greedy decoding of one row never does.
    """
    began = time.perf_counter()
    options = RuntimeOptions(ctx_size=PROMPT + ANSWER, parallel=ROWS, disk_cache=False)
    random = np.random.default_rng(0)
    prefill: list[float] = []
    decode: list[float] = []
    batch: list[float] = []
    said: Completion | None = None
    with open_model("demo", options) as (_, model, engine):
        start = model.vocab.tokenize("Long ago there was a fox who lived in a wood.").tolist()
        writing = Request(tokens=start, max_tokens=ANSWER)
        while not batch or time.perf_counter() - began < seconds:
            # Other tokens each time, so that nothing of them is in the cache already.
            text = random.integers(0, model.vocab.size, PROMPT).tolist()
            (read,) = engine.complete([Request(tokens=text, max_tokens=1)])
            prefill.append(PROMPT / read.prefill_seconds)
            (one,) = engine.complete([writing])
            if said is not None and one.tokens != said.tokens:
                raise UrialError("The embedded model wrote other tokens when asked again.")
            said = one
            decode.append(one.tokens_per_second)
            rows = engine.complete([writing] * ROWS)
            took = max(row.decode_seconds for row in rows)
            batch.append(sum(len(row.tokens) - 1 for row in rows) / took)
    reads, writes, together = (float(np.median(rates)) for rates in (prefill, decode, batch))
    return Rates(reads, writes, together, time.perf_counter() - began)
