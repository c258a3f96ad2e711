"""Shift analysis against the physical limit, the reference's method and itself without sharing."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.engine import row
from urial_local.records.datasets import Item
from urial_local.records.runlog import RunLog
from urial_local.runtime.model import Model
from urial_local.runtime.open import RuntimeOptions
from urial_local.runtime.sequences import BatchToken, Sequences
from urial_local.runtime.shift_rows import shift_rows, shift_rows_numpy
from urial_local.runtime.teacher_forced import TeacherForced
from urial_local.tasks.shift.analysis import Analysis, todo
from urial_local.tasks.shift.record import KEY
from urial_local.tasks.shift.setup import ShiftOptions, set_up

ANSWERS, TOKENS = 24, 300  # of the analysis; tokens of an answer
REPEATS = 3
rng = np.random.default_rng(2)


def words(n: int) -> str:
    """Text of n tokens: in the random models' vocabulary a character is a token."""
    return "".join(map(chr, rng.integers(97, 123, n)))


def timed(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def paired(ours: Callable[[], float], theirs: Callable[[], float]) -> tuple[float, float, float]:
    """Median seconds of both and the median ratio theirs / ours, over pairs run in turn."""
    pairs = [(ours(), theirs()) for _ in range(REPEATS)]
    a, b = (statistics.median(side) for side in zip(*pairs, strict=True))
    return a, b, statistics.median(y / x for x, y in pairs)


def analysis(base: Path, aligned: Path, items: list[Item], answers: dict[str, str]) -> float:
    """Seconds of the whole analysis of given answers, models opened and rows written."""
    options = ShiftOptions(
        str(base),
        (str(aligned),),
        ("zero-shot",),
        aligned_prompt="raw" if base == aligned else None,  # a base has no template
        runtime=RuntimeOptions(disk_cache=False),
    )
    setup = set_up(options)
    with tempfile.TemporaryDirectory() as folder:

        def work() -> None:
            with RunLog(Path(folder), setup.config(True), KEY) as log:
                for row in Analysis(setup, items, answers).rows(todo(log, setup, items, answers)):
                    log.append(row)
                assert log.count_errors() == 0

        return timed(work)


Calls = list[tuple[str, tuple[Any, ...]]]  # of a Sequences' methods, with their arguments


def bare(calls: list[tuple[Path, Calls]], ctx: int) -> float:
    """Seconds of llama.cpp alone: the calls of an analysis once more, each model opened alike."""

    def work() -> None:
        for path, own in calls:
            with Model(path) as model:
                sequences = Sequences(model, cells=ctx, n_seq=1, flash_attention=False)
                for name, arguments in own:
                    getattr(sequences, name)(*arguments)
                sequences.close()

    return timed(work)


def recorded(base: Path, aligned: Path, items: list[Item], answers: dict[str, str]) -> Any:
    """What an analysis has each model's context do."""
    calls: dict[int, tuple[Path, Calls]] = {}  # by context, in the order of opening
    plain = {name: getattr(Sequences, name) for name in ("decode", "cut", "clear")}

    def spy(name: str) -> Callable[..., Any]:
        def call(self: Sequences, *arguments: Any) -> Any:
            calls.setdefault(id(self), (self.model.path, []))[1].append((name, arguments))
            return plain[name](self, *arguments)

        return call

    try:
        for name in plain:
            setattr(Sequences, name, spy(name))
        analysis(base, aligned, items, answers)
    finally:
        for name, method in plain.items():
            setattr(Sequences, name, method)
    return list(calls.values())


def one_forward_per_token(path: Path, prompt: list[int], answer: list[int]) -> float:
    """Seconds of the authors' method: for every position the whole text again, no cache kept."""
    with Model(path) as model:
        sequences = Sequences(model, cells=1024, n_seq=1, flash_attention=False)

        def work() -> None:
            for t in range(len(answer)):
                sequences.clear(0)
                text = [*prompt, *answer[:t]]
                last = len(text) - 1
                logits = sequences.decode(
                    [BatchToken(token, i, 0, i == last) for i, token in enumerate(text)]
                )
                np.argpartition(logits[0], -30)[-30:]

        seconds = timed(work)
        sequences.close()
    return seconds


def scoring(path: Path, prefix: int, queries: int, answer: int, shared: bool) -> float:
    """Seconds of scoring answers after a long constant prefix, with and without sharing it."""
    constant = [1, *rng.integers(300, 31000, prefix - 1).tolist()]
    rows = rng.integers(300, 31000, (queries, 16 + answer)).tolist()
    with Model(path) as model:
        sequences = Sequences(
            model, cells=prefix + 1024, n_seq=1, flash_attention=False, unified=False
        )
        forced = TeacherForced(sequences)

        def work() -> None:
            for tokens in rows:
                prompt = [*constant, *tokens[:16]]
                forced.begin(0, prompt, prefix if shared else 0, answer)
                fed = [prompt[-1], *tokens[16:-1]]
                forced.logits(0, fed, [True] * len(fed))

        seconds = timed(work)
        sequences.close()
    return seconds


def peak_memory(base: Path, aligned: Path, answers: int) -> float:
    """Peak resident memory in MB of the command on so many answers of 300 tokens."""
    with tempfile.TemporaryDirectory() as folder:
        rows = [{"id": i, "query": words(12), "answer": words(TOKENS)} for i in range(answers)]
        file = Path(folder) / "q.json"
        file.write_text(json.dumps(rows))
        command = [sys.executable, "-m", "urial_local", "shift", str(file), "--answers", str(file)]
        command += ["--base", str(base), "--aligned", str(aligned), "--base-prompt", "zero-shot"]
        command += ["-o", str(Path(folder) / "run"), "--no-disk-cache"]
        code = (
            "import resource, subprocess, sys\n"
            "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL,"
            " stderr=subprocess.DEVNULL)\n"
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, *command], capture_output=True, text=True, check=True
        )
    scale = 1e6 if sys.platform == "darwin" else 1024  # bytes there, kilobytes here
    return int(done.stdout) / scale


def kernel(n_vocab: int) -> dict[str, Any]:
    """One thread of the kernel against its numpy twin, on the same rows."""
    base = (rng.normal(size=(64, n_vocab)) * 3).astype(np.float32)
    aligned = (base + rng.normal(size=base.shape)).astype(np.float32)
    targets = rng.integers(0, n_vocab, len(base)).astype(np.int32)
    ours, theirs, ratio = paired(
        lambda: timed(lambda: shift_rows(base, aligned, targets)),
        lambda: timed(lambda: shift_rows_numpy(base, aligned, targets)),
    )
    per = 1e6 / len(base)
    return row(
        f"kernel, vocabulary of {n_vocab:,}, one thread",
        f"{ours * per:.0f} µs a position",
        f"numpy, float64: {theirs * per:,.0f} µs",
        ratio,
        "≥ 10×",
    )


def whole_analysis(name: str, base: Path, aligned: Path, n: int, goal: str) -> tuple[Any, float]:
    """The analysis of given answers beside its lower bound; also seconds an answer."""
    items = [Item(str(i), i, words(12)) for i in range(n)]
    answers = {item.id: words(TOKENS) for item in items}
    calls = recorded(base, aligned, items, answers)
    ours, limit, ratio = paired(
        lambda: analysis(base, aligned, items, answers), lambda: bare(calls, 768)
    )
    what = f"whole analysis, {name}, {n} answers of {TOKENS} tokens"
    beside = f"bare llama_decode of both models: {limit:.2f} s"
    return row(what, f"{ours:.2f} s", beside, 1 / ratio, goal), ours / n


def run(base: Path, aligned: Path, large: Path, wide: Path | None) -> list[dict[str, Any]]:
    """All of it, on a small pair and a larger model, and on one of a vocabulary of 262,144 where it
    is there; about eight minutes."""
    first, _ = whole_analysis("0.43B pair", large, large, 6, "≤ 1.05×")
    second, per_answer = whole_analysis("60M pair", base, aligned, ANSWERS, "")
    rows = [first, second]
    if wide is not None:
        name = "Gemma 3 270M with itself, vocabulary of 262,144"
        rows.append(whole_analysis(name, wide, wide, 6, "≤ 1.05×")[0])
    prompt = rng.integers(300, 31000, 30).tolist()
    ids = rng.integers(300, 31000, TOKENS).tolist()
    theirs = one_forward_per_token(base, prompt, ids) + one_forward_per_token(aligned, prompt, ids)
    rows.append(
        row(
            f"an answer of {TOKENS} tokens, 60M pair",
            f"{per_answer:.2f} s",
            f"one forward a token, both models: {theirs:.1f} s",
            theirs / per_answer,
            "≥ 50×",
        )
    )
    for answer, goal in ((24, "≥ 8×"), (150, ""), (300, "")):
        ours, alone, ratio = paired(
            lambda n=answer: scoring(base, 1000, 32, n, True),  # type: ignore[misc]
            lambda n=answer: scoring(base, 1000, 32, n, False),  # type: ignore[misc]
        )
        what = f"scoring after a context of 1,000 tokens, answers of {answer}"
        rows.append(row(what, f"{ours:.2f} s", f"without sharing it: {alone:.2f} s", ratio, goal))
    rows += [kernel(32_000), kernel(128_256), kernel(262_144)]
    few, many = (peak_memory(base, aligned, n) for n in (10, 200))
    rows.append(
        row(
            "peak memory, 200 answers",
            f"{many:.0f} MB",
            f"10 answers: {few:.0f} MB",
            many / few,
            "≤ 1.05×",
        )
    )
    return rows
