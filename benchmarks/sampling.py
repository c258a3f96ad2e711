"""What drawing a token costs beside decoding it, on the real base model where it is fetched."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.engine import row, seconds_decoding
from urial_local.prompting.library import load_prompt
from urial_local.runtime.draw_rows import DrawTask, draw_row_numpy, draw_rows
from urial_local.runtime.model import Model
from urial_local.runtime.open import RuntimeOptions, open_engine
from urial_local.runtime.sampling import Sampling
from urial_local.runtime.sequences import BatchToken, Sequences
from urial_local.runtime.stops import StopPolicy
from urial_local.tasks.prompted import PromptedModel

ROWS, ANSWER, CONTEXT, REPEATS = 8, 40, 640, 3
THINGS = ("tea", "salt", "the wheel", "glass", "paper", "bread", "silk", "maps")
SETTINGS = {
    "greedy": Sampling(),
    "--temp 0.8": Sampling(temperature=0.8),
    "--temp 0.8 --top-p 0.9": Sampling(temperature=0.8, top_p=0.9),
    "--temp 0.8 --top-k 40": Sampling(temperature=0.8, top_k=40),
    "--temp 0.8 --min-p 0.05": Sampling(temperature=0.8, min_p=0.05),
    "--repeat-penalty 1.1": Sampling(repeat_penalty=1.1),
    "--temp 0.8 --top-p 0.9 --repeat-penalty 1.1": Sampling(
        temperature=0.8, top_p=0.9, repeat_penalty=1.1
    ),
}


def draws(path: Path) -> list[dict[str, Any]]:
    """Milliseconds of one thread for a row of the model's own logits, 1,000 ids under penalty."""
    with Model(path) as model:
        sequences = Sequences(model, cells=512, n_seq=1)
        text = "The history of tea begins in China, where an emperor was drinking a bowl of water"
        ids = model.vocab.tokenize(text).tolist()
        batch = [BatchToken(t, i, 0, True) for i, t in enumerate(ids)]
        logits = sequences.decode(batch).copy()
        sequences.close()
    seen = np.random.default_rng(0).integers(0, logits.shape[1], 1000).astype(np.int32)
    lines = []
    for name, sampling in SETTINGS.items():
        ours, theirs = [], []
        for x in logits:
            task = DrawTask(x, x, sampling, seen, 0.6)
            ours.append(statistics.median(_seconds(lambda t=task: draw_rows([t]), 9)))
            theirs.append(min(_seconds(lambda t=task: draw_row_numpy(t), 1)))
        a, b = statistics.median(ours), statistics.median(theirs)
        goal = "≤ 0.5 ms" if "penalty" in name and "top-p" in name else ""
        what = f"drawing a token of {logits.shape[1]:,}, {name}"
        lines.append(row(what, f"{a * 1e3:.2f} ms", f"numpy: {b * 1e3:.1f} ms", b / a, goal))
    return lines


def _seconds(work: Callable[[], Any], times: int) -> list[float]:
    found = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return found


def rates(path: Path) -> list[dict[str, Any]]:
    """Eight rows at a time under each setting, in turn with greedy decoding; medians of ratios."""
    options = RuntimeOptions(ctx_size=CONTEXT, parallel=ROWS, disk_cache=False)
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in SETTINGS}
    with open_engine(path, options) as (model, engine):
        spent = seconds_decoding(engine)
        asker = PromptedModel(model, load_prompt("urial-1"))
        asked = [asker.request(f"What is the story of {thing}?") for thing in THINGS]

        def rate(sampling: Sampling) -> tuple[float, float]:
            """Tokens a second after the prompts, and the share of time outside llama_decode."""
            steps = engine.steps(
                replace(r, sampling=sampling, max_tokens=ANSWER, stop=StopPolicy()) for r in asked
            )
            while len(next(steps)) < ROWS:
                pass
            spent[0], start, count = 0.0, time.perf_counter(), 0
            for step in steps:
                count += len(step)
            wall = time.perf_counter() - start
            return count / wall, (wall - spent[0]) / wall

        rate(Sampling())
        for _ in range(REPEATS):
            for name, sampling in SETTINGS.items():
                greedy, _ = rate(Sampling())
                ours, outside = rate(sampling)
                found[name].append((ours, greedy, outside))
    lines = []
    for name, pairs in found.items():
        ours, greedy, outside = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(a / b for a, b, _ in pairs)
        lines += [
            row(
                f"{ROWS} rows, {name}",
                f"{ours:.1f} tokens/s",
                f"greedy: {greedy:.1f} tokens/s",
                ratio,
                "≥ 0.95×",
            ),
            row(
                f"time outside llama_decode, {ROWS} rows, {name}",
                f"{outside:.2%}",
                "of the whole",
                None,
                "≤ 2 %",
            ),
        ]
    return lines


def run(path: Path) -> list[dict[str, Any]]:
    return [*draws(path), *rates(path)]
