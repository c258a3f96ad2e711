"""What the chat page asks: the exact prompt, other tokens, shift, going on from a token, saving."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("starlette")

from tests.command import urial
from tests.serving import FOX, SOUP, client, pair, plan
from urial_local.records.generated import Generated
from urial_local.records.runlog import read_rows
from urial_local.server.page import headers


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def web(runs):
    with client(pair(), runs=runs) as opened:
        yield opened


def post(web, path: str, **body):
    reply = web.post(path, json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()


def chat(web, **body):
    asked = {"model": "demo", "messages": FOX, "urial": {"tokens": True}, **body}
    return post(web, "/v1/chat/completions", **asked)["choices"][0]


def test_what_there_is(web):
    told = web.get("/api/info").json()
    assert [model["name"] for model in told["models"]] == ["demo", "demo-aligned"]
    assert told["pair"] == {
        "base": "demo", "aligned": "demo-aligned", "comparable": True, "difference": ""
    }  # fmt: skip
    assert told["saves"] is True
    prompts = {prompt["name"]: prompt for prompt in told["models"][0]["prompts"]}
    assert prompts["urial-demo"]["shots"] == 3
    assert told["models"][1]["prompt"] == "chat"
    with client([plan("demo")]) as alone:
        assert alone.get("/api/info").json()["pair"] is None
        refused = alone.post("/api/shift", json={"messages": FOX, "ids": [5]})
        assert (refused.status_code, "--aligned" in refused.text) == (400, True)


def test_the_exact_prompt_with_its_tokens_and_what_is_cached(web):
    told = post(web, "/api/render", model="demo", messages=FOX)
    rendered = urial("prompts", "render", "urial-demo", "--query", FOX[0]["content"]).stdout
    assert told["text"].strip() == rendered.strip()
    offsets = [token["offset"] for token in told["tokens"]]
    assert offsets == sorted(offsets)
    done = chat(web)
    assert done["urial"]["prompt_tokens"] == len(told["tokens"])
    again = post(web, "/api/render", model="demo", messages=FOX)
    assert again["cached_tokens"] == len(told["tokens"]) - 1, "all but the last, as it is decoded"
    ids = [token["id"] for token in done["urial"]["tokens"]]
    with_ids = post(web, "/api/render", model="demo", messages=FOX, ids=ids)
    assert [token["id"] for token in with_ids["tokens"]][-len(ids) :] == ids


def test_tokens_are_told_in_a_stream(web):
    plain = {"model": "demo:zero-shot", "repeat_penalty": 1, "temperature": 0}
    whole = chat(web, **plain)
    body = {**plain, "messages": FOX, "urial": {"tokens": True}, "stream": True}
    lines = web.post("/v1/chat/completions", json=body).text.splitlines()
    chunks = [json.loads(x[6:]) for x in lines if x.startswith("data: {")]
    told = [t for c in chunks for t in c["choices"][0].get("urial", {}).get("tokens", [])]
    assert [t["id"] for t in told] == [t["id"] for t in whole["urial"]["tokens"]]
    for token in told:
        assert token["rank"] == 1, "greedy"
        assert token["entropy"] >= 0
        assert len(token["top"]) == 10
        assert (token["top"][0]["id"], token["top"][0]["logprob"]) == (
            token["id"],
            token["logprob"],
        )
    assert "".join(t["text"] for t in told).strip() == whole["message"]["content"]
    assert "urial" not in chunks[1]["choices"][0] or chunks[1]["choices"][0]["urial"]


def test_other_tokens_at_a_place_in_both_models(web):
    tokens = chat(web)["urial"]["tokens"]
    ids = [token["id"] for token in tokens]
    for position in (0, 3, len(ids) - 1):
        told = post(web, "/api/top", messages=FOX, ids=ids, position=position)
        assert list(told["models"]) == ["demo", "demo-aligned"]
        base = told["models"]["demo"]
        assert base["token"]["id"] == ids[position]
        assert base["token"]["rank"] == 1
        assert base["token"]["logprob"] == pytest.approx(tokens[position]["logprob"], abs=1e-3)
        assert base["top"][0]["id"] == ids[position]
        assert len(base["top"]) == 10
    after = post(web, "/api/top", messages=FOX, ids=ids, models=["demo:zero-shot"])
    assert after["models"]["demo:zero-shot"]["token"] is None


def test_going_on_from_another_token(web):
    """What follows is what the model writes after those tokens, and fences stay what they are."""
    whole = chat(web, messages=SOUP)
    tokens = whole["urial"]["tokens"]
    ids = [token["id"] for token in tokens]
    for cut in (1, 5, len(ids) - 2):
        rest = chat(web, messages=SOUP, prefill_ids=ids[:cut])
        begun = "".join(token["text"] for token in tokens[:cut]).lstrip()
        assert begun + rest["message"]["content"] == whole["message"]["content"]
        assert [t["id"] for t in rest["urial"]["tokens"]] == ids[cut:]
    other = next(t["id"] for t in tokens[3]["top"] if t["id"] != ids[3])
    branch = chat(web, messages=SOUP, prefill_ids=[*ids[:3], other])
    assert branch["message"]["content"] != whole["message"]["content"]
    refused = web.post(
        "/v1/chat/completions", json={"messages": SOUP, "prefill_ids": [10**6]}
    ).json()
    assert refused["error"]["param"] == "prefill_ids"


def test_what_alignment_changed(web):
    done = chat(web, model="demo-aligned")
    ids = [token["id"] for token in done["urial"]["tokens"]]
    plain = post(web, "/api/shift", messages=FOX, ids=ids, base="demo:zero-shot")["tokens"]
    prompted = post(web, "/api/shift", messages=FOX, ids=ids)["tokens"]
    assert [token["id"] for token in plain] == ids
    for token in (*plain, *prompted):
        rank = token["base"]["rank"]
        wanted = "unshifted" if rank == 1 else "marginal" if rank <= 3 else "shifted"
        assert token["class"] == wanted
        assert token["aligned"]["rank"] == 1, "it wrote them, greedily"
    shifted = [sum(token["class"] == "shifted" for token in of) for of in (plain, prompted)]
    assert shifted[0] > shifted[1], "the prompt mends most of it"
    for body in ({"ids": []}, {"ids": ids, "base": "demo-aligned"}, {"ids": [10**7]}):
        assert web.post("/api/shift", json={"messages": FOX, **body}).status_code == 400


def test_shift_is_what_the_command_says(web, tmp_path):
    (tmp_path / "q.txt").write_text(FOX[0]["content"] + "\n")
    done = urial("shift", tmp_path / "q.txt", "--base", "demo", "--aligned", "demo-aligned",
                 "--base-prompt", "zero-shot", "-o", tmp_path / "run", "-t", "1")  # fmt: skip
    assert done.returncode == 0, done.stderr
    (row,) = read_rows(tmp_path / "run" / "rows.jsonl")
    ids = row["answer_ids"]
    told = post(web, "/api/shift", messages=FOX, ids=ids, base="demo:zero-shot")["tokens"]
    assert [t["base"]["rank"] for t in told] == row["contexts"]["zero-shot"]["base_rank"]
    logprobs = row["contexts"]["zero-shot"]["base_logprob"]
    assert [t["base"]["logprob"] for t in told] == pytest.approx(logprobs, abs=1e-3)


def test_a_conversation_is_saved_as_a_run(web, runs):
    done = chat(web)
    turn = {
        "query": FOX[0]["content"],
        "answer": done["message"]["content"],
        "answer_ids": [token["id"] for token in done["urial"]["tokens"]],
        "finish_reason": done["urial"]["finish_reason"],
        "completion_tokens": done["urial"]["completion_tokens"],
    }
    told = post(web, "/api/save", model="demo", turns=[turn, turn], sampling={"temperature": 0})
    folder = runs / told["run"]
    (row,) = read_rows(folder / "rows.jsonl")
    assert len(Generated.read(row).turns) == 2
    shown = urial("show", folder)
    assert turn["answer"].splitlines()[0] in shown.stdout
    assert urial("report", folder, "-o", runs / "page.html").returncode == 0
    for wrong in ({"turns": []}, {"turns": [{}]}, {"turns": [{**turn, "finish_reason": "x"}]}):
        assert web.post("/api/save", json={"model": "demo", **wrong}).status_code == 400
    with client([plan("demo")]) as other:
        refused = other.post("/api/save", json={"turns": [turn]})
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "not_saving")


def test_the_page_runs_nothing_but_its_own(web):
    page = web.get("/")
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    for part in ("default-src 'none'", "connect-src 'self'", "frame-ancestors 'none'",
                 "require-trusted-types-for 'script'"):  # fmt: skip
        assert part in policy
    made = headers("<style>a</style><script>b</script><script type='x'>c</script>")
    assert made["content-security-policy"].count("sha256-") == 3
