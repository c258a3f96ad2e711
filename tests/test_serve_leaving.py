"""Nothing is computed for nobody, and what goes wrong with one request stays with it: on known
logits, with a decoder that waits until the test lets it go on."""

from __future__ import annotations

import socket
import threading

import httpx2 as httpx
import numpy as np
import pytest

pytest.importorskip("starlette")

from tests.fakes import greedy
from tests.serving import GatedDecoder, fake_lane, running
from urial_local.runtime.prompt_scores import PromptScorer
from urial_local.server.run import listen

ASKED = {"prompt": [65, 66], "max_tokens": 40, "temperature": 0}


def letters(context: tuple[int, ...]) -> np.ndarray:
    row = np.zeros(128, np.float32)
    row[97 + len(context) % 26] = 20.0
    return row


ALONE = bytes(greedy(letters, ASKED["prompt"], ASKED["max_tokens"])).decode()


def leaves(url: str, body: dict) -> None:
    """Ask, and close the connection before there is an answer."""
    with pytest.raises(httpx.TimeoutException):
        httpx.post(url, json=body, timeout=httpx.Timeout(30, read=0.2))


class Asking:
    """A neighbour that asks meanwhile."""

    def __init__(self, server) -> None:
        self.replies: list[httpx.Response] = []
        self._thread = threading.Thread(
            target=lambda: self.replies.append(server.post("/v1/completions", ASKED))
        )
        self._thread.start()

    def text(self) -> str:
        self._thread.join(60)
        (reply,) = self.replies
        assert reply.status_code == 200, reply.text
        return reply.json()["choices"][0]["text"]


def test_who_leaves_the_page_is_not_scored_to_the_end():
    """/api/top and /api/shift wait for scores; the chat page may be closed meanwhile."""
    scoring = GatedDecoder(letters, n_seq=2, cells=800, batch_size=4)
    with running(lambda: fake_lane(GatedDecoder(letters, n_seq=4, cells=1600))) as server:
        server.state.worker.lanes["fake"]._scorer = PromptScorer(scoring)
        scoring.open.clear()
        messages = [{"role": "user", "content": "abcd" * 60}]
        leaves(f"{server.url}/api/top", {"messages": messages, "ids": [97]})
        server.until(lambda: server.state.open == 0)
        scoring.open.set()
        assert Asking(server).text() == ALONE
        server.until(lambda: server.metric("urial_requests_waiting") == 0)
        assert scoring.entered == 1, "the batch that was under way"
        assert server.metric("urial_disconnects_total") == 1


def test_who_leaves_before_the_engine_looks_disturbs_nobody():
    """/api/render asks the engine's thread, between two batches, for what is cached."""
    decoder = GatedDecoder(letters, n_seq=4, cells=1600)
    with running(lambda: fake_lane(decoder)) as server:
        decoder.open.clear()
        neighbour = Asking(server)
        server.until(lambda: decoder.entered)
        leaves(f"{server.url}/api/render", {"messages": [{"role": "user", "content": "Hello"}]})
        server.until(lambda: server.state.open == 1)
        decoder.open.set()
        assert neighbour.text() == ALONE


@pytest.mark.parametrize("stream", [True, False])
def test_a_defect_in_taking_a_request_fails_that_one_alone(stream, caplog):
    decoder = GatedDecoder(letters, n_seq=4, cells=1600)
    with running(lambda: fake_lane(decoder)) as server:
        decoder.open.clear()
        neighbour = Asking(server)
        server.until(lambda: decoder.entered)
        engine = server.state.worker.lanes["fake"].engine
        submit, refused = engine.submit, []

        def broken(request):
            if len(refused) == 0:
                refused.append(request)
                raise TypeError("a secret prompt")
            return submit(request)

        engine.submit = broken
        replies = []
        asking = threading.Thread(
            target=lambda: replies.append(
                server.post("/v1/completions", {**ASKED, "n": 2, "stream": stream})
            )
        )
        asking.start()
        server.until(lambda: server.state.open == 2)
        decoder.open.set()
        asking.join(60)
        assert not asking.is_alive(), "nobody told it"
        assert "failed to compute" in replies[0].text
        assert "secret" not in caplog.text + replies[0].text
        assert "TypeError" in caplog.text
        assert neighbour.text() == ALONE
        server.until(lambda: server.state.open == 0)


def test_the_openai_client_reads_over_signs_of_life():
    """Comments come while the decoder stands still; the client takes them for nothing."""
    openai = pytest.importorskip("openai")
    decoder = GatedDecoder(letters, n_seq=4, cells=1600)
    with running(lambda: fake_lane(decoder), ping=0.05) as server:
        decoder.open.clear()
        raw = []
        with httpx.stream(
            "POST", f"{server.url}/v1/completions", json={**ASKED, "stream": True}, timeout=60
        ) as reply:
            lines = reply.iter_lines()
            while raw.count(": ping") < 3:
                raw.append(next(lines))
        assert not any(line.startswith("data") for line in raw), "comments come before any text"
        opener = threading.Thread(
            target=lambda: (server.until(lambda: server.state.open == 1), decoder.open.set())
        )
        server.until(lambda: server.state.open == 0)
        opener.start()
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as ai:
            chunks = list(ai.completions.create(model="fake", stream=True, **ASKED))
        opener.join()
        assert "".join(chunk.choices[0].text for chunk in chunks) == ALONE
        assert chunks[-1].choices[0].finish_reason == "length"


def test_machines_that_are_gone_are_noticed():
    """Without a word from them: connections ask whether the other end is there."""
    listening = listen("127.0.0.1", 0)
    with (
        listening,
        socket.create_connection(listening.getsockname()),
        listening.accept()[0] as taken,
    ):
        assert taken.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if hasattr(socket, "TCP_KEEPIDLE"):
            assert taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) <= 60
