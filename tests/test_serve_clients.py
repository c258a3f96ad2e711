"""Clients as they come: the request shapes of Open WebUI and LangChain, many at once, and the same
answers whoever asks beside them."""

from __future__ import annotations

import json
import random
import threading
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

pytest.importorskip("starlette")

from tests.serving import FOX, SOUP, pair, plan, running

chats = pytest.importorskip("openai.types.chat")
openai_types = pytest.importorskip("openai.types")
RECORDED = json.loads((Path(__file__).parent / "client_requests.json").read_text("utf-8"))


def _name(asked: dict) -> str:
    return f"{asked['client']}: {asked['call']}"


@pytest.fixture(scope="module")
def server():
    with running(pair()) as found:
        yield found


# Of the other clients: what these send, with the fields that they add to what the user chose.
PAYLOADS = {
    "llm, a completion": (
        "/v1/completions",
        {"model": "demo", "prompt": "An owl", "stream": True, "max_tokens": 9, "logprobs": 3,
         "stream_options": {"include_usage": True}},
    ),
    "inspect, a chat with log-probabilities": (
        "/v1/chat/completions",
        {"model": "demo", "messages": SOUP, "logprobs": True, "top_logprobs": 5, "n": 2,
         "temperature": 1.0, "max_tokens": 12, "seed": 42, "extra_headers": {}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PAYLOADS)
def test_what_clients_send_is_taken(server, name):
    path, body = PAYLOADS[name]
    told(server.post(path, body), body)


@pytest.mark.parametrize("asked", RECORDED["requests"], ids=_name)
def test_recorded_requests_are_answered_or_refused_by_name(server, asked):
    """Byte for byte what the client sent. See the file for how it was recorded."""
    body = asked["body"]
    reply = server.post(asked["path"], body, headers=RECORDED["headers"][asked["client"]])
    if refused := asked.get("refused"):
        assert reply.status_code == 400
        error = reply.json()["error"]
        assert (error["param"], error["type"]) == (refused, "invalid_request_error")
        assert reply.headers["x-should-retry"] == "false"
    else:
        told(reply, body)


def told(reply: httpx.Response, body: dict) -> None:
    """The reply is one that openai's own types take, with all that was asked for."""
    assert reply.status_code == 200, reply.text
    chat, n = "messages" in body, body.get("n") or 1
    prompts = body.get("prompt")
    n *= len(prompts) if isinstance(prompts, list) else 1
    most = body.get("max_completion_tokens") or body.get("max_tokens")
    if body.get("stream"):
        lines = [line for line in reply.text.splitlines() if line.startswith("data: ")]
        assert lines.pop() == "data: [DONE]"
        chunks = [_chunk(json.loads(line.removeprefix("data: ")), chat) for line in lines]
        usage = chunks.pop().usage if body.get("stream_options") else None
        assert bool(usage) == bool(body.get("stream_options"))
        assert sum('"finish_reason":"' in line for line in lines) == n
        assert all(c.usage is None for c in chunks)
        return
    kind = chats.ChatCompletion if chat else openai_types.Completion
    done = kind.model_validate_json(reply.text)
    assert [c.index for c in done.choices] == list(range(n))
    for choice in done.choices:
        assert choice.finish_reason in ("stop", "length")
        assert isinstance(choice.message.content if chat else choice.text, str)
        assert (choice.logprobs is not None) == bool(body.get("logprobs"))
    assert done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens
    assert most is None or done.usage.completion_tokens <= most * n


def _chunk(sent: dict, chat: bool) -> Any:
    if chat:
        return chats.ChatCompletionChunk.model_validate(sent)
    for choice in sent["choices"]:
        # OpenAI's own chunks have null here before the last, which its type does not allow.
        choice["finish_reason"] = choice["finish_reason"] or "stop"
    return openai_types.Completion.model_validate(sent)


def test_an_empty_key_is_accepted(server):
    """As Open WebUI and lm-evaluation-harness send it, with the blank that httpx would not send."""
    connection = HTTPConnection("127.0.0.1", int(server.url.rpartition(":")[2]), timeout=60)
    connection.request("GET", "/v1/models", headers={"Authorization": "Bearer "})
    assert connection.getresponse().status == 200
    connection.close()


def test_models_are_listed_at_once(server):
    headers = RECORDED["headers"]["open webui"]
    listed = httpx.get(f"{server.url}/v1/models", headers=headers, timeout=10).json()
    assert listed["object"] == "list"
    assert all({"id", "object", "created", "owned_by"} <= set(m) for m in listed["data"])


@pytest.mark.slow
def test_many_clients_at_once():
    """Mixed requests on two rows, some of which leave early: all end, nothing is lost, and the
    counters are the sums of what clients were told."""
    with running(pair(), ping=0.5) as server:
        told, left, faults = [], [], []

        def ask(n: int) -> None:
            rng = random.Random(n)
            for _ in range(6):
                try:
                    _one(server.url, rng, told, left)
                except Exception as error:
                    faults.append(error)

        threads = [threading.Thread(target=ask, args=(n,)) for n in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(240)
        assert not any(thread.is_alive() for thread in threads)
        assert faults == []
        server.until(lambda: server.state.open == 0)
        server.until(lambda: server.metric("urial_requests_running") == 0)
        assert server.metric("urial_requests_waiting") == 0
        # Those who left early may have been answered or not.
        written = sum(usage["completion_tokens"] for usage in told)
        read = sum(usage["prompt_tokens"] for usage in told)
        cached = sum(usage["prompt_tokens_details"]["cached_tokens"] for usage in told)
        assert server.metric("urial_generated_tokens_total") >= written
        assert server.metric("urial_prompt_tokens_total") >= read
        assert server.metric("urial_cached_tokens_total") >= cached
        if not left:
            assert server.metric("urial_generated_tokens_total") == written
        assert len(told) + len(left) == 32 * 6
        for lane in server.state.worker.lanes.values():
            assert not lane.engine._live
            assert not lane.engine._queue


def _one(url: str, rng: random.Random, told: list, left: list) -> None:
    chat = rng.random() < 0.6
    body = {
        "model": rng.choice(["demo", "demo:zero-shot", "demo-aligned"]),
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": rng.randint(1, 30),
    }
    body |= {"messages": rng.choice([SOUP, FOX])} if chat else {"prompt": [5] * rng.randint(1, 90)}
    path = "/v1/chat/completions" if chat else "/v1/completions"
    leaves = rng.random() < 0.3
    with httpx.Client(timeout=200) as client, client.stream("POST", url + path, json=body) as reply:
        assert reply.status_code == 200
        for line in reply.iter_lines():
            if leaves and line.startswith("data: "):
                left.append(1)
                return
            if '"usage"' in line:
                told.append(httpx.Response(200, text=line.removeprefix("data: ")).json()["usage"])


def test_exact_answers_do_not_hang_on_neighbours():
    """Each at a time, in any order, drawn or greedy: the same bytes as alone; scores, too."""
    with running([plan("demo", exact=True)]) as server:
        bodies = [
            ("/v1/chat/completions", {"messages": m, "temperature": t, "seed": 5, "max_tokens": 20,
                                      "model": name, "n": 2, "logprobs": True})
            for m in (SOUP, FOX) for t in (0, 1.2) for name in ("demo", "demo:zero-shot")
        ] + [
            ("/v1/completions", {"prompt": [list(range(3, 3 + n))], "max_tokens": 1, "echo": True,
                                 "logprobs": 2, "temperature": 0}) for n in (5, 90, 600)
        ]  # fmt: skip

        def ask(i: int) -> list:
            return [
                {k: v for k, v in choice.items() if k != "urial"}
                for choice in server.post(*bodies[i]).json()["choices"]
            ]

        alone = [ask(i) for i in range(len(bodies))]
        again: dict[int, list] = {}
        order = random.Random(1).sample(range(len(bodies)), len(bodies))
        threads = [threading.Thread(target=lambda i=i: again.__setitem__(i, ask(i))) for i in order]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(100)
        assert [again[i] for i in range(len(bodies))] == alone
