"""Rates on a machine that others keep busy: ours, one thread, passive waiting, and `Llama`.

Each measurement is a process of its own, since OpenMP reads its settings once. All are taken in
turn, several times, beside none, one and two processes that count.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.engine import row

ROUNDS, READ, SECONDS = 3, 256, 1.2
SETTINGS: dict[str, tuple[dict[str, str], int]] = {
    "ours": ({}, 0),
    "one thread": ({}, 1),
    "passive": ({"OMP_WAIT_POLICY": "passive"}, -1),
    "llama.cpp's default": ({"GOMP_SPINCOUNT": "300000"}, -1),
}
_OURS = """
import json, sys, time
from urial_local.runtime.model import Model
from urial_local.runtime.sequences import BatchToken, Sequences
from urial_local.runtime.threads import default_threads
path, threads, read, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
with Model(path) as model:
    threads = default_threads(model.n_params) if threads < 0 else threads or None
    sequences = Sequences(model, cells=2048, n_seq=9, threads=threads)
    ids = [(i * 7919) % (model.vocab.size - 300) + 200 for i in range(read)]
    rates = []
    for _ in range(2):
        sequences.clear(0)
        start = time.perf_counter()
        sequences.decode([BatchToken(t, i, 0, False) for i, t in enumerate(ids)])
        rates.append(read / (time.perf_counter() - start))
    found = [max(rates)]
    for n in (1, 8):
        for row in range(1, n + 1):
            sequences.copy(0, row, read)
        at, start = read, time.perf_counter()
        while time.perf_counter() - start < seconds and at < read + 160:
            sequences.decode([BatchToken(ids[at % read], at, r, True) for r in range(1, n + 1)])
            at += 1
        found.append((at - read) * n / (time.perf_counter() - start))
    print(json.dumps(found))
"""
_LLAMA = """
import json, sys, time
from llama_cpp import Llama
path, read, seconds = sys.argv[1], int(sys.argv[3]), float(sys.argv[4])
llama = Llama(path, n_ctx=2048, verbose=False)
ids = [(i * 7919) % (llama.n_vocab() - 300) + 200 for i in range(read)]
start = time.perf_counter()
llama.eval(ids)
found = [read / (time.perf_counter() - start)]
at, start = 0, time.perf_counter()
while time.perf_counter() - start < seconds and at < 160:
    llama.eval([ids[at % read]])
    at += 1
print(json.dumps([*found, at / (time.perf_counter() - start), 0.0]))
"""


def run(path: Path) -> list[dict[str, Any]]:
    """Reading, one row and eight rows, against the best of the other settings and `Llama`."""
    lines = []
    for others in (0, 1, 2):
        found = _beside(path, others)
        for i, what in enumerate(("reading", "one row", "8 rows")):
            ours = found["ours"][i]
            rest = {name: rates[i] for name, rates in found.items() if name != "ours" and rates[i]}
            settings = {name: rate for name, rate in rest.items() if name != "Llama"}
            best = max(settings, key=settings.__getitem__) if others else "llama.cpp's default"
            goal = "≥ 0.9×" if others else "≥ 0.95×"
            label = f"{what}, {others or 'no'} busy process{'es' * (others != 1)} beside"
            yardstick = f"{best}: {settings[best]:.1f} tokens/s"
            lines.append(row(label, f"{ours:.1f} tokens/s", yardstick, ours / settings[best], goal))
            if "Llama" in rest:
                yardstick = f"Llama: {rest['Llama']:.1f} tokens/s"
                lines.append(
                    row(label, f"{ours:.1f} tokens/s", yardstick, ours / rest["Llama"], "")
                )
    return lines


def _beside(path: Path, others: int) -> dict[str, list[float]]:
    """Medians of reading, one row and eight rows by setting, beside so many busy processes."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(others)]
    found: dict[str, list[list[float]]] = {}
    try:
        for _ in range(ROUNDS):
            for name, (env, threads) in SETTINGS.items():
                found.setdefault(name, []).append(_measured(_OURS, path, threads, env))
            found.setdefault("Llama", []).append(_measured(_LLAMA, path, 0, {}))
    finally:
        for process in busy:
            process.kill()
            process.wait()
    return {
        name: [statistics.median(column) for column in zip(*runs, strict=True)]
        for name, runs in found.items()
    }


def _measured(code: str, path: Path, threads: int, more: dict[str, str]) -> list[float]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    command = [sys.executable, "-c", code, str(path), str(threads), str(READ), str(SECONDS)]
    done = subprocess.run(
        command, env={**kept, **more}, capture_output=True, text=True, check=True, timeout=300
    )
    rates: list[float] = json.loads(done.stdout)
    return rates
