"""A judge at an endpoint: many requests at once, stopping, keys."""

from __future__ import annotations

import sys
import threading
import time

import pytest

from tests.endpoint_judge import judged, questions
from tests.endpoint_server import RECORD, Answer, fails, says, serving
from urial_local.base.errors import UsageError
from urial_local.tasks.evaluate.endpoint import (
    EndpointJudge,
    EndpointOptions,
)
from urial_local.tasks.evaluate.judge import Question
from urial_local.tasks.evaluate.modes import MODES

pytest.importorskip("openai")

pytestmark = pytest.mark.usefixtures("endpoint_settings")


def test_requests_in_flight():
    together = threading.Barrier(3)
    with serving(Answer(says().body, hold=lambda: together.wait(20))) as endpoint:
        assert len(judged(endpoint, 9, parallel=3)) == 9
    assert endpoint.most_in_flight == 3
    assert len(endpoint.asked) == 9


def test_questions_are_drawn_as_slots_are_free_and_not_after_stop():
    drawn = []

    def source():
        for question in questions(100):
            drawn.append(question)
            yield question

    with serving(says()) as endpoint:
        judge = EndpointJudge(EndpointOptions("m", endpoint.url, parallel=2))
        verdicts = judge.judge(source())
        assert drawn == []
        next(verdicts)
        assert len(drawn) == 2
        next(verdicts)
        assert len(drawn) == 3
        judge.stop()
        assert len(list(verdicts)) == 1
        assert len(drawn) == 3
    assert len(endpoint.asked) == 3


def test_stop_ends_a_wait():
    with serving(fails(429, Retry_After="60")) as endpoint:
        judge = EndpointJudge(EndpointOptions("m", endpoint.url))
        stopping = threading.Thread(target=judge.stop)

        def wait(seconds: float) -> None:
            stopping.start()
            judge._wait(seconds)

        judge._sleep = wait
        began = time.monotonic()
        (verdict,) = judge.judge(questions(1))
        stopping.join()
    assert "429" in verdict.error
    assert time.monotonic() - began < 20
    assert len(endpoint.asked) == 1


def test_leaving_early_does_not_wait():
    release = threading.Event()

    def answer(request):
        first = "Case 0." in request["messages"][1]["content"]
        return Answer(says().body, hold=lambda: first or release.wait(60))

    with serving(by=answer) as endpoint:
        before = set(threading.enumerate())
        judge = EndpointJudge(EndpointOptions("m", endpoint.url, parallel=2), lambda seconds: None)
        verdicts = judge.judge(questions(9))
        assert next(verdicts).key == ("0",)
        began = time.monotonic()
        verdicts.close()
        assert time.monotonic() - began < 20
        release.set()
        while set(threading.enumerate()) - before:
            assert time.monotonic() - began < 40
            time.sleep(0.005)
    assert len(endpoint.asked) <= 2


def test_a_failing_source_of_questions():
    def source():
        yield from questions(1)
        raise UsageError("The answers have changed.")

    with serving(says()) as endpoint, pytest.raises(UsageError, match="have changed"):
        list(EndpointJudge(EndpointOptions("m", endpoint.url)).judge(source()))


def test_half_a_character_can_be_judged():
    broken = Question(("0",), MODES["safety"], "The rubric.", "\ud800")
    with serving(says('{"a": "\ud800"'), says()) as endpoint:
        judge = EndpointJudge(EndpointOptions("m", endpoint.url))
        (verdict,) = judge.judge([broken])
    assert verdict.record == RECORD


def test_about(monkeypatch):
    options = EndpointOptions("m", "http://user:pass@127.0.0.1:8080/v1?token=secret")
    assert EndpointJudge(options).about() == {
        "kind": "endpoint",
        "name": "m",
        "base_url": "127.0.0.1:8080",
        "max_tokens": 1024,
        "temperature": 0.0,
    }
    assert EndpointJudge(EndpointOptions("m")).about()["base_url"] == "api.openai.com"
    monkeypatch.setenv("OPENAI_BASE_URL", "https://judges.example/v1")
    assert EndpointJudge(EndpointOptions("m")).about()["base_url"] == "judges.example"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:80", "[::1]:80", "10.0.0.7", "box.local"])
def test_a_server_nearby_needs_no_key(host, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    EndpointJudge(EndpointOptions("m", f"http://{host}/v1"))


def test_no_key_is_sent_that_is_not_there(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", " ")
    with serving(fails(418, "none of it")) as endpoint:
        (verdict,) = judged(endpoint)
    assert endpoint.keys == ["Bearer none"]
    assert "none of it" in verdict.error


def test_what_cannot_be_asked(monkeypatch):
    for url in ("localhost:8080/v1", "ftp://x/v1", "http://", "http://x:port/", "http://[x/"):
        with pytest.raises(UsageError, match="base URL"):
            EndpointJudge(EndpointOptions("m", url))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-\u2013")
    with pytest.raises(UsageError, match="is not a key"):
        EndpointJudge(EndpointOptions("m", "https://judges.example/v1"))
    monkeypatch.delenv("OPENAI_API_KEY")
    for url in (None, "https://judges.example/v1", "http://8.8.8.8/v1"):
        with pytest.raises(UsageError, match="OPENAI_API_KEY is not set"):
            EndpointJudge(EndpointOptions("m", url))
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(UsageError, match="needs the openai package") as caught:
        EndpointJudge(EndpointOptions("m"))
    assert caught.value.hint == "pip install 'urial-local[eval]'"
