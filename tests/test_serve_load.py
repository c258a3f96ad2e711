"""A hundred clients at once, most of them ill-mannered: nothing is lost, nothing is stuck, counters
add up, memory stays flat, and an answer is the one that its prompt gets alone.

Each load lasts five seconds. URIAL_LOAD_SECONDS=60 makes it a minute, and `-s` shows what was seen:

    URIAL_LOAD_SECONDS=60 python -m pytest -s tests/test_serve_load.py
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import signal
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

pytest.importorskip("starlette")

from tests.command import COMMAND
from tests.fakes import greedy
from tests.load_clients import Body, Clients, Seen
from tests.serving import GatedDecoder, Running, fake_lane, running

SECONDS = float(os.environ.get("URIAL_LOAD_SECONDS", "5"))
WAVE = {"finishes": 100}
MIXED = {"finishes": 55, "slow": 15, "leaves": 18, "half": 6, "babbles": 6}
QUEUE = 60  # so that some are told to come again
GROWTH = 48 << 20  # bytes that the server's memory may grow by in a load of any length
pytestmark = pytest.mark.slow


def letters(context: tuple[int, ...]) -> np.ndarray:
    """Letters for ever, each a function of all before it."""
    row = np.zeros(128, np.float32)
    row[97 + (sum(context) * 31 + len(context)) % 26] = 20.0
    return row


@cache
def alone(prompt: tuple[int, ...], tokens: int) -> str:
    return bytes(greedy(letters, list(prompt), tokens)).decode()


def raw(rng: random.Random) -> Body:
    """A prompt of known logits; some begin alike."""
    start = [70] * 30 if rng.random() < 0.5 else []
    ids = [*start, *(rng.randint(65, 90) for _ in range(rng.randint(1, 30)))]
    tokens = rng.choice([1, 10, 40, 200])
    return {"prompt": [ids], "max_tokens": tokens, "temperature": 0, "logprobs": 3}


PROMPTS = ["A fox lives in", "An owl is", "How do I make soup?", "The", "A fox lives in dens. A"]


def written(rng: random.Random) -> Body:
    """Of a few, so that all of them can be asked alone, too."""
    found = {"prompt": rng.choice(PROMPTS), "max_tokens": rng.choice([2, 6, 16])}
    drawn = {"temperature": 1.0, "seed": rng.choice([1, 2])}
    return {**found, **(drawn if rng.random() < 0.5 else {"temperature": 0})}


@dataclass
class Counted:
    """What the server counts, at one time."""

    answers: float  # of those who finish
    prompt: float
    cached: float
    written: float

    @staticmethod
    def of(server: Running) -> Counted:
        return Counted(
            server.metric("urial_requests_total", endpoint="completions"),
            server.metric("urial_prompt_tokens_total"),
            server.metric("urial_cached_tokens_total"),
            server.metric("urial_generated_tokens_total"),
        )


def quiet(server: Running) -> None:
    """All that was asked for has ended."""
    rows = ("urial_requests_running", "urial_requests_waiting")
    server.until(lambda: not sum(server.metric(name) for name in rows), 60)


def port(server: Running) -> int:
    return int(server.url.rpartition(":")[2])


def wave(server: Running, bodies: Callable[[random.Random], Body], seed: int) -> Seen:
    """A hundred at once that all finish: every counter is the sum of what they were told."""
    before = Counted.of(server)
    clients = Clients(port(server), bodies)
    asyncio.run(clients.run(WAVE, lambda: True, seed))
    seen = clients.seen
    assert seen.faults == []
    assert len(seen.told) == 100, "one was lost"
    quiet(server)
    now = Counted.of(server)
    usage = [told.usage for told in seen.told]
    assert now.answers - before.answers == 100
    assert now.written - before.written == sum(u["completion_tokens"] for u in usage)
    assert now.prompt - before.prompt == sum(u["prompt_tokens"] for u in usage)
    cached = sum(u["prompt_tokens_details"]["cached_tokens"] for u in usage)
    assert now.cached - before.cached == cached
    return seen


def mixed(server: Running, bodies: Callable[[random.Random], Body], seed: int) -> Seen:
    """All kinds at once for a while."""
    before = Counted.of(server)
    names = ("queue_full", "invalid")
    refused = [server.metric("urial_requests_rejected_total", reason=name) for name in names]
    gone = server.metric("urial_disconnects_total")
    end = time.monotonic() + SECONDS
    clients = Clients(port(server), bodies)
    asyncio.run(clients.run(MIXED, lambda: time.monotonic() >= end, seed))
    seen = clients.seen
    assert seen.faults == []
    quiet(server)
    now = Counted.of(server)
    assert now.answers - before.answers == len(seen.told), "of those who leave none is counted here"
    assert now.written - before.written >= sum(t.usage["completion_tokens"] for t in seen.told)
    assert server.metric("urial_disconnects_total") - gone <= seen.left
    for name, was, own in zip(names, refused, (seen.busy, seen.refused), strict=True):
        counted = server.metric("urial_requests_rejected_total", reason=name) - was
        assert own <= counted <= own + (seen.left if name == "queue_full" else 0)
    assert min(seen.left, seen.half, seen.refused, len(seen.told)) > 0
    return seen


def report(what: str, seen: Seen, sizes: list[int]) -> None:
    first = sorted(told.first for told in seen.told)
    p95 = first[-(-95 * len(first) // 100) - 1]
    step = max(1, len(sizes) // 12)
    curve = " ".join(f"{size / 2**20:.0f}" for size in sizes[::step])
    print(
        f"\n{what}: {len(seen.told):,} answered, {seen.left:,} left, {seen.half:,} halves,"
        f" {seen.refused:,} wrong, {seen.busy:,} told to come again; first token p50"
        f" {statistics.median(first) * 1e3:.0f} ms, p95 {p95 * 1e3:.0f} ms; memory, MB: {curve}"
    )


def test_eight_rows_of_known_logits():
    """Whatever happens around them, answers are those of their prompts."""
    decoder = GatedDecoder(letters, n_seq=12, cells=8 * 400, batch_size=64)
    with running(lambda: fake_lane(decoder, rows=8), queue=QUEUE, ping=0.5) as server:
        seen = [wave(server, raw, 1), mixed(server, raw, 2), wave(server, raw, 3)]
        for told in (told for part in seen for told in part.told):
            (ids,) = told.body["prompt"]
            assert told.text == alone(tuple(ids), told.body["max_tokens"])
        server.until(lambda: server.state.open == 0)
        engine = server.state.worker.lanes["fake"].engine
        assert not engine._live
        assert not engine._queue
        report("known logits, 8 rows", seen[1], [])


class Memory:
    """Watches the memory and the open files of a process; Linux tells them."""

    def __init__(self, pid: int) -> None:
        self._pid, self._end, self.sizes = pid, threading.Event(), []
        self._thread = threading.Thread(target=self._watch)

    def now(self) -> int:
        with contextlib.suppress(OSError), open(f"/proc/{self._pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return 0

    def files(self) -> int:
        with contextlib.suppress(OSError):
            return len(os.listdir(f"/proc/{self._pid}/fd"))
        return 0

    def _watch(self) -> None:
        while not self._end.wait(0.5):
            self.sizes.append(self.now())

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()


@contextlib.contextmanager
def process(*options: str) -> Iterator[tuple[Running, subprocess.Popen]]:
    """The command, as an operator starts it; it ends in order."""
    command = [*COMMAND, "serve", "-m", "demo", "--port", "0", "-t", "1", "--no-disk-cache"]
    command += ["--queue", str(QUEUE), *options]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        said = ""
        while "Ready" not in said:
            line = child.stderr.readline()
            assert line, said
            said += line
        (url,) = re.findall(r"Ready: (http://127\.0\.0\.1:\d+)", said)
        yield Running(url, None, None, None), child
        child.send_signal(signal.SIGTERM)
        _, err = child.communicate(timeout=60)
        assert child.returncode == 0, err
        assert err == "", "nothing went wrong, so nothing is said"
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "8 rows"])
def test_a_server_of_its_own(exact):
    """With `--exact`, every answer is bit for bit the one that it gets alone."""
    with process(*(["--exact"] if exact else ["-np", "8"])) as (server, child):
        solo: dict[str, str] = {}

        def said_alone(body: Body) -> str:
            asked = {k: v for k, v in body.items() if k not in ("stream", "stream_options")}
            key = repr(sorted(asked.items()))
            if key not in solo:
                reply = server.post("/v1/completions", asked).json()
                solo[key] = reply["choices"][0]["text"]
            return solo[key]

        parts = [wave(server, written, 1)]
        with Memory(child.pid) as memory:
            size, files = memory.now(), memory.files()
            parts.append(mixed(server, written, 2))
            if not exact:  # which takes its time
                parts.append(wave(server, written, 3))
            server.until(lambda: memory.files() <= files)
            assert memory.now() - size <= GROWTH
        told = [told for part in parts for told in part.told]
        same = [t.text == said_alone(t.body) for t in told]
        if exact:
            assert all(same)
        name = "--exact" if exact else "8 rows"
        report(f"{name} ({sum(same):,} of {len(same):,} as alone)", parts[1], memory.sizes)
