"""The engine against llama-cpp-python's own high-level API, on a 0.5B random-weight model.

Every figure stands beside its yardstick from the same run; two runs on one machine may differ by
tens of percent, so the ratios are what counts.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from urial_local.runtime import llama_api
from urial_local.runtime.engine import Engine
from urial_local.runtime.model import Model
from urial_local.runtime.open import RuntimeOptions, open_engine
from urial_local.runtime.prefix_cache import PrefixCache
from urial_local.runtime.rows import Request
from urial_local.runtime.sequences import BatchToken, Sequences
from urial_local.runtime.threads import default_threads

PREFIX, QUESTION, ANSWER, QUESTIONS = 1000, 16, 24, 32  # tokens, tokens, tokens, rows
REPEATS = 5
rng = np.random.default_rng(1)
PREFIX_IDS = [1, *rng.integers(300, 32000, PREFIX - 1).tolist()]
QUESTION_IDS = [rng.integers(300, 32000, QUESTION).tolist() for _ in range(QUESTIONS)]


def row(what: str, ours: str, yardstick: str, ratio: float | None, goal: str) -> dict[str, Any]:
    return {"what": what, "ours": ours, "yardstick": yardstick, "ratio": ratio, "goal": goal}


def high_level(path: Path, threads: int) -> Any:
    return llama_api.lib.Llama(
        str(path), n_ctx=2048, n_threads=threads, n_threads_batch=threads, verbose=False
    )


def completion(llama: Any, ids: list[int], n: int) -> tuple[float, float]:
    """Seconds to the first token, and decoded tokens a second after it, by create_completion."""
    start = time.perf_counter()
    ticks = [
        time.perf_counter()
        for _ in llama.create_completion(
            ids, max_tokens=n, temperature=0, repeat_penalty=1.0, stream=True
        )
    ]
    # Every token here is a whole word and comes as a chunk of its own; the chunk after the last
    # token says why it ended and decodes nothing.
    assert len(ticks) == n + 1
    ticks = ticks[:n]
    return ticks[0] - start, (len(ticks) - 1) / (ticks[-1] - ticks[0])


def seconds_decoding(engine: Engine) -> list[float]:
    """One number that from now on counts the seconds inside llama_decode."""
    inner: Callable[..., Any] = engine.decoder.decode
    spent = [0.0]

    def timed(batch: Any) -> Any:
        start = time.perf_counter()
        try:
            return inner(batch)
        finally:
            spent[0] += time.perf_counter() - start

    engine.decoder.decode = timed  # type: ignore[method-assign]
    return spent


def single_row(path: Path, threads: int) -> list[dict[str, Any]]:
    """Decode rate of one row after a 1,000-token prompt, and the share that Python takes."""
    n = 128
    ours: list[float] = []
    theirs: list[float] = []
    python: list[float] = []
    options = RuntimeOptions(ctx_size=2048, threads=threads, disk_cache=False)
    llama = high_level(path, threads)
    with open_engine(path, options) as (_, engine):
        spent = seconds_decoding(engine)
        for i in range(REPEATS + 1):  # the first time reads the prompt and is not counted
            ids = [*PREFIX_IDS, *QUESTION_IDS[0]]
            steps = engine.steps([Request(ids, max_tokens=n)])
            while not (step := next(steps)):
                pass  # the prompt's own batches
            assert step
            spent[0], wall = 0.0, time.perf_counter()
            count = sum(len(s) for s in steps)
            wall = time.perf_counter() - wall
            _, rate = completion(llama, ids, n)
            if i:
                ours.append(count / wall)
                theirs.append(rate)
                python.append((wall - spent[0]) / wall)
    llama.close()
    a, b, p = map(statistics.median, (ours, theirs, python))
    ratio = statistics.median(x / y for x, y in zip(ours, theirs, strict=True))
    return [
        row("decode, one row", f"{a:.1f} tokens/s", f"Llama: {b:.1f} tokens/s", ratio, "≥ 1.0×"),
        row("time outside llama_decode, one row", f"{p:.2%}", "of the whole", None, "≤ 1 %"),
    ]


def rows(path: Path, threads: int) -> list[dict[str, Any]]:
    """A job of 32 questions over one 1,000-token prefix, prefill of the prefix included."""
    llama = high_level(path, threads)
    start = time.perf_counter()
    for q in QUESTION_IDS:  # it reuses the prefix of its own last call
        llama.create_completion(
            [*PREFIX_IDS, *q], max_tokens=ANSWER, temperature=0, repeat_penalty=1.0
        )
    one_by_one = time.perf_counter() - start
    llama.close()
    goals = {(8, False): "≥ 2.5×", (32, False): "≥ 2×"}
    out = []
    with tempfile.TemporaryDirectory() as folder:
        cache = PrefixCache("benchmark", Path(folder))
        for n, on_disk in ((1, False), (8, False), (16, False), (32, False), (8, True), (16, True)):
            seconds = _job(path, threads, n, cache if on_disk else None)
            if on_disk:  # the first time kept the prefix's state, this time finds it
                seconds = _job(path, threads, n, cache)
            out.append(
                row(
                    f"whole job, {n} row{'s' * (n > 1)}{', prefix on disk' * on_disk}",
                    f"{QUESTIONS * ANSWER / seconds:.1f} tokens/s",
                    f"Llama, one by one: {QUESTIONS * ANSWER / one_by_one:.1f} tokens/s",
                    one_by_one / seconds,
                    goals.get((n, on_disk), ""),
                )
            )
    return out


def _job(path: Path, threads: int, n: int, cache: PrefixCache | None) -> float:
    """Seconds for all questions, n rows at a time."""
    options = RuntimeOptions(ctx_size=2048, parallel=n, threads=threads, disk_cache=False)
    with open_engine(path, options) as (_, engine):
        engine.held.cache = cache
        start = time.perf_counter()
        done = engine.complete(
            Request([*PREFIX_IDS, *q], max_tokens=ANSWER, shared=PREFIX) for q in QUESTION_IDS
        )
        seconds = time.perf_counter() - start
    assert sum(len(c.tokens) for c in done) == QUESTIONS * ANSWER
    return seconds


def ceiling(path: Path, threads: int) -> list[dict[str, Any]]:
    """What llama.cpp itself gains from batching here: bare `llama_decode` of n rows at a time."""
    rates = {}
    with Model(path) as model:
        for n in (1, 8, 16):
            sequences = Sequences(model, cells=2048, n_seq=n + 1, threads=threads)
            for at in range(0, PREFIX, 500):
                sequences.decode(
                    [BatchToken(PREFIX_IDS[at + i], at + i, 0, False) for i in range(500)]
                )
            for s in range(1, n + 1):
                sequences.copy(0, s, PREFIX)
            seconds = []
            for i in range(ANSWER):
                start = time.perf_counter()
                sequences.decode([BatchToken(300 + i, PREFIX + i, s + 1, True) for s in range(n)])
                seconds.append(time.perf_counter() - start)
            sequences.close()
            rates[n] = n / statistics.median(seconds)
    return [
        row(
            f"bare llama_decode, {n} rows",
            f"{rates[n]:.1f} tokens/s",
            f"one row: {rates[1]:.1f} tokens/s",
            rates[n] / rates[1],
            "",
        )
        for n in (8, 16)
    ]


_START = """
import json, sys, time
begin = time.perf_counter()
from urial_local.runtime.open import RuntimeOptions, open_engine
from urial_local.runtime.prefix_cache import PrefixCache
from urial_local.runtime.rows import Request
path, threads = sys.argv[1], int(sys.argv[2])
ids, shared = json.loads(sys.argv[3]), int(sys.argv[4])
with open_engine(path, RuntimeOptions(ctx_size=2048, threads=threads)) as (model, engine):
    ready = time.perf_counter()
    for _ in engine.stream([Request(ids, max_tokens=1, shared=shared)]):
        break
    first = time.perf_counter()
print(json.dumps([first - ready, first - begin]))
"""


def starts(path: Path, threads: int) -> list[dict[str, Any]]:
    """From a request to its first token in a new process, without and with the prefix on disk."""
    ids = [*PREFIX_IDS, QUESTION_IDS[0][0]]
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "URIAL_CACHE_DIR": folder}

        def start() -> list[float]:
            command = [sys.executable, "-c", _START, str(path), str(threads), json.dumps(ids)]
            done = subprocess.run(
                [*command, str(PREFIX)], capture_output=True, check=True, env=env, text=True
            )
            result: list[float] = json.loads(done.stdout)
            return result

        cold = start()
        warm = [start() for _ in range(REPEATS)]
    request, whole = (statistics.median(w[i] for w in warm) for i in (0, 1))
    return [
        row(
            "request to first token, warm",
            f"{request * 1000:.0f} ms",
            f"cold: {cold[0] * 1000:.0f} ms",
            cold[0] / request,
            "≥ 50×",
        ),
        row(
            "process start to first token, warm",
            f"{whole * 1000:.0f} ms",
            f"cold: {cold[1] * 1000:.0f} ms",
            cold[1] / whole,
            "",
        ),
    ]


def run(path: Path) -> list[dict[str, Any]]:
    with Model(path) as model:
        threads = default_threads(model.n_params)
        print(f"{model.description}, {model.n_params / 1e9:.2f}B, {threads} threads", flush=True)
    measured = (single_row, starts, rows, ceiling)
    return [line for measure in measured for line in measure(path, threads)]
