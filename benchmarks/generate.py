"""What `generate` rests on: the cache's layout for long answers, and llama.cpp's own figures."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.engine import PREFIX, PREFIX_IDS, QUESTION_IDS, row
from urial_local.runtime.engine import Engine
from urial_local.runtime.model import Model
from urial_local.runtime.rows import Request
from urial_local.runtime.sequences import Sequences
from urial_local.runtime.threads import default_threads

ROWS, LONG = 8, 300  # rows at a time; tokens of a long answer


def layouts(path: Path) -> list[dict[str, Any]]:
    """Long answers over one prefix: all rows in one cache, or each in a part of its own."""
    seconds = {}
    with Model(path) as model:
        for unified in (True, False):
            cells = 1536 * (ROWS + 1)
            sequences = Sequences(model, cells=cells, n_seq=ROWS + 1, unified=unified)
            engine = Engine(model.vocab, sequences, ctx_size=1536)
            warm = Request(PREFIX_IDS + QUESTION_IDS[-1], max_tokens=1, shared=PREFIX)
            engine.complete([warm])  # the prefix, which both layouts decode alike
            done = engine.complete(
                Request([*PREFIX_IDS, *q], max_tokens=LONG, shared=PREFIX)
                for q in QUESTION_IDS[:ROWS]
            )
            seconds[unified] = max(c.prefill_seconds + c.decode_seconds for c in done)
            sequences.close()
    tokens = ROWS * LONG
    return [
        row(
            f"{ROWS} answers of {LONG} tokens, one cache (the default)",
            f"{tokens / seconds[True]:.1f} tokens/s",
            f"a part for each row: {tokens / seconds[False]:.1f} tokens/s",
            seconds[False] / seconds[True],
            "≥ 1.0×",
        )
    ]


def batched_bench(path: Path) -> list[dict[str, Any]]:
    """Our decode rate beside llama-batched-bench's, where LLAMA_CPP_BIN names its folder."""
    folder = os.environ.get("LLAMA_CPP_BIN")
    if not folder:
        return []
    with Model(path) as model:
        threads = default_threads(model.n_params)
        sequences = Sequences(model, cells=1536 * (ROWS + 1), n_seq=ROWS + 1, threads=threads)
        engine = Engine(model.vocab, sequences, ctx_size=1536)
        requests = [Request([*PREFIX_IDS, *q], max_tokens=128, shared=PREFIX) for q in QUESTION_IDS]
        engine.complete(requests[:1])
        done = engine.complete(requests[:ROWS])
        ours = sum(len(c.tokens) for c in done) / max(c.decode_seconds for c in done)
        sequences.close()
    cells = str(ROWS * (PREFIX + 128))  # it keeps a copy of the shared prompt for each row
    command = [str(Path(folder) / "llama-batched-bench"), "-m", str(path), "-c", cells, "-pps"]
    command += ["-npp", str(PREFIX), "-ntg", "128", "-npl", str(ROWS), "-t", str(threads)]
    command += ["--output-format", "jsonl", "-fa", "off"]
    done_bench = subprocess.run(command, capture_output=True, text=True, check=True)
    theirs = batched_rate(done_bench.stdout)
    return [
        row(
            f"decode, {ROWS} rows",
            f"{ours:.1f} tokens/s",
            f"llama-batched-bench: {theirs:.1f} tokens/s",
            ours / theirs,
            "≥ 1.0×",
        )
    ]


def batched_rate(output: str) -> float:
    """Tokens a second of generation in llama-batched-bench's last line of JSON."""
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return float(lines[-1]["speed_tg"])


def run(path: Path) -> list[dict[str, Any]]:
    return layouts(path) + batched_bench(path)
