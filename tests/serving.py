"""A whole server on a port of its own, in a thread of the tests' process; or the application.

Servers are shared by the tests of a module: to start one takes the time to load its models."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic, sleep
from types import SimpleNamespace
from typing import Any

import httpx2 as httpx
import numpy as np
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tests.fakes import END, ByteVocab, FakeDecoder, FakeModel
from urial_local.base.errors import TokenizeError
from urial_local.prompting.library import load_prompt
from urial_local.runtime.engine import Engine
from urial_local.runtime.guided import Ends, Guided
from urial_local.runtime.guides import Rule
from urial_local.runtime.open import RuntimeOptions
from urial_local.runtime.voice import Voice
from urial_local.server.app import make_app
from urial_local.server.lanes import Lane, LanePlan, open_lanes, usable_prompts
from urial_local.server.run import Server, listen
from urial_local.server.settings import ServeSettings
from urial_local.server.state import State
from urial_local.tasks.guide import GuideOptions, GuidePlan, GuidePrompts, plan_guide
from urial_local.tasks.model_file import model_file
from urial_local.tasks.prompt_choice import PromptChoice, choose_prompt
from urial_local.tasks.prompted import PromptedModel

SOUP = [{"role": "user", "content": "How do I make soup?"}]
FOX = [{"role": "user", "content": "Where can I find a fox?"}]


def plan(
    name: str | Path,
    prompt: str | None = None,
    *,
    parallel: int = 2,
    exact: bool = False,
    guide: GuideOptions | None = None,
    **more: Any,
) -> LanePlan:
    file = model_file(str(name))
    runtime = RuntimeOptions(parallel=1 if exact else parallel, threads=1, disk_cache=False, **more)
    choice = choose_prompt(file, prompt)
    planned = plan_guide(guide, choice)
    library = usable_prompts(file)
    return LanePlan(file.name, file, choice, runtime, exact, library=library, guide=planned)


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
def running(plans: Any, **settings: Any) -> Iterator[Running]:
    """A server over these models, until the end of the block. `plans`: or what opens lanes."""
    chosen = ServeSettings(**{"port": 0, "drain": 5.0, **settings})
    ready = threading.Event()
    app = make_app(chosen, opener(plans), ready.set)
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


def opener(plans: Any) -> Any:
    return plans if callable(plans) else lambda: open_lanes(plans)


@contextmanager
def client(plans: Any, **settings: Any) -> Iterator[TestClient]:
    """The application without a socket."""
    ready = threading.Event()
    app: Starlette = make_app(ServeSettings(**settings), opener(plans), ready.set)
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as opened:
        assert ready.wait(60)
        yield opened


class FakeVocab(ByteVocab):
    """The byte vocabulary with what a server asks of one. END ends a text; there is no BOS."""

    bos, eos, add_bos, most = -1, END, False, None

    def text(self, token: int) -> str:
        return "<end>" if token == END else ""

    def tokenize(self, text: str, **_: Any) -> np.ndarray:
        if not text.isascii():
            raise TokenizeError("This vocabulary is ASCII.")
        return np.array(self.encode(text), np.int32)

    def continuation(self, prompt: str, answer: str, **_: Any) -> np.ndarray:
        return np.array(self.encode(answer), np.int32)

    def count(self, text: str) -> int:
        return len(text)


class GatedDecoder(FakeDecoder):
    """Decodes when it is let to. `entered` counts the batches that were begun."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.n_vocab = 128
        self.open = threading.Event()
        self.open.set()
        self.entered = 0

    def decode(self, tokens: Any) -> Any:
        self.entered += 1
        assert self.open.wait(60)
        return super().decode(tokens)


@contextmanager
def fake_lane(
    decoder: FakeDecoder,
    rows: int = 2,
    ctx_size: int = 400,
    guide: FakeDecoder | None = None,
    gamma: float = 0.4,
) -> Iterator[list[Lane]]:
    """A lane over known logits; its only prompt is `raw`. `guide`: known, too; it nudges, and is
    asked under the base's prompt."""
    model = FakeModel()
    model.vocab = FakeVocab()
    file = SimpleNamespace(title="fake", name="fake", fingerprint="f" * 32, chat_template="")
    runtime = RuntimeOptions(parallel=rows)
    lane_plan = LanePlan("fake", file, PromptChoice((load_prompt("raw"),)), runtime)
    engine = Engine(model.vocab, decoder, ctx_size=ctx_size, rows=rows)
    lane = Lane(lane_plan, model, engine)
    if guide is not None:
        rule = Rule("nudge", gamma=gamma)
        lane.plan = replace(lane_plan, guide=GuidePlan(rule, None, None, None))
        ends = Ends(model.vocab, model.vocab, END)
        engine.chooser = Guided(rule, [Voice(guide)], ends)
        lane.guide = GuidePrompts(PromptedModel(model, lane.default), False, follows=True)
    yield [lane]
