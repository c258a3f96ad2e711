"""A request's life: silence, readers that leave or are slow, full queues, faults and the end of the
server. On known logits, with a decoder that waits until the test lets it go on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time

import httpx2 as httpx
import numpy as np
import pytest

pytest.importorskip("starlette")

from tests.fakes import greedy
from tests.serving import GatedDecoder, Running, fake_lane, running
from urial_local.server.app import make_app
from urial_local.server.settings import ServeSettings

STREAM = {"prompt": [70, 71, 72], "max_tokens": 300, "temperature": 0, "stream": True}
FOR_EVER = 90_000  # tokens that no test waits for


def endless(context: tuple[int, ...]) -> np.ndarray:
    """Letters for ever."""
    row = np.zeros(128, np.float32)
    row[97 + len(context) % 26] = 20.0
    return row


@pytest.fixture
def decoder():
    made = GatedDecoder(endless, n_seq=6, cells=1600, batch_size=16)
    yield made
    made.open.set()


@pytest.fixture
def server(decoder):
    with running(lambda: fake_lane(decoder), ping=0.1, drain=5.0) as found:
        yield found
        decoder.open.set()


def rows(server: Running) -> int:
    return int(server.metric("urial_requests_running") + server.metric("urial_requests_waiting"))


def data(lines) -> list:
    found = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in found]


def test_silence_is_broken_from_the_start(server, decoder):
    """Headers and comments come while the prompt is read, and also while it waits in the queue."""
    decoder.open.clear()
    with httpx.stream("POST", f"{server.url}/v1/completions", json=STREAM, timeout=30) as reply:
        assert reply.status_code == 200
        assert reply.headers["content-type"].startswith("text/event-stream")
        assert reply.headers["x-accel-buffering"] == "no"
        lines = reply.iter_lines()
        before = [line for _, line in zip(range(6), lines, strict=False)]
        assert before.count(": ping") == 3
        assert not data(before)
        decoder.open.set()
        assert data(lines)[-1] == "[DONE]"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("when", ["prefill", "writing", "queued"])
def test_who_leaves_is_not_answered_and_nobody_else_is_changed(when, stream):
    """An answer that nobody reads would take for ever: the server is idle again long before."""
    decoder = GatedDecoder(endless, n_seq=6, cells=4 * FOR_EVER, batch_size=16)
    with running(lambda: fake_lane(decoder, ctx_size=FOR_EVER + 100), ping=0.1) as server:
        try:
            somebody_leaves(server, decoder, when, stream)
        finally:
            decoder.open.set()


def somebody_leaves(server, decoder, when, stream):
    others = []
    neighbours = 2 if when == "queued" else 1
    if when == "writing":
        decoder.open.set()
    else:
        decoder.open.clear()

    def neighbour():
        asked = {"prompt": [65, 66], "max_tokens": 40, "temperature": 0}
        others.append(server.post("/v1/completions", asked).json()["choices"][0]["text"])

    threads = [threading.Thread(target=neighbour) for _ in range(neighbours)]
    for thread in threads:
        thread.start()
    server.until(lambda: decoder.entered if when != "writing" else len(others) == neighbours)
    asked = {**STREAM, "stream": stream, "max_tokens": FOR_EVER, "prompt": list(range(60, 100))}

    def leave():
        with (
            httpx.Client() as client,
            client.stream("POST", f"{server.url}/v1/completions", json=asked, timeout=30) as reply,
        ):
            for line in reply.iter_lines():
                if when != "writing" or line.startswith("data: "):
                    break

    if stream:
        leave()
    else:
        with pytest.raises(httpx.TimeoutException):
            httpx.post(
                f"{server.url}/v1/completions",
                json=asked,
                timeout=0.3 if when != "writing" else 0.0001,
            )
    decoder.open.set()
    for thread in threads:
        thread.join(30)
    server.until(lambda: rows(server) == 0)
    assert decoder.entered < FOR_EVER
    alone = bytes(greedy(endless, [65, 66], 40)).decode()
    assert others == [alone] * neighbours
    server.until(lambda: server.state.open == 0)
    if stream:
        assert server.metric("urial_disconnects_total") == 1


def test_more_than_the_queue_holds_is_told_to_come_again(decoder):
    decoder.open.clear()
    with running(lambda: fake_lane(decoder, rows=2), queue=1) as server:
        replies = []
        asked = {"prompt": [65, 66], "max_tokens": 3}
        threads = [
            threading.Thread(target=lambda: replies.append(server.post("/v1/completions", asked)))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        server.until(lambda: server.state.open == 3)
        refused = server.post("/v1/completions", asked)
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "1"
        assert refused.json()["error"]["code"] == "queue_full"
        decoder.open.set()
        for thread in threads:
            thread.join(30)
        assert [reply.status_code for reply in replies] == [200] * 3
        assert server.metric("urial_requests_rejected_total", reason="queue_full") == 1
        assert server.post("/v1/completions", asked).status_code == 200


def test_the_end_lets_answers_end(decoder):
    """A signal: nothing new is taken, what is in hand is finished."""
    decoder.open.clear()
    with running(lambda: fake_lane(decoder), drain=30.0) as server:
        replies = []
        asked = {"prompt": [65, 66], "max_tokens": 20}
        thread = threading.Thread(
            target=lambda: replies.append(server.post("/v1/completions", asked))
        )
        thread.start()
        server.until(lambda: decoder.entered)
        server.server.handle_exit(15, None)
        server.until(lambda: server.get("/health").status_code == 503)
        assert server.get("/health").json()["status"] == "draining"
        refused = server.post("/v1/completions", asked)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
        assert int(refused.headers["retry-after"]) > 0
        decoder.open.set()
        thread.join(30)
        assert len(replies[0].json()["choices"][0]["text"]) == 20
        server.thread.join(30)
        assert not server.thread.is_alive()


@pytest.mark.parametrize("stream", [True, False])
def test_what_does_not_end_in_time_is_told(decoder, stream):
    slow = decoder.decode

    def decode(tokens):
        time.sleep(0.02)
        return slow(tokens)

    decoder.decode = decode
    with running(lambda: fake_lane(decoder), drain=0.1) as server:
        url = f"{server.url}/v1/completions"
        asked = {**STREAM, "stream": stream}
        if stream:
            with httpx.stream("POST", url, json=asked, timeout=30) as reply:
                lines = reply.iter_lines()
                next(line for line in lines if line.startswith("data: "))
                server.server.handle_exit(15, None)
                rest = data(lines)
            assert rest[-1] == "[DONE]"
            assert rest[-2]["error"]["code"] == "draining"
        else:
            replies = []
            thread = threading.Thread(
                target=lambda: replies.append(httpx.post(url, json=asked, timeout=30))
            )
            thread.start()
            server.until(lambda: server.state.open)
            server.server.handle_exit(15, None)
            thread.join(30)
            assert replies[0].status_code == 503
        server.thread.join(30)
        assert not server.thread.is_alive()


def test_a_fault_of_the_model_is_told_and_the_next_request_is_answered(server, decoder, caplog):
    faults = [RuntimeError("a secret prompt")]
    sound = decoder.decode

    def decode(tokens):
        if faults:
            raise faults.pop()
        return sound(tokens)

    decoder.decode = decode
    failed = server.post("/v1/completions", {"prompt": [65, 66], "max_tokens": 3})
    assert failed.status_code == 500
    assert failed.json()["error"]["type"] == "server_error"
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text + failed.text
    faults.append(RuntimeError("again"))
    with httpx.stream("POST", f"{server.url}/v1/completions", json=STREAM, timeout=30) as reply:
        told = data(reply.iter_lines())
    assert "error" in told[-2]
    assert told[-1] == "[DONE]"
    assert server.post("/v1/completions", {"prompt": [65, 66], "max_tokens": 3}).status_code == 200


async def asgi(app, body: dict, send) -> None:
    """One request without a server: `send` is the client's end of the line."""
    given = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]
    gone = asyncio.Event()

    async def receive():
        if given:
            return given.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    headers = [(b"host", b"localhost")]
    scope = {"type": "http", "method": "POST", "path": "/v1/completions", "headers": headers,
             "query_string": b"", "scheme": "http", "server": ("localhost", 80)}  # fmt: skip
    await app(scope, receive, send)


@pytest.mark.parametrize("stall", [30.0, 0.05])
def test_a_slow_reader_holds_up_nobody_but_itself(decoder, stall, monkeypatch):
    """Its row waits with it, and is ended where it waits too long."""
    monkeypatch.setattr("urial_local.server.inbox.Inbox.__init__.__defaults__", ("", 8))
    ready = threading.Event()
    settings = ServeSettings(stall=stall)
    app = make_app(settings, lambda: fake_lane(decoder), ready.set)

    async def main() -> tuple[str, str]:
        async with app.router.lifespan_context(app):
            await asyncio.to_thread(ready.wait, 30)
            engine = next(iter(app.state.urial.worker.lanes.values())).engine
            reading, got, quick = asyncio.Event(), [], []

            async def slow(message):
                got.append(message.get("body", b""))
                if len(got) > 3:
                    await reading.wait()

            async def fast(message):
                quick.append(message.get("body", b""))

            first = asyncio.create_task(asgi(app, STREAM, slow))
            while not any(row.held for row in list(engine._live.values())):
                await asyncio.sleep(0.001)
            await asgi(app, {**STREAM, "stream": False, "max_tokens": 50}, fast)
            assert len(got) < 10
            if stall < 1:
                while engine.running:
                    await asyncio.sleep(0.001)
            reading.set()
            await first
            return b"".join(got).decode(), b"".join(quick).decode()

    slow, quick = asyncio.run(main())
    assert (
        json.loads(quick)["choices"][0]["text"] == bytes(greedy(endless, [70, 71, 72], 50)).decode()
    )
    told = data(slow.splitlines())
    assert told[-1] == "[DONE]"
    if stall < 1:
        assert "not read" in told[-2]["error"]["message"]
    else:
        text = "".join(chunk["choices"][0]["text"] for chunk in told[:-1])
        assert text == bytes(greedy(endless, [70, 71, 72], 300)).decode()


def test_stop_strings_over_all_borders_of_tokens():
    """Each split of a stop string over pieces: the same bytes in a stream and without one, nothing
    of the stop string, and what only looked like one is given at the end."""
    answer = "abcSTOPdef"
    for cut in range(1, 4):
        pieces = {100: answer[: 3 + cut].encode(), 101: answer[3 + cut :].encode()}
        table = {(65,): 100, (65, 100): 101}

        def logits(context, table=table):
            row = np.zeros(128, np.float32)
            row[table.get(context, 0)] = 20.0
            return row

        decoder = GatedDecoder(logits, n_seq=4, cells=400)

        def lane(decoder=decoder, pieces=pieces):
            opened = fake_lane(decoder)
            lanes = opened.__enter__()
            lanes[0].model.vocab.pieces.update(pieces)
            opened.__exit__(None, None, None)
            return contextlib.nullcontext(lanes)

        with running(lane) as server:
            for stop, wanted in (("STOP", "abc"), ("STOPx", answer), ("defgh", answer)):
                asked = {"prompt": [65], "max_tokens": 9, "stop": stop, "logprobs": 1}
                whole = server.post("/v1/completions", asked).json()["choices"][0]
                url = f"{server.url}/v1/completions"
                with httpx.stream("POST", url, json={**asked, "stream": True}) as reply:
                    chunks = data(reply.iter_lines())[:-1]
                assert whole["text"] == wanted
                assert "".join(c["choices"][0]["text"] for c in chunks) == wanted
                ids = [t for c in chunks if c["choices"][0]["logprobs"]
                       for t in c["choices"][0]["logprobs"]["token_ids"]]  # fmt: skip
                assert ids == whole["logprobs"]["token_ids"]


def test_two_tokens_of_one_text_do_not_hide_each_other(decoder):
    """The more probable one's number stands for both."""

    def logits(context):
        row = np.zeros(128, np.float32)
        row[10], row[11] = 5.0, 4.0
        return row

    decoder.logits_of = logits
    with running(lambda: fake_lane(decoder)) as server:
        lane = server.state.worker.lanes["fake"]
        lane.model.vocab.pieces[10] = lane.model.vocab.pieces[11] = b"same"
        lane.model.vocab.pieces[12], lane.model.vocab.pieces[13] = b"\xf0\x9f", b"\x99\x82"
        lane._scorer = _scorer(logits)
        asked = {"prompt": [[65, 11, 12, 13, 10]], "max_tokens": 0, "echo": True, "logprobs": 3}
        told = server.post("/v1/completions", asked).json()["choices"][0]["logprobs"]
    value, top = told["token_logprobs"][1], told["top_logprobs"][1]
    assert top["same"] == told["token_logprobs"][4] > value, "it is not the most probable one"
    assert told["tokens"][2:4] == ["bytes:\\xf0\\x9f", "bytes:\\x99\\x82"]
    assert told["text_offset"] == [0, 1, 5, 5, 6]


def test_no_probability_at_all_is_a_number_in_json(decoder):
    def logits(context):
        row = np.full(128, -np.inf, np.float32)
        row[65] = 0.0
        return row

    with running(lambda: fake_lane(decoder)) as server:
        server.state.worker.lanes["fake"]._scorer = _scorer(logits)
        asked = {"prompt": [[65, 66]], "max_tokens": 1, "echo": True, "logprobs": 2}
        told = server.post("/v1/completions", asked).json()["choices"][0]["logprobs"]
    assert told["token_logprobs"] == [None, -9999.0, 0.0]


def _scorer(logits):
    from urial_local.runtime.prompt_scores import PromptScorer

    return PromptScorer(GatedDecoder(logits, n_seq=2, cells=800))


def test_a_model_that_cannot_be_opened_ends_the_server():
    from urial_local.base.errors import ModelError
    from urial_local.server.run import serve

    def fails():
        raise ModelError("Memory is short.")

    with pytest.raises(ModelError, match="Memory is short"):
        serve(ServeSettings(port=0), fails)


def test_loading_is_told(decoder):
    go_on = threading.Event()

    def opens():
        go_on.wait(30)
        return fake_lane(decoder)

    ready = threading.Event()
    app = make_app(ServeSettings(), opens, ready.set)
    from starlette.testclient import TestClient

    with TestClient(app, base_url="http://localhost") as client:
        assert client.get("/health").status_code == 503
        refused = client.post("/v1/completions", json={"prompt": [65]})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "loading")
        go_on.set()
        assert ready.wait(30)
        assert client.get("/health").json() == {"status": "ok"}
