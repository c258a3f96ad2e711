"""A server whose model has a guide: who wrote which token, what is told of it, and what is not."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("starlette")

import urial_local
from tests.command import fails
from tests.fakes import END, FakeDecoder, random_logits, script
from tests.serving import FOX, SOUP, client, fake_lane, pair, plan, running
from urial_local.runtime.guides import softmax
from urial_local.server.lanes import open_lanes
from urial_local.server.preparing import asker_for
from urial_local.tasks.guide import GuideOptions, Rule

ANSWER = "hello there"


def unsure(context):
    """Never sure of anything, and sees what was written before it."""
    return random_logits()(context)


def guided(gamma=0.4, base=unsure, said=ANSWER, n_seq=2):
    return fake_lane(
        FakeDecoder(base, n_seq=n_seq), gamma=gamma, rows=n_seq - 1,
        guide=FakeDecoder(script({"hi": said}), n_seq=n_seq - 1),
    )  # fmt: skip


def chat(web, **body):
    asked = {"messages": [{"role": "user", "content": "hi"}], "temperature": 0, **body}
    reply = web.post("/v1/chat/completions", json=asked)
    assert reply.status_code == 200, reply.text
    return reply.json()["choices"][0]


# --- known logits ---------------------------------------------------------------------------------


def test_tokens_say_who_wrote_them_and_why():
    with client(lambda: guided()) as web:
        done = chat(web, urial={"tokens": True})
        assert done["message"]["content"] == ANSWER
        tokens = done["urial"]["tokens"]
        for at, token in enumerate(tokens):
            prompt = tuple(b"hi" + ANSWER[:at].encode())
            top = softmax(unsure(prompt).astype(np.float64)).max()
            assert token["base_top"] == pytest.approx(top, abs=1e-6)
        assert tokens[-1]["id"] == END, "the guide's end is told, too"
        assert done["urial"]["guide"] == {
            "tokens": len(ANSWER), "rate": 1.0, "decoded_tokens": 2 + len(ANSWER)
        }  # fmt: skip


def test_where_the_base_is_sure_it_writes_itself():
    """It is sure of the first word, and unsure of the rest."""

    def base(context):
        text = bytes(context).decode()
        row = random_logits()(context)
        if "there".startswith(text[len("hi hello ") :]) and text.startswith("hi hello "):
            return row
        row = np.zeros(128, np.float32)
        row[ord("hi hello "[len(text)])] = 20.0
        return row

    with client(lambda: guided(base=base, said=" hello there")) as web:
        done = chat(web, urial={"tokens": True})
        assert done["message"]["content"].strip() == ANSWER
        told = done["urial"]["tokens"]
        theirs = "".join(t["text"] for t in told if t["base_top"] is not None and t["id"] != END)
        assert theirs == "there"
        assert done["urial"]["guide"]["tokens"] == len("there")


def test_a_client_may_ask_without_the_guide_and_completions_have_none():
    with client(lambda: guided()) as web:
        alone = chat(web, max_tokens=5, urial={"guide": False, "tokens": True})
        assert "guide" not in alone["urial"]
        assert all(token["base_top"] is None for token in alone["urial"]["tokens"])
        assert chat(web, max_tokens=5)["message"]["content"] == ANSWER[:5]
        body = {"prompt": "hi", "max_tokens": 5, "temperature": 0}
        raw = web.post("/v1/completions", json=body).json()["choices"][0]
        assert "guide" not in raw["urial"]
        assert raw["text"] != ANSWER[:5]
        refused = web.post("/v1/chat/completions", json={"messages": FOX, "urial": {"guide": 1}})
        assert refused.status_code == 400
        assert "urial.guide" in refused.text


def test_an_answer_that_is_gone_on_with_is_told_to_the_guide():
    with client(lambda: guided()) as web:
        begun = chat(web, prefill_ids=list(b"hello"))
        assert begun["message"]["content"] == " there"
        assert begun["urial"]["guide"]["rate"] == 1
        messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hel"}]
        more = chat(web, messages=messages, continue_final_message=True)
        assert more["message"]["content"] == "lo there"


def test_a_stream_and_several_answers_tell_the_same():
    with client(lambda: guided(n_seq=3)) as web:
        body = {
            "messages": [{"role": "user", "content": "hi"}], "n": 2, "stream": True,
            "urial": {"tokens": True},
        }  # fmt: skip
        whole = [chat(web, urial={"tokens": True})] * 2
        found = {0: [], 1: []}
        rates = {}
        with web.stream("POST", "/v1/chat/completions", json=body) as reply:
            for line in reply.iter_lines():
                if not line.startswith("data: {"):
                    continue
                for choice in json.loads(line[6:])["choices"]:
                    own = choice.get("urial", {})
                    found[choice["index"]] += own.get("tokens", [])
                    if "guide" in own:
                        rates[choice["index"]] = own["guide"]["rate"]
        for i in (0, 1):
            assert found[i] == whole[i]["urial"]["tokens"]
        assert rates == {0: 1, 1: 1}


def test_the_guides_tokens_are_counted():
    with running(lambda: guided()) as server:
        for _ in range(2):
            reply = server.post(
                "/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]}
            )
            assert reply.status_code == 200
        assert server.metric("urial_guide_tokens_total", model="fake") == 2 * len(ANSWER)
        assert server.metric("urial_guide_decoded_tokens_total") >= 2 * len(ANSWER)
        written = server.metric("urial_generated_tokens_total")
        assert written == 2 * (len(ANSWER) + 1)


def test_the_next_turn_is_read_from_where_the_last_ended():
    """A guide keeps what it holds of a conversation, and nothing of other rows."""
    guide = FakeDecoder(script({"hi": ANSWER, "bye": "so long"}), n_seq=1)

    def lane():
        return fake_lane(FakeDecoder(unsure), rows=1, guide=guide)

    with client(lane) as web:
        chat(web)
        before = guide.decoded
        turns = [
            {"role": "user", "content": "hi"}, {"role": "assistant", "content": ANSWER},
            {"role": "user", "content": "bye"},
        ]  # fmt: skip
        done = chat(web, messages=turns)
        assert done["message"]["content"] == "so long"
        assert done["urial"]["guide"]["decoded_tokens"] == guide.decoded - before
        prompt = len(web.post("/api/render", json={"messages": turns}).json()["tokens"])
        assert guide.decoded - before < prompt + len("so long")


# --- the embedded pair ----------------------------------------------------------------------------


def nudged(gamma, **more):
    return plan("demo", guide=GuideOptions("demo-aligned", Rule("nudge", gamma=gamma)), **more)


def test_the_pair_answers_as_ask_does_and_says_what_it_is():
    with urial_local.load("demo", guide="demo-aligned", gamma=0.9, prompt="zero-shot") as alone:
        expected = alone.complete(SOUP[0]["content"])
    with client([nudged(0.9, exact=True)]) as web:
        models = {m["id"]: m["urial"] for m in web.get("/v1/models").json()["data"]}
        told = models["demo:zero-shot"]["guide"]
        assert (told["rule"], told["gamma"]) == ("nudge", 0.9)
        assert told["model"]["name"] == "demo-aligned"
        assert told["prompt"]["name"] == "chat"
        assert web.get("/api/info").json()["models"][0]["guide"] == told
        done = chat(web, model="demo:zero-shot", messages=SOUP, urial={"tokens": True})
        assert done["message"]["content"] == expected.text
        assert done["urial"]["guide"]["rate"] == round(expected.guidance.rate, 6)
        at = [i for i, t in enumerate(done["urial"]["tokens"]) if t["base_top"] is not None]
        assert at == list(expected.guidance.at)


def test_a_clients_system_text_reaches_the_guide_under_its_own_prompt():
    with open_lanes([nudged(0.9)]) as (lane,):
        plainly = asker_for(lane, "zero-shot", "")
        asked = asker_for(lane, "zero-shot", "Be brief.")
        assert plainly.guide.asker.prompt.name == asked.guide.asker.prompt.name == "chat"
        for one in (asked, asked.guide.asker):
            assert "Be brief." in one.render("hi").text
        (told,) = asked.request("hi").others
        (before,) = plainly.request("hi").others
        assert len(told) > len(before)
        assert "Be brief." not in lane.asker("zero-shot").guide.asker.render("hi").text


def test_a_guide_without_a_template_is_asked_as_the_base_is():
    options = GuideOptions("demo", Rule("nudge", gamma=0.9))
    with open_lanes([plan("demo", guide=options)]) as (lane,):
        for name in ("zero-shot", "urial-demo"):
            for system in ("", "Be brief."):
                request = asker_for(lane, name, system).request("hi")
                assert list(request.others[0]) == list(request.tokens)


def test_the_aligned_lane_has_no_guide():
    with client([nudged(0.4), plan("demo-aligned")]) as web:
        assert "guide" not in chat(web, model="demo-aligned", messages=FOX)["urial"]
        assert "guide" in chat(web, model="demo", messages=FOX)["urial"]
        models = {m["id"]: m["urial"] for m in web.get("/v1/models").json()["data"]}
        assert "guide" not in models["demo-aligned"]


def test_a_saved_conversation_names_its_guide(tmp_path):
    with client([nudged(0.9)], runs=tmp_path) as web:
        turn = {"query": "q", "answer": "a", "finish_reason": "loop"}
        said = web.post("/api/save", json={"model": "demo", "turns": [turn]}).json()
    config = json.loads((tmp_path / said["run"] / "run.json").read_text())["config"]
    assert config["guide"]["rule"] == "nudge"


def test_contrast_is_served_without_a_guide():
    options = GuideOptions(None, Rule("contrast", alpha=0.3))
    with client([plan("demo", guide=options)]) as web:
        done = chat(web, messages=FOX, max_tokens=8)
        assert done["urial"]["guide"]["decoded_tokens"] > 0


def test_without_a_guide_nothing_is_said_of_one():
    with client(pair()) as web:
        done = chat(web, messages=FOX, urial={"tokens": True})
        assert "guide" not in done["urial"]
        assert all(token["base_top"] is None for token in done["urial"]["tokens"])
        assert all("guide" not in m["urial"] for m in web.get("/v1/models").json()["data"])


def test_the_command_refuses_what_makes_no_sense():
    assert "needs a guide" in fails(2, "serve", "--gamma", "0.3")
    assert "has no --beta" in fails(2, "serve", "--guide", "demo-aligned", "--beta", "1")
    assert "takes no" in fails(2, "serve", "--guide", "demo", "--guide-rule", "contrast")
