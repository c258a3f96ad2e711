"""`urial-local serve` beside other servers on llama.cpp: time to the first token and throughput.

The same model and the same work for each, one after the other in one run: streamed completions of
given texts over a shared prompt of about 1,000 tokens, greedy, 64 tokens each, from 1 and from 8
clients at once. A yardstick is run where it is there: `llama-server` in the folder that
LLAMA_CPP_BIN names, and llama-cpp-python's own `llama_cpp.server` where its packages are installed.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2 as httpx

from benchmarks.engine import row
from urial_local.runtime.threads import default_threads

TOKENS, REQUESTS, WAIT = 64, 16, 120.0  # of an answer; at 8 clients; seconds to start
CONTEXT = 2048  # tokens that one request may have
WORDS = "the sea and the rain then an old house of stone with seven windows stood there alone "


@dataclass(frozen=True, slots=True)
class Server:
    """How to start one: its command, and what it says of itself."""

    name: str
    command: list[str]
    ready: str  # address that answers once the model is loaded


@dataclass(frozen=True, slots=True)
class Timing:
    """Of all requests of a load: seconds to the first token, and tokens a second together."""

    first: tuple[float, ...]
    rate: float

    @property
    def p50(self) -> float:
        return statistics.median(self.first)

    @property
    def p95(self) -> float:
        return sorted(self.first)[max(0, -(-95 * len(self.first) // 100) - 1)]


def prompts(count: int) -> list[str]:
    """Texts that share about 1,000 tokens, which the first of them makes known to the server."""
    shared = WORDS * 62
    return [
        f"{shared}\n\nQuestion {n}: what did the {n} windows look upon?\n" for n in range(count)
    ]


def servers(path: Path, rows: int) -> list[Server]:
    """Those that can be started here, ours first."""
    threads = str(default_threads(0))
    found = [
        Server(
            "urial-local serve",
            [
                *(
                    sys.executable,
                    "-m",
                    "urial_local",
                    "serve",
                    "-m",
                    str(path),
                    "-c",
                    str(CONTEXT),
                ),
                *("-np", str(rows), "-t", threads, "--no-disk-cache", "--port"),
            ],
            "/health",
        )
    ]
    if folder := os.environ.get("LLAMA_CPP_BIN"):
        program = [str(Path(folder) / "llama-server"), "-m", str(path)]
        program += ["-c", str(CONTEXT * rows), "-np", str(rows), "-t", threads, "--port"]
        found.append(Server("llama-server", program, "/health"))
    if importlib.util.find_spec("starlette_context") and importlib.util.find_spec("fastapi"):
        program = [sys.executable, "-m", "llama_cpp.server", "--model", str(path)]
        program += ["--n_ctx", str(CONTEXT), "--n_threads", threads, "--n_threads_batch", threads]
        found.append(Server("llama_cpp.server", [*program, "--port"], "/v1/models"))
    return found


@contextlib.contextmanager
def running(server: Server) -> Iterator[str]:
    """The server's address, once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [*server.command, str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
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
        yield address
    finally:
        process.terminate()
        process.wait()


async def ask(client: httpx.AsyncClient, prompt: str) -> tuple[float, int]:
    """Seconds to the first token of a streamed answer, and how many chunks of it came."""
    body = {"model": "", "prompt": prompt, "max_tokens": TOKENS, "temperature": 0, "stream": True}
    body = {**body, "seed": 1, "stop": ["\u0000"]}
    start, first, chunks = time.perf_counter(), 0.0, 0
    async with client.stream("POST", "/v1/completions", json=body) as reply:
        reply.raise_for_status()
        async for line in reply.aiter_lines():
            if line.startswith("data: {"):
                first = first or time.perf_counter() - start
                chunks += 1
    return first, chunks


async def load(address: str, texts: Sequence[str], clients: int) -> Timing:
    """All texts, `clients` of them at a time."""
    gate = asyncio.Semaphore(clients)
    async with httpx.AsyncClient(base_url=address, timeout=None) as client:

        async def one(text: str) -> tuple[float, int]:
            async with gate:
                return await ask(client, text)

        await ask(client, texts[0])  # the shared part is read
        start = time.perf_counter()
        done = await asyncio.gather(*(one(text) for text in texts[1:]))
        seconds = time.perf_counter() - start
    return Timing(tuple(first for first, _ in done), sum(n for _, n in done) / seconds)


def run(path: Path) -> list[dict[str, Any]]:
    """Rows of the table."""
    found: dict[tuple[str, int], Timing] = {}
    names = []
    for clients, requests in ((1, 5), (8, REQUESTS + 1)):
        for server in servers(path, 8):
            with running(server) as address:
                found[server.name, clients] = asyncio.run(load(address, prompts(requests), clients))
            if server.name not in names:
                names.append(server.name)
    out = []
    ours, *others = names
    for clients in (1, 8):
        own = found[ours, clients]
        said = (
            f"first token {own.p50 * 1e3:.0f} ms (p95 {own.p95 * 1e3:.0f}), {own.rate:.1f} tokens/s"
        )
        if not others:
            out.append(row(f"serve, {clients} at once", said, "no other server is here", None, ""))
        for name in others:
            it = found[name, clients]
            yardstick = (
                f"{name}: {it.p50 * 1e3:.0f} ms (p95 {it.p95 * 1e3:.0f}), {it.rate:.1f} tokens/s"
            )
            goal = "≥ 2×" if clients == 8 and name == "llama_cpp.server" else "≥ 1×"
            out.append(row(f"serve, {clients} at once", said, yardstick, own.rate / it.rate, goal))
    return out
