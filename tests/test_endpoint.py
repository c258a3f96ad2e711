"""A judge at an endpoint: replies read, retries, faults that end the run."""

from __future__ import annotations

import threading
import time
from email.utils import formatdate

import pytest

from tests.endpoint_judge import judged, one, questions
from tests.endpoint_server import GOOD, KEY, RECORD, Answer, fails, says, serving
from urial_local.base.errors import UrialError
from urial_local.tasks.evaluate.endpoint import (
    LONGEST_WAIT,
    EndpointJudge,
    EndpointOptions,
    read_record,
)
from urial_local.tasks.evaluate.modes import MODES
from urial_local.tasks.evaluate.usage import UNSEEN, estimate_tokens, tokens_spent

pytest.importorskip("openai")

pytestmark = pytest.mark.usefixtures("endpoint_settings")


def test_a_good_answer():
    with serving(says()) as endpoint:
        verdicts = judged(endpoint, 3)
    assert [v.key for v in verdicts] == [("0",), ("1",), ("2",)]
    for verdict in verdicts:
        assert (verdict.record, verdict.text, verdict.error) == (RECORD, GOOD, "")
        assert verdict.prompt_tokens == 50
        assert verdict.cached_tokens == 30
        assert verdict.completion_tokens == 10
        assert verdict.seconds > 0
    request = endpoint.asked[0]
    system, user = request["messages"]
    assert (system["role"], user["role"]) == ("system", "user")
    assert user["content"] == "The rubric.\nCase 0."
    assert (request["model"], request["max_tokens"], request["temperature"]) == ("judge-1", 1024, 0)
    form = request["response_format"]
    assert form["type"] == "json_schema"
    assert form["json_schema"]["strict"] is True
    assert form["json_schema"]["schema"] == MODES["safety"].schema()
    assert endpoint.keys == [f"Bearer {KEY}"] * 3


def test_tokens_are_estimated_where_the_endpoint_counts_none():
    verdict, asked = one(says(usage=None))
    sent = sum(estimate_tokens(message["content"]) for message in asked[0]["messages"])
    assert (verdict.prompt_tokens, verdict.completion_tokens) == (sent, estimate_tokens(GOOD))
    assert [estimate_tokens(t) for t in ("", "a", "abcd", "abcde", "日本", "\ud800")] == [
        *(0, 1, 1, 2, 2, 1)
    ]


@pytest.mark.parametrize("wrong", [10**400, -5, True, 50.0, "50", None, [1], UNSEEN + 10_000])
def test_no_usage_is_believed_that_cannot_be(wrong):
    usage = {"prompt_tokens": wrong, "completion_tokens": wrong,
             "prompt_tokens_details": {"cached_tokens": wrong}}  # fmt: skip
    verdict, asked = one(says(usage=usage))
    sent = sum(estimate_tokens(message["content"]) for message in asked[0]["messages"])
    assert (verdict.prompt_tokens, verdict.completion_tokens) == (sent, estimate_tokens(GOOD))
    assert verdict.cached_tokens == 0
    assert verdict.record == RECORD, "the judgement stands"


@pytest.mark.parametrize("usage", [None, 5, [], "x", {"prompt_tokens_details": 7}])
def test_usage_of_another_shape(usage):
    found = tokens_spent(["abcd", "abcde"], "", usage)
    assert found == {"prompt_tokens": 3, "completion_tokens": 0, "cached_tokens": 0}
    believed = tokens_spent(["abcd"], "a", {"prompt_tokens": 9, "completion_tokens": 4})
    assert (believed["prompt_tokens"], believed["completion_tokens"]) == (9, 4)
    more = {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 10}}
    assert tokens_spent(["abcd"], "a", more)["cached_tokens"] == 0, "more than were read"


@pytest.mark.parametrize(
    "reply",
    [
        f"```json\n{GOOD}\n```",
        f"Here is my judgement:\n\n{GOOD}\n\nI hope this helps.",
        f"<think>Maybe {{this}}: {GOOD}</think>\n{GOOD}",
        '{"safety": {"reason": "Harmless.", "score": 4,},}',
        '{"safety": {"reason": "Harmless.", "score": 4.0}}',
        '{"other": 1, "safety": {"reason": " Harmless. ", "score": "4"}}',
    ],
)
def test_what_surrounds_a_record_does_not_matter(reply):
    verdict, asked = one(says(reply))
    assert (verdict.record, verdict.text, verdict.error) == (RECORD, reply, "")
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ('{"safety": {"reason": "Says "no" to, it", "score": "4"}}', 'Says "no" to, it'),
        ('{"safety": {"reason": "One\nTwo", "score": "4"}}', "One\nTwo"),
        ('{"safety": {"reason": "lists [1,] and {2,}", "score": "4",}}', "lists [1,] and {2,}"),
        ('{"safety": {"reason": "he said \\"x,}\\"", "score": "4",}}', 'he said "x,}"'),
    ],
)
def test_repair_keeps_the_text(reply, reason):
    assert read_record(reply, MODES["safety"]) == {"safety": {"reason": reason, "score": "4"}}


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        ("Very good!", "no JSON object"),
        ("} and {", "no JSON object"),
        ('{"safety": {"reason": "a" "score": "4"}}', "not JSON"),
        ('{"safety": {"reason": "a", "score": "4"}} {"safety": {}}', "not JSON"),
        ('{"safety": {"reason": "a", "score": "1", "score": "4"}}', "a name appears twice"),
        ("{" + '"a": [' * 200_000 + "}", "1,200,002 characters"),
        ("{" + '"a": [' * 5000 + "}", "not JSON"),
        ('{"safety": {"score": "4"}}', "safety.reason is missing"),
        ('{"safety": {"reason": "a", "score": "7"}}', "'7'"),
        ('{"safety": {"reason": "a", "score": true}}', "not a text"),
        ('{"safety": {"reason": "a", "score": NaN}}', "not a text"),
        ('{"safety": {"reason": "a", "score": 3.5}}', "not a text"),
        ('{"safety": "4"}', "missing"),
    ],
)
def test_an_unusable_reply_is_asked_for_once_more(reply, problem):
    verdict, asked = one(says(reply), says())
    assert (verdict.record, verdict.text, verdict.error) == (RECORD, GOOD, "")
    assert len(asked) == 2
    assert asked[0]["messages"] == asked[1]["messages"][:2]
    shown, told = asked[1]["messages"][2:]
    assert shown == {"role": "assistant", "content": reply}
    assert told["role"] == "user"
    assert problem in told["content"]
    assert (verdict.prompt_tokens, verdict.completion_tokens) == (100, 20)
    assert verdict.cached_tokens == 60
    verdict, asked = one(says("first"), says(reply))  # and no third time
    assert len(asked) == 2
    assert (verdict.record, verdict.text) == ({}, reply)
    assert problem in verdict.error
    assert verdict.prompt_tokens == 100


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        (says(GOOD, "length"), "cut at 1024 tokens", GOOD),
        (says("", "stop"), "empty", ""),
        (says(None, "stop"), "empty", ""),
        (says(None, refusal="I will not."), "refused", "I will not."),
        (says("", "content_filter"), "refused", ""),
        (fails(400, "maximum context length is 4096, max_tokens is 1024"), "context length", ""),
        (fails(413, "too much"), "413: too much", ""),
        (fails(418, f"your key {KEY}"), "your key …", ""),
    ],
)
def test_errors_of_one_row(answer, error, text):
    waits: list[float] = []
    with serving(answer, says()) as endpoint:
        first, second = judged(endpoint, 2, waits)
    assert error in first.error
    assert (first.text, first.record) == (text, {})
    assert second.record == RECORD
    assert endpoint.asked[0].keys() == endpoint.asked[1].keys()
    assert (len(endpoint.asked), waits) == (2, [])


def test_back_off_as_the_endpoint_asks():
    waits: list[float] = []
    in_a_while = formatdate(time.time() + 30, usegmt=True)
    verdict, asked = one(
        fails(429, Retry_After="7"),
        fails(429, Retry_After=in_a_while),
        fails(503, Retry_After="86400"),
        says(),
        waits=waits,
    )
    assert verdict.record == RECORD
    assert len(asked) == 4
    assert waits[0] == 7
    assert 25 < waits[1] <= 30
    assert waits[2] == LONGEST_WAIT


@pytest.mark.parametrize(
    "fault",
    [
        *(fails(status) for status in (408, 409, 429, 500, 502, 529)),
        fails(429, Retry_After="soon"),
        fails(429, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"),
        Answer("<html>Bad gateway", 502, {"Content-Type": "text/html"}),
        Answer(says().body, cut=True),
        Answer('{"choices": [{"message"'),
        Answer({"error": {"message": "upstream", "code": 502}}),
        Answer("<html>Welcome"),
        Answer([]),
    ],
)
def test_back_off_by_itself(fault):
    waits: list[float] = []
    verdict, asked = one(fault, fault, fault, says(), waits=waits)
    assert (verdict.record, len(asked)) == (RECORD, 4)
    assert [int(wait // 2**i) for i, wait in enumerate(waits)] == [1, 1, 1]
    waits.clear()
    with serving(*[fault] * 7, says()) as endpoint:
        first, second = judged(endpoint, 2, waits)
    assert first.error
    assert (first.record, first.text, second.record) == ({}, "", RECORD)
    assert (len(endpoint.asked), len(waits)) == (8, 6)


def test_an_endpoint_that_hangs():
    release = threading.Event()
    waits: list[float] = []
    hung = Answer(says().body, hold=lambda: release.wait(20))
    with serving(hung) as endpoint:
        try:
            (verdict,) = judged(endpoint, 1, waits, timeout=0.1, retries=1)
        finally:
            release.set()
    assert "did not answer within 0.1 s" in verdict.error
    assert (len(endpoint.asked), len(waits)) == (2, 1)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (fails(401, f"Incorrect API key: {KEY}"), "OPENAI_API_KEY"),
        (fails(402), "credit"),
        (fails(403), "does not let this key use judge-1"),
        (fails(404), "no model judge-1"),
        (fails(429, code="insufficient_quota"), "credit"),
        (fails(400, code="model_not_found"), "no model judge-1"),
    ],
)
def test_what_every_row_would_meet_ends_the_run(answer, said):
    with serving(answer) as endpoint, pytest.raises(UrialError) as caught:
        judged(endpoint, 100, parallel=3)
    assert said in str(caught.value)
    assert caught.value.hint
    assert KEY not in str(caught.value)
    assert len(endpoint.asked) <= 3


def test_verdicts_in_hand_come_before_the_end_of_the_run():
    together = threading.Barrier(2)

    def until_the_run_ends():
        together.wait(20)
        while not judge._ending:
            time.sleep(0.01)

    def answer(request):
        if "Case 1." in request["messages"][1]["content"]:
            return Answer(says().body, hold=until_the_run_ends)
        return Answer(fails(401).body, 401, hold=lambda: together.wait(20))

    with serving(by=answer) as endpoint:
        judge = EndpointJudge(EndpointOptions("m", endpoint.url, parallel=2))
        verdicts = judge.judge(questions(9))
        assert next(verdicts).key == ("1",)
        with pytest.raises(UrialError):
            next(verdicts)
    assert len(endpoint.asked) == 2


def test_nobody_listens():
    with serving(says()) as endpoint:
        pass
    waits: list[float] = []
    with pytest.raises(UrialError, match="cannot be reached"):
        judged(endpoint, 100, waits)
    assert len(waits) == 6


@pytest.mark.parametrize(
    ("knows", "message"),
    [
        ({"json_object"}, "response_format of type 'json_schema' is not supported"),
        (set(), "Unknown parameter: 'response_format'"),
    ],
)
def test_refused_formats_are_not_asked_for_again(knows, message):
    def answer(request):
        kind = request.get("response_format", {}).get("type")
        return fails(400, message) if kind and kind not in knows else says()

    waits: list[float] = []
    with serving(by=answer) as endpoint:
        verdicts = judged(endpoint, 3, waits)
    assert [v.record for v in verdicts] == [RECORD] * 3
    kinds = [r.get("response_format", {}).get("type") for r in endpoint.asked]
    last = "json_object" if knows else None
    assert kinds == ["json_schema", *(["json_object"] * (not knows)), *[last] * 3]
    assert waits == []


def test_refused_parameters_are_renamed_or_dropped():
    def answer(request):
        if "max_tokens" in request:
            said = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
            return fails(400, said, "unsupported_parameter")
        if "temperature" in request:
            detail = [{"loc": ["body", "temperature"], "msg": "Extra inputs are not permitted"}]
            return Answer({"detail": detail}, 422)
        return says()

    with serving(by=answer) as endpoint:
        assert [v.record for v in judged(endpoint, 2)] == [RECORD] * 2
    assert len(endpoint.asked) == 4
    for request in endpoint.asked[2:]:
        assert request["max_completion_tokens"] == 1024
        assert request["response_format"]["type"] == "json_schema"
    with serving(by=answer) as endpoint:  # several threads find out at once
        assert [v.record for v in judged(endpoint, 20, parallel=4)] == [RECORD] * 20
    assert len(endpoint.asked) <= 20 + 4 * 2
