"""A whole server on a port of its own, in a thread of the tests' process; and its application alone.

Servers are shared by the tests of a module: to start one takes the time to load its models."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx2 as httpx
from starlette.applications import Starlette
from starlette.testclient import TestClient

from urial_local.runtime.open import RuntimeOptions
from urial_local.server.app import make_app
from urial_local.server.lanes import LanePlan, open_lanes, usable_prompts
from urial_local.server.run import Server, listen
from urial_local.server.settings import ServeSettings
from urial_local.server.state import State
from urial_local.tasks.model_file import model_file
from urial_local.tasks.prompt_choice import choose_prompt

SOUP = [{"role": "user", "content": "How do I make soup?"}]
FOX = [{"role": "user", "content": "Where can I find a fox?"}]


def plan(
    name: str | Path, prompt: str | None = None, *, parallel: int = 2, exact: bool = False, **more: Any
) -> LanePlan:
    file = model_file(str(name))
    runtime = RuntimeOptions(parallel=1 if exact else parallel, threads=1, disk_cache=False, **more)
    choice = choose_prompt(file, prompt)
    return LanePlan(file.name, file, choice, runtime, exact, library=usable_prompts(file))


def pair(**more: Any) -> list[LanePlan]:
    """The embedded demo pair."""
    return [plan("demo", **more), plan("demo-aligned", **more)]


@dataclass
class Running:
    """A server that answers."""

    url: str
    state: State
    server: Server
    thread: threading.Thread

    def get(self, path: str, **more: Any) -> httpx.Response:
        return httpx.get(self.url + path, timeout=60, **more)

    def post(self, path: str, body: Any, **more: Any) -> httpx.Response:
        return httpx.post(self.url + path, json=body, timeout=60, **more)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of all values of a metric with these labels."""
        found = 0.0
        for line in self.get("/metrics").text.splitlines():
            match = re.fullmatch(rf"{name}(?:\{{(.*)\}})? (\S+)", line)
            if match and all(f'{k}="{v}"' in (match[1] or "") for k, v in labels.items()):
                found += float(match[2])
        return found

    def until(self, true: Any, seconds: float = 30) -> None:
        """Wait for something that the server brings about."""
        patience = monotonic() + seconds
        while not true():
            assert monotonic() < patience, "it never came"
            sleep(0.005)


@contextmanager
def running(plans: list[LanePlan], **settings: Any) -> Iterator[Running]:
    """A server over these models, until the end of the block."""
    chosen = ServeSettings(**{"port": 0, "drain": 5.0, **settings})
    ready = threading.Event()
    app = make_app(chosen, lambda: open_lanes(plans), ready.set)
    server = Server(app)
    sock = listen(chosen.host, chosen.port)
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    thread = threading.Thread(target=lambda: server.run(sockets=[sock]))
    thread.start()
    try:
        assert ready.wait(60)
        assert app.state.urial.worker.fault is None, app.state.urial.worker.fault
        yield Running(url, app.state.urial, server, thread)
    finally:
        server.handle_exit(15, None)
        thread.join(30)
        assert not thread.is_alive(), "it does not end"


@contextmanager
def client(plans: list[LanePlan], **settings: Any) -> Iterator[TestClient]:
    """The application without a socket."""
    ready = threading.Event()
    app: Starlette = make_app(ServeSettings(**settings), lambda: open_lanes(plans), ready.set)
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as opened:
        assert ready.wait(60)
        yield opened


def smaller(plans: list[LanePlan], **runtime: Any) -> list[LanePlan]:
    return [replace(p, runtime=replace(p.runtime, **runtime)) for p in plans]
