"""What a guide costs: a base of half a billion with a guide of 60 million, both random.

Random weights are never sure, so the rate is set: γ is the lowest quantile of the base's top-1
probabilities, measured over answers of the base alone, at which the guide writes a tenth of the
tokens. Its words lead the answers elsewhere, so that the quantile need not be the rate.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.engine import PREFIX, PREFIX_IDS, QUESTION_IDS, row
from urial_local.runtime.choosers import Sample
from urial_local.runtime.engine import Engine
from urial_local.runtime.guided import Ends, Guided, Sure
from urial_local.runtime.guides import Rule
from urial_local.runtime.model import Model
from urial_local.runtime.rows import Completion, Request
from urial_local.runtime.sequences import Sequences
from urial_local.runtime.voice import Voice

LENGTH, RATE, ROUNDS = 96, 0.1, 3  # tokens of an answer; share that the guide writes
TRIED = (0.1, 0.14, 0.2, 0.28, 0.4)  # quantiles


class Watching(Sample):
    """The base alone, and how sure it was."""

    def __init__(self) -> None:
        super().__init__()
        self.top: list[float] = []

    def choose(self, rows: Any, logits: Any) -> Any:
        self.top += Sure.of(logits).top
        return super().choose(rows, logits)


def requests(rows: int) -> list[Request]:
    return [
        Request([*PREFIX_IDS, *q], max_tokens=LENGTH, shared=PREFIX, others=(q,))
        for q in QUESTION_IDS[:rows]
    ]


def rate_of(done: list[Completion]) -> float:
    """The guide's share of the tokens."""
    theirs = sum(len(d.guidance.at) for d in done if d.guidance)
    return theirs / sum(len(d.tokens) for d in done)


def measure(engine: Engine, rows: int) -> tuple[float, float, list[Completion]]:
    """Seconds for the answers, by the clock and of the processor, and these. The processor's hang
    less on what else the machine does."""
    began, spent = time.perf_counter(), time.process_time()
    done = engine.complete(requests(rows))
    return time.perf_counter() - began, time.process_time() - spent, done


def compared(base: Model, guide: Model, rows: int) -> dict[str, Any]:
    """Answers of the base alone and with its guide, in turns over one engine."""
    with ExitStack() as stack:
        cells = (PREFIX + LENGTH + 128) * (rows + 1)
        sequences = Sequences(base, cells=cells, n_seq=rows + 1)
        stack.callback(sequences.close)
        theirs = Sequences(guide, cells=(LENGTH + 128) * rows, n_seq=rows)
        stack.callback(theirs.close)
        watching = Watching()
        engine = Engine(base.vocab, sequences, rows=rows, chooser=watching)
        measure(engine, rows)
        ends = Ends(base.vocab, guide.vocab, base.vocab.eos)
        for share in TRIED:
            gamma = float(np.quantile(watching.top, share))
            guided = Guided(Rule("nudge", gamma=gamma), [Voice(theirs)], ends)
            engine.chooser = guided
            if rate_of(measure(engine, rows)[2]) >= RATE:
                break
        alone, beside = [], []
        for _ in range(ROUNDS):
            engine.chooser = Sample()
            alone.append(measure(engine, rows)[:2])
            engine.chooser = guided
            *seconds, done = measure(engine, rows)
            beside.append(seconds)
        (plain, plain_cpu), (both, both_cpu) = (
            [min(of) for of in zip(*times, strict=True)] for times in (alone, beside)
        )
    tokens = rows * LENGTH
    read = sum(d.guidance.decoded for d in done if d.guidance)
    return row(
        f"{rows} row{'s' * (rows > 1)} with a guide, {100 * rate_of(done):.0f} % its tokens",
        f"{tokens / both:.1f} tokens/s",
        f"the base alone: {tokens / plain:.1f} tokens/s; of the processor's time"
        f" {plain_cpu / both_cpu:.2f}×; the guide decoded {read:,} tokens",
        plain / both,
        "≥ 0.85×",
    )


def run(base: Path, guide: Path) -> list[dict[str, Any]]:
    with Model(base) as large, Model(guide) as small:
        return [compared(large, small, rows) for rows in (1, 8)]
