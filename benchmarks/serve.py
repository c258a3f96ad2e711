"""`urial-local serve` beside other servers on llama.cpp: time to the first token, and throughput.

The same model, the same threads and the same work for each: streamed greedy completions of texts
that share about 1,000 tokens, 64 tokens each, from 1 and from 8 clients at once. The servers run
side by side and are asked by turns, in another order each round, so that what else the machine does
falls on all of them; a ratio is that of one round, and its scatter is told.

A yardstick is run where it is there: `llama-server` in the folder that LLAMA_CPP_BIN names, and
llama-cpp-python's own `llama_cpp.server` where its packages are installed, or lie in the folder
that LLAMA_CPP_SERVER_PACKAGES names (they bring a starlette of their own). URIAL_BENCH_THREADS sets
the threads of each: on a machine that others use, 1 keeps servers comparable, since threads that
wait for one another measure the others' load.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2 as httpx

from benchmarks.engine import row
from urial_local.runtime.threads import CHOSEN, SPIN, cores

TOKENS, WAIT = 64, 120.0  # of an answer; seconds to start
ROUNDS, THREADS = 5, "URIAL_BENCH_THREADS"
LOADS = {1: 4, 8: 16}  # requests of a round, by clients at once
CONTEXT, SHARED = 2048, 1000  # tokens that one request may have; that all of them share
WORDS = "the sea and the rain then an old house of stone with seven windows stood there alone "
OURS, LLAMA_SERVER, LLAMA_CPP = "urial-local serve", "llama-server", "llama_cpp.server"


@dataclass(frozen=True, slots=True)
class Server:
    """How to start one: its command, and the address that answers once the model is loaded."""

    name: str
    command: list[str]
    ready: str
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Timing:
    """Of the requests of a load: seconds to the first token, and tokens a second together; and
    tokens for each second that the server computed, whoever else had the cores meanwhile (0 where
    the system does not tell)."""

    first: tuple[float, ...]
    rate: float
    work: float = 0.0

    @property
    def p50(self) -> float:
        return statistics.median(self.first)

    @property
    def p95(self) -> float:
        return sorted(self.first)[max(0, -(-95 * len(self.first) // 100) - 1)]


def servers(path: Path, rows: int) -> list[Server]:
    """Those that can be started here, ours first."""
    threads = os.environ.get(THREADS) or str(cores().usable)
    program = [sys.executable, "-m", "urial_local", "serve", "-m", str(path), "-c", str(CONTEXT)]
    program += ["-np", str(rows), "-t", threads, "--no-disk-cache"]
    found = [Server(OURS, program, "/health")]
    if folder := os.environ.get("LLAMA_CPP_BIN"):
        program = [str(Path(folder) / "llama-server"), "-m", str(path), "-t", threads]
        program += ["-tb", threads, "-c", str(CONTEXT * rows), "-np", str(rows)]
        found.append(Server(LLAMA_SERVER, program, "/health"))
    packages = os.environ.get("LLAMA_CPP_SERVER_PACKAGES", "")
    if packages or importlib.util.find_spec("starlette_context"):
        program = [sys.executable, "-m", "llama_cpp.server", "--model", str(path)]
        program += ["--n_ctx", str(CONTEXT), "--n_threads", threads, "--n_threads_batch", threads]
        # Else a new request ends the one that is being answered.
        program += ["--interrupt_requests", "false"]
        paths = [p for p in (packages, os.environ.get("PYTHONPATH", "")) if p]
        env = {"PYTHONPATH": os.pathsep.join(paths)}
        found.append(Server(LLAMA_CPP, program, "/v1/models", env))
    return found


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers."""

    address: str
    pid: int

    def computed(self) -> float:
        """Seconds of all its threads so far."""
        try:
            told = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def running(server: Server) -> Iterator[Running]:
    """A server, once it answers. Its threads wait for each other as ours do, so that
    servers are compared and not settings of OpenMP."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {name: value for name, value in os.environ.items() if name not in CHOSEN}
    process = subprocess.Popen(
        [*server.command, "--port", str(port)],
        env={**env, "GOMP_SPINCOUNT": str(SPIN), **server.env},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + WAIT
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(address + server.ready, timeout=5).status_code == 200:
                    break
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{server.name} does not start: {' '.join(server.command)}")
            time.sleep(0.2)
        yield Running(address, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def prompts(address: str) -> Callable[[int], list[str]]:
    """Gives texts that were never asked before and share about 1,000 tokens, as our server there
    counts them."""
    reply = httpx.post(f"{address}/tokenize", json={"prompt": WORDS * 8}, timeout=None)
    shared = WORDS * round(8 * SHARED / reply.raise_for_status().json()["count"])
    asked = iter(range(1_000_000))
    return lambda count: [
        f"{shared}\n\nChapter {next(asked)}. The story goes on as it began:" for _ in range(count)
    ]


def body(prompt: str, stream: bool) -> dict[str, Any]:
    found = {"prompt": prompt, "max_tokens": TOKENS, "temperature": 0, "repeat_penalty": 1.0}
    return {**found, "seed": 1, "stream": stream}


def prompt_tokens(address: str, prompt: str) -> int:
    """As the server counts them; it has written as many tokens as were asked for."""
    reply = httpx.post(f"{address}/v1/completions", json=body(prompt, False), timeout=None)
    reply.raise_for_status()
    told = reply.json()
    usage: dict[str, int] = told["usage"]
    if usage["completion_tokens"] != TOKENS or told["choices"][0]["finish_reason"] != "length":
        raise RuntimeError(f"An answer has {usage['completion_tokens']} tokens, not {TOKENS}.")
    return usage["prompt_tokens"]


async def ask(client: httpx.AsyncClient, prompt: str) -> float:
    """Seconds to the first text of a streamed answer, which ends at its limit of tokens and by
    nothing else."""
    start, first, reason = time.perf_counter(), 0.0, ""
    async with client.stream("POST", "/v1/completions", json=body(prompt, True)) as reply:
        reply.raise_for_status()
        async for line in reply.aiter_lines():
            if not line.startswith("data: {"):
                continue
            (choice,) = json.loads(line[6:])["choices"]
            first = first or (time.perf_counter() - start if choice["text"] else 0.0)
            reason = choice["finish_reason"] or reason
    if reason != "length" or not first:
        raise RuntimeError(f"An answer was to have {TOKENS} tokens, and ended by {reason!r}.")
    return first


async def load(server: Running, texts: Sequence[str], clients: int) -> Timing:
    """All texts, `clients` of them at a time."""
    gate, before = asyncio.Semaphore(clients), server.computed()
    # A connection for each request: a server may close one that it holds for idle at any moment.
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=server.address, timeout=None, limits=limits) as client:

        async def one(text: str) -> float:
            async with gate:
                return await ask(client, text)

        start = time.perf_counter()
        first = await asyncio.gather(*(one(text) for text in texts))
        seconds = time.perf_counter() - start
    tokens, work = TOKENS * len(texts), server.computed() - before
    return Timing(tuple(first), tokens / seconds, tokens / work if work else 0.0)


def measured(path: Path, rounds: int = ROUNDS) -> dict[str, dict[int, list[Timing]]]:
    """Of each server, by clients at once: what each round took."""
    most = max(LOADS)
    with contextlib.ExitStack() as stack:
        found = servers(path, most)
        at = {server.name: stack.enter_context(running(server)) for server in found}
        fresh = prompts(at[OURS].address)
        (text,) = fresh(1)
        counts = {name: prompt_tokens(server.address, text) for name, server in at.items()}
        if len(set(counts.values())) > 1:
            raise RuntimeError(f"The servers read different prompts: {counts} tokens.")
        for server in at.values():  # the shared part is read, by every row with cells of its own
            asyncio.run(load(server, fresh(most), most))
        out: dict[str, dict[int, list[Timing]]] = {
            name: {clients: [] for clients in LOADS} for name in at
        }
        names = list(at)
        for number in range(rounds):
            turn = number % len(names)
            for clients, requests in LOADS.items():
                for name in names[turn:] + names[:turn]:
                    took = asyncio.run(load(at[name], fresh(requests), clients))
                    out[name][clients].append(took)
    return out


def run(path: Path) -> list[dict[str, Any]]:
    """Rows of the table."""
    found = measured(path)
    ours = found.pop(OURS)
    out = []
    for clients in LOADS:
        label = f"serve, {path.stem}, {clients} at once"
        if not found:
            said = f"{_said(ours[clients], _p50)}, {_said(ours[clients], _rate)}"
            out.append(row(label, said, "no other server is here", None, ""))
        for name, other in found.items():
            for what, of, goal in (
                ("first token, p50", _p50, "≥ 1×" if name == LLAMA_SERVER else ""),
                ("first token, p95", _p95, "≥ 1×" if name == LLAMA_SERVER else ""),
                ("throughput", _rate, "≥ 2×" if (name, clients) == (LLAMA_CPP, 8) else ""),
                ("work", _work, ""),
            ):
                pairs = list(zip(ours[clients], other[clients], strict=True))
                if not all(of(timing) for pair in pairs for timing in pair):
                    continue
                more = of in (_rate, _work)  # is better
                ratios = [of(mine) / of(its) if more else of(its) / of(mine) for mine, its in pairs]
                scatter = f"rounds: {min(ratios):.2f} to {max(ratios):.2f}×"
                yardstick = f"{name}: {_said(other[clients], of)} ({scatter})"
                said, ratio = _said(ours[clients], of), statistics.median(ratios)
                out.append(row(f"{label}, {what}", said, yardstick, ratio, goal))
    return out


def _p50(timing: Timing) -> float:
    return timing.p50


def _p95(timing: Timing) -> float:
    return timing.p95


def _rate(timing: Timing) -> float:
    return timing.rate


def _work(timing: Timing) -> float:
    return timing.work


def _said(timings: Sequence[Timing], of: Callable[[Timing], float]) -> str:
    """The median of the rounds."""
    value = statistics.median(map(of, timings))
    if of is _work:
        return f"{value:.1f} tokens for each second of computing"
    return f"{value:.1f} tokens/s" if of is _rate else f"{value * 1e3:.0f} ms"
