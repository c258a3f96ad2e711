"""A plan of `generate` without a model: each question is answered with its own last letters, so
that the course of a run can be measured and broken without waiting for one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.fakes import END, ByteVocab, FakeDecoder
from urial_local.runtime.engine import Engine
from urial_local.runtime.rows import Request
from urial_local.runtime.stops import StopPolicy
from urial_local.tasks.generate.copied import Shown
from urial_local.tasks.generate.job import JobOptions
from urial_local.tasks.generate.setup import Opened

ANSWER = 4  # tokens


def echo(context: tuple[int, ...]) -> np.ndarray:
    """Goes on with a fixed function of the last letters, and never ends of its own."""
    row = np.zeros(128, np.float32)
    row[97 + sum(context[-6:]) % 26] = 20.0
    row[END] = -20.0
    return row


class FakeMethod:
    """A method whose prompt is the question."""

    drafts = False
    fingerprint = "f" * 16

    def examples(self, query: str) -> list[Any]:
        return []

    def shown(self, examples: Any) -> Shown:
        return Shown(())

    def request(self, query: str, history: Any, draft: Any = None, examples: Any = ()) -> Request:
        tokens = list(query.encode("ascii"))
        return Request(tokens, stop=StopPolicy(), max_tokens=ANSWER)


class FakePlan:
    """What cli.plumbing.generating.run asks of a plan."""

    guide = None

    def __init__(self, rows: int = 2) -> None:
        self.options = SimpleNamespace(job=JobOptions(), parallel=rows, exact=False)
        self.opened = 0

    def config(self, shard: Any = None) -> dict[str, Any]:
        name = "/".join(map(str, shard)) if shard else None
        return {"task": "generate", "model": {"name": "fake"}, "shard": name}

    @contextmanager
    def open(self, rows: int, first: Any, tell: Any = None) -> Iterator[Opened]:
        self.opened += 1
        n = max(1, min(self.options.parallel, rows))
        engine = Engine(ByteVocab(), FakeDecoder(echo, n_seq=n + 1, cells=1 << 14))
        yield Opened(engine, FakeMethod(), n)  # type: ignore[arg-type]


def answered(number: int, query: str) -> dict[str, Any]:
    """A row as a real run has it, of some 1,500 bytes."""
    return {
        "id": str(number),
        "repeat": 0,
        "number": number,
        "query": query,
        "answer": "word " * 60,
        "raw_answer": "word " * 60 + "\n```",
        "answer_ids": list(range(1000, 1080)),
        "finish_reason": "frame",
        "flags": [],
        "prompt_tokens": 700,
        "cached_tokens": 650,
        "completion_tokens": 80,
        "mean_logprob": -0.51,
        "tags": {"category": ["x"]},
        "prompt": "f" * 16,
        "seconds": 1.23,
        "fields": {"query": query},
    }
