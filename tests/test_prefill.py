"""Answers that begin with a given text: on a model with known logits, and on the embedded one."""

from __future__ import annotations

import json

import pytest

import urial_local
from tests.command import urial
from tests.fakes import FakeDecoder, greedy, random_logits, script
from tests.test_engine import PREFIX, VOCAB
from urial_local.base.errors import UsageError
from urial_local.runtime.engine import Engine
from urial_local.runtime.rows import Request
from urial_local.runtime.stops import StopPolicy


@pytest.mark.parametrize("parallel", [1, 3])
def test_an_answer_begins_with_it_and_goes_on_from_it(parallel):
    logits = random_logits()
    engine = Engine(VOCAB, FakeDecoder(logits, n_seq=parallel + 1, batch_size=7))
    begun = [VOCAB.encode(text) for text in ("Sure", "", "Well, then")]
    batch = [
        Request(PREFIX + VOCAB.encode(f"q{i}"), max_tokens=6, shared=len(PREFIX), prefill=ids)
        for i, ids in enumerate(begun)
    ]
    for request, done in zip(batch, engine.complete(batch), strict=True):
        given = [*request.tokens, *request.prefill]
        written = greedy(logits, given, 6)
        assert done.tokens == (*request.prefill, *written)
        assert len(done.logprobs) == len(written), "no log-probability for what was given"
        assert done.prefill_tokens == len(request.prefill)
        assert done.text == bytes(done.tokens).decode()


def test_the_steps_tell_it_with_what_follows():
    engine = Engine(VOCAB, FakeDecoder(script({"Hi": "abc def"})))
    request = Request(VOCAB.encode("Hi"), prefill=VOCAB.encode("abc"))
    texts = [step.text for step in engine.stream([request])]
    assert texts == ["abc ", "d", "e", "f", ""]


def test_the_stop_policy_sees_it():
    engine = Engine(VOCAB, FakeDecoder(script({"Hi": "ab``` c\n```\n"})))
    policy = StopPolicy(fence="```")
    request = Request(VOCAB.encode("Hi"), prefill=VOCAB.encode("ab"), stop=policy)
    (done,) = engine.complete([request])
    assert (done.text, done.finish_reason) == ("ab``` c", "frame")
    engine = Engine(VOCAB, FakeDecoder(script({"Hi": "one STOP"})))
    request = Request(
        VOCAB.encode("Hi"), prefill=VOCAB.encode("one S"), stop=StopPolicy("", "", ("STOP",))
    )
    (done,) = engine.complete([request])
    assert (done.text, done.finish_reason) == ("one ", "stop")
    with pytest.raises(UsageError, match="cannot begin like this"):
        engine.submit(
            Request([5], prefill=VOCAB.encode("a STOP"), stop=StopPolicy("", "", ("STOP",)))
        )


def test_ask_and_load_take_it():
    asked = urial("ask", "--json", "-n", "12", "--prefill", "Sure, here", "What is rain?")
    found = json.loads(asked.stdout)
    assert found["text"].startswith("Sure, here")
    assert found["prefill_tokens"] > 0
    with urial_local.load(max_tokens=12, prefill="Sure, here") as assistant:
        done = assistant.complete("What is rain?")
        assert done.text == found["text"]
        plain = assistant.using(prefill="").complete("What is rain?")
        assert not plain.prefill_tokens
        talk = assistant.chat()
        assert "".join(talk.ask("What is rain?")) == done.text
        assert talk.turns[0].answer == done.text


def test_a_run_records_it(tmp_path):
    (tmp_path / "q.txt").write_text("What is rain?\nWho are you?\n")
    args = ["generate", str(tmp_path / "q.txt"), "-o", str(tmp_path / "run"), "-n", "8", "-np", "2"]
    made = urial(*args, "--prefill", "Well,")
    assert made.returncode == 0, made.stderr
    rows = [json.loads(line) for line in (tmp_path / "run/rows.jsonl").read_text().splitlines()]
    for row in rows:
        assert row["answer"].startswith("Well,")
        assert row["completion_tokens"] == len(row["answer_ids"])
        assert 0 < row["prefill_tokens"] < row["completion_tokens"]
    config = json.loads((tmp_path / "run/run.json").read_text())["config"]
    assert config["prefill"] == "Well,"
    assert urial(*args).returncode != 0, "another configuration"
