"""Who may ask, and how much: hosts, origins, keys, sizes; and that no word of it is kept."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("starlette")

from tests.fakes import random_logits
from tests.mutations import ROUNDS
from tests.serving import GatedDecoder, client, fake_lane
from urial_local.base.errors import UsageError
from urial_local.server.settings import MAX_BODY, ServeSettings, read_key

KEY = "sk-local-0123456789"
ASKED = {"prompt": [65, 66], "max_tokens": 2}
COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"


def fakes():
    return fake_lane(GatedDecoder(random_logits(), n_seq=6, cells=1600))


@pytest.fixture(scope="module")
def plain():
    with client(fakes) as opened:
        yield opened


@pytest.fixture(scope="module")
def keyed():
    with client(fakes, key=KEY, allow_origins=("https://app.example.org",)) as opened:
        yield opened


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200), ("localhost:8080", 200), ("127.0.0.1:99", 200), ("[::1]:8080", 200),
        ("evil.test", 400), ("localhost.evil.test", 400), ("127.0.0.1.evil.test", 400), ("", 400),
    ],
)  # fmt: skip
def test_only_names_of_this_machine_are_answered(plain, host, status):
    assert plain.get("/health", headers={"host": host}).status_code == status
    assert plain.post(COMPLETIONS, json=ASKED, headers={"host": host}).status_code == status


@pytest.mark.parametrize("kind", ["application/json", "text/plain"])
@pytest.mark.parametrize("origin", ["https://evil.test", "null", "http://localhost:1", "http://["])
def test_pages_of_other_sites_are_refused(plain, origin, kind):
    heads = {"origin": origin, "content-type": kind}
    refused = plain.post(COMPLETIONS, content=json.dumps(ASKED), headers=heads)
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "foreign_origin"
    assert not [name for name in refused.headers if name.startswith("access-control")]


def test_our_own_page_and_programs_are_let_in(plain):
    own = plain.post(COMPLETIONS, json=ASKED, headers={"origin": "http://localhost"})
    assert own.status_code == 200
    assert plain.post(COMPLETIONS, json=ASKED).status_code == 200
    assert not [name for name in own.headers if name.startswith("access-control")]


def test_an_origin_that_was_allowed(keyed):
    heads = {"origin": "https://app.example.org", "authorization": f"Bearer {KEY}"}
    let_in = keyed.post(COMPLETIONS, json=ASKED, headers=heads)
    assert let_in.status_code == 200
    assert let_in.headers["access-control-allow-origin"] == "https://app.example.org"
    assert "access-control-allow-credentials" not in let_in.headers
    asked = {**heads, "access-control-request-method": "POST",
             "access-control-request-headers": "authorization,content-type"}  # fmt: skip
    del asked["authorization"]  # browsers send none with the question whether they may
    assert keyed.options(COMPLETIONS, headers=asked).status_code == 200
    foreign = {**asked, "origin": "https://evil.test"}
    assert keyed.options(COMPLETIONS, headers=foreign).status_code == 400


@pytest.mark.parametrize("given", ["", "Bearer ", "Bearer x", f"Bearer {KEY}x", f"Basic {KEY}", KEY,
                                   "Bearer \u00e9"])  # fmt: skip
def test_the_key(keyed, plain, given):
    heads = {"authorization": given.encode("latin-1")} if given else {}
    for path in ("/v1/models", "/metrics", "/tokenizer_info", "/api/info"):
        refused = keyed.get(path, headers=heads)
        assert refused.status_code == 401, path
        assert refused.headers["www-authenticate"] == "Bearer"
    assert keyed.post(COMPLETIONS, json=ASKED, headers=heads).status_code == 401
    assert keyed.get("/health", headers=heads).status_code == 200
    assert keyed.get("/", headers=heads).status_code == 200
    assert plain.post(COMPLETIONS, json=ASKED, headers=heads).status_code == 200, "none is set"
    right = {"authorization": f"bearer {KEY}"}
    assert keyed.post(COMPLETIONS, json=ASKED, headers=right).status_code == 200


def test_other_addresses_need_a_key(tmp_path):
    for host in ("0.0.0.0", "::", "192.168.1.5", "example.org"):
        with pytest.raises(UsageError, match="key"):
            ServeSettings(host=host)
        assert ServeSettings(host=host, key=KEY).host == host
    assert KEY not in repr(ServeSettings(key=KEY))
    with pytest.raises(UsageError, match="exact"):
        ServeSettings(allow_origins=("*",))
    (tmp_path / "key").write_text(f"{KEY}\n")
    assert read_key(tmp_path / "key") == KEY
    for wrong in ("", "two words", "\u00e9"):
        (tmp_path / "key").write_text(wrong)
        with pytest.raises(UsageError, match="does not hold a key"):
            read_key(tmp_path / "key")


def test_a_body_has_a_limit(plain):
    big = b'{"prompt": "' + b"x" * MAX_BODY + b'"}'
    said = plain.post(COMPLETIONS, content=big)
    assert said.status_code == 413

    def pieces():
        yield from (b"x" * (1 << 20) for _ in range(17))

    said = plain.post(COMPLETIONS, content=pieces())  # whose length nobody has said before
    assert (said.status_code, said.json()["error"]["message"]) == (
        413,
        "The body has more than 16 MB.",
    )
    assert plain.post(COMPLETIONS, json=ASKED).status_code == 200


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "JSON"), (b"[1]", "object"), (b"{", "JSON"), (b"[" * 100_000, "JSON"),
        (b"\xff", "JSON"),
        (b'{"prompt": [65], "temperature": NaN}', "JSON"),
        (b'{"prompt": [65], "temperature": Infinity}', "JSON"),
        (b'{"prompt": [65], "temperature": 1e308}', "temperature"),
        (b'{"prompt": [65], "temperature": 1e999}', "temperature"),
        (b'{"prompt": [65], "temperature": "hot"}', "temperature"),
        (b'{"prompt": [65], "n": 1000000}', "n must"),
        (b'{"prompt": [65], "n": true}', "n must"),
        (b'{"prompt": [65], "max_tokens": -2}', "max_tokens"),
        (b'{"prompt": [65], "max_tokens": 1e300}', "max_tokens"),
        (b'{"prompt": [65], "seed": ' + b"9" * 5000 + b"}", "JSON"),
        (b'{"prompt": [65], "logprobs": 21}', "logprobs"),
        (b'{"prompt": [65], "top_k": 1.5}', "top_k"),
        (b'{"prompt": [65], "min_p": 2}', "min_p"),
        (b'{"prompt": [65], "suffix": "x"}', "suffix"),
        (b'{"prompt": [65], "best_of": 2}', "best_of"),
        (b'{"prompt": [65], "stop": [1]}', "stop"),
        (b'{"prompt": [65], "stream": 1}', "stream"),
        (b'{"prompt": [65], "urial": []}', "urial"),
        (b'{"prompt": null}', "prompt"), (b'{"prompt": []}', "prompt"),
        (b'{"prompt": {}}', "prompt"),
        (b'{"prompt": [[65], [true]]}', "prompt"), (b'{"prompt": ""}', "prompt"),
        (b'{"prompt": [' + b"[65]," * 1024 + b"[65]]}", "1,024"),
        (b'{"prompt": [' + b"[65]," * 999 + b'[65]], "n": 32}', "4,096"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_an_error_that_says_so(plain, body, said):
    reply = plain.post(COMPLETIONS, content=body)
    assert reply.status_code == 400, reply.text
    error = reply.json()["error"]
    assert said in error["message"]
    assert set(error) == {"message", "type", "param", "code"}
    assert reply.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        (None, "messages"), ([], "messages"), ("x", "messages"), (["x"], "messages[0]"),
        ([{"role": "tool", "content": "x"}], "messages[0].role"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "messages[0].content"),
        ([{"role": "assistant", "content": "x"}], "messages[0]"),
        ([{"role": "system", "content": "x"}], "messages"),
        ([{"role": "user", "content": "x"}, {"role": "assistant", "content": "",
          "tool_calls": [1]}], "messages[1].tool_calls"),
    ],
)  # fmt: skip
def test_messages_that_are_no_conversation(plain, messages, param):
    reply = plain.post(CHAT, json={"messages": messages})
    assert reply.status_code == 400, reply.text
    assert reply.json()["error"]["param"] == param


def test_parts_and_neighbours_are_joined(plain):
    parts = [{"type": "text", "text": "ab"}, {"type": "text", "text": "c"}]
    talk = [{"role": "user", "content": parts}, {"role": "user", "content": "d"}]
    told = plain.post("/api/render", json={"messages": talk}).json()
    assert told["text"] == "abc\n\nd"


def test_unknown_addresses_and_methods(plain):
    for path, status in (("/v1/embeddings", 404), ("/nowhere", 404)):
        assert plain.post(path, json={}).status_code == status
    assert plain.get(COMPLETIONS).status_code == 405
    assert plain.get("/nowhere").json()["error"]["message"]


def test_nothing_of_a_request_is_written_down(keyed, caplog, capfd):
    heads = {"authorization": f"Bearer {KEY}"}
    secret = "xyzzy-plugh"
    keyed.post(CHAT, json={"messages": [{"role": "user", "content": secret}]}, headers=heads)
    keyed.post(COMPLETIONS, json={"prompt": secret, "temperature": "x"}, headers=heads)
    keyed.post(COMPLETIONS, json={"prompt": secret, "model": secret}, headers=heads)
    metrics = keyed.get("/metrics", headers=heads).text
    said = caplog.text + metrics + "".join(capfd.readouterr())
    assert secret not in said
    assert KEY not in said
    assert "urial_requests_rejected_total" in metrics


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
FIELDS = [
    "model",
    "prompt",
    "messages",
    "max_tokens",
    "max_completion_tokens",
    "n",
    "stop",
    "seed",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "logprobs",
    "top_logprobs",
    "echo",
    "stream",
    "stream_options",
    "best_of",
    "repetition_penalty",
    "repeat_penalty",
    "urial",
    "prefill_ids",
    "continue_final_message",
    "tools",
    "logit_bias",
    "user",
    "return_tokens_as_token_ids",
]
message = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant"]), "content": st.text(max_size=5)}
)
sensible = {
    "prompt": st.lists(st.integers(0, 127), min_size=1, max_size=30),
    "messages": st.lists(message, max_size=4),
    "max_tokens": st.integers(0, 12),
    "n": st.integers(1, 4),
    "logprobs": st.integers(0, 20) | st.booleans(),
    "echo": st.booleans(),
    "temperature": st.floats(0, 3),
    "top_p": st.floats(0, 1),
    "stream": st.booleans(),
}


PATHS = [COMPLETIONS, CHAT, "/tokenize", "/detokenize", "/api/top", "/api/render", "/api/save"]


@pytest.mark.fuzz
@settings(max_examples=ROUNDS, suppress_health_check=list(HealthCheck), deadline=None)
@given(
    path=st.sampled_from(PATHS),
    body=st.fixed_dictionaries({}, optional={n: sensible.get(n, json_values) for n in FIELDS}),
    wild=st.dictionaries(st.sampled_from([*FIELDS, "tokens", "ids", "position", "content"]),
                         json_values, max_size=2),
)  # fmt: skip
def test_no_parameters_make_it_fail(plain, path, body, wild):
    reply = plain.post(path, content=json.dumps({**body, **wild}))
    assert reply.status_code < 500, reply.text
    if reply.status_code == 200 and not reply.headers["content-type"].startswith("text/event"):
        reply.json()


def test_half_a_request_holds_up_nobody(plain, monkeypatch):
    monkeypatch.setattr("urial_local.server.body.SLOWEST", 0.05)

    async def receive():
        await asyncio.sleep(60)

    said = []

    async def send(message):
        said.append(message)

    heads = [(b"host", b"localhost"), (b"content-length", b"100")]
    scope = {"type": "http", "method": "POST", "path": COMPLETIONS, "headers": heads,
             "query_string": b"", "scheme": "http", "server": ("localhost", 80)}  # fmt: skip
    asyncio.run(plain.app(scope, receive, send))
    assert said[0]["status"] == 408
    assert plain.app.state.urial.open == 0
