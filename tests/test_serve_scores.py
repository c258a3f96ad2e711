"""Log-probabilities of given tokens over HTTP: every entry there, in its place, and right, against
scores in float64 of the same ids in this process."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("starlette")

from tests.serving import Running, plan, running
from tests.tiny_gguf import write_llama
from urial_local.runtime.prompt_scores import PromptScorer
from urial_local.runtime.row_scores import score_rows_numpy
from urial_local.runtime.sequences import BatchToken, Sequences
from urial_local.tasks.model_file import model_file

ECHO = {"echo": True, "logprobs": 1, "temperature": 0}


class Oracle:
    """Scores in float64, each prompt decoded alone and from its start, in batches of the shape that
    a server that is `exact` takes: the shape changes a quantised model's logits by tenths."""

    def __init__(self, name: str, ctx_size: int = 1024) -> None:
        self.model = model_file(name).load()
        self._sequences = Sequences(
            self.model, cells=2 * ctx_size, n_seq=2, batch=min(512, ctx_size), threads=1,
            unified=False,
        )  # fmt: skip
        self._chunk = PromptScorer(self._sequences).chunk

    def close(self) -> None:
        self._sequences.close()
        self.model.close()

    def scores(self, ids: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """float64 [n-1] of each token but the first; bool [n-1]: is it the most probable?"""
        self._sequences.clear(0)
        scores, best = [], []
        for at in range(0, len(ids), self._chunk):
            end = at + self._chunk
            piece, targets = ids[at:end], np.array(ids[at + 1 : end + 1], np.int32)
            batch = [BatchToken(t, at + i, 0, True) for i, t in enumerate(piece)]
            logits = self._sequences.decode(batch)[: len(targets)]
            found = score_rows_numpy(logits, np.arange(len(targets), dtype=np.int32), targets)
            scores.append(found.logprob)
            best.append(logits.argmax(1) == targets)
        return np.concatenate(scores), np.concatenate(best)


def write_bpe(path):
    """A byte-pair vocabulary that wants no BOS, as GPT-2's and Qwen's."""
    return write_llama(path, byte_pairs=True, name="tiny-bpe")


@pytest.fixture(scope="module", params=["demo", "bpe"])
def served(request, tmp_path_factory):
    name = request.param
    if name == "bpe":
        name = str(write_bpe(tmp_path_factory.mktemp("models") / "tiny-bpe.gguf"))
    with running([plan(name)]) as server:
        oracle = Oracle(name)
        yield server, oracle
        oracle.close()


def texts() -> list[str]:
    return ["An owl lives in forests.", "x", "How do I make soup? the thin rain", "é🙂 naïve"]


def ask(server: Running, **asked) -> list[dict]:
    reply = server.post("/v1/completions", {**ECHO, **asked})
    assert reply.status_code == 200, reply.text
    return reply.json()["choices"]


def ids_of(server: Running, text: str) -> list[int]:
    return server.post("/tokenize", {"prompt": text}).json()["tokens"]


def known(served) -> list[str]:
    server, _ = served
    return [t for t in texts() if server.post("/tokenize", {"prompt": t}).status_code == 200]


def check(choice: dict, ids: list[int], oracle: Oracle, generated: int) -> None:
    told = choice["logprobs"]
    names = ("tokens", "token_logprobs", "top_logprobs", "text_offset", "bytes", "token_ids")
    assert {len(told[name]) for name in names} == {len(ids) + generated}
    assert told["token_ids"][: len(ids)] == ids
    assert told["token_logprobs"][0] is None
    assert told["top_logprobs"][0] is None
    scores, greedy = oracle.scores(ids + told["token_ids"][len(ids) :])
    assert told["token_logprobs"][1:] == pytest.approx(scores.tolist(), abs=1e-4)
    pairs = zip(told["token_logprobs"][1:], told["top_logprobs"][1:], strict=True)
    said = [value == max(top.values()) for value, top in pairs]
    assert said == greedy.tolist(), "the argmax has the identical number"
    if generated:
        assert said[-1], "the token that was added is the most probable one"


@pytest.mark.parametrize("most", [0, 1])
def test_every_token_is_scored(served, most):
    server, oracle = served
    prompts = [ids_of(server, text) for text in known(served)]
    for choice, ids in zip(ask(server, prompt=prompts, max_tokens=most), prompts, strict=True):
        check(choice, ids, oracle, most)
        assert choice["finish_reason"] in ("length", "stop")


def test_the_end_token_has_its_entry_too(served):
    """Clients take off the last entry: were it missing, the last token's score would be lost."""
    server, _ = served
    ended = 0
    for first in range(3, 400):
        choice = ask(server, prompt=[[first]], max_tokens=1)[0]
        assert len(choice["logprobs"]["tokens"]) == 2
        if choice["urial"]["finish_reason"] == "eos":
            assert choice["finish_reason"] == "stop"
            assert choice["urial"]["end_token"] == choice["logprobs"]["token_ids"][1]
            ended += 1
            if ended == 2:
                break
    if not ended:
        pytest.skip("no token of this model is followed by its end")


def test_longer_answers_follow_the_scores(served):
    server, oracle = served
    ids = ids_of(server, "An owl lives")
    (choice,) = ask(server, prompt=[ids], max_tokens=5, logprobs=5)
    check(choice, ids, oracle, len(choice["logprobs"]["tokens"]) - len(ids))
    (plain,) = ask(server, prompt=[ids], max_tokens=5, logprobs=None)
    assert plain["text"] == choice["text"]
    assert plain["logprobs"] is None


def test_offsets_and_bytes_are_exact(served):
    server, _ = served
    for text in known(served):
        (choice,) = ask(server, prompt=text, max_tokens=0)
        told = choice["logprobs"]
        assert choice["text"] == text
        whole = b"".join(bytes(b) for b in told["bytes"])
        assert whole.decode().removeprefix(" ") == text
        offsets = [*told["text_offset"], len(text)]
        assert offsets == sorted(offsets)
        for token, at, end in zip(told["tokens"], offsets, offsets[1:], strict=False):
            if not token.startswith(("bytes:", "<")) and end > at:
                assert text[at:end] == token.removeprefix(" ") or text[at:end] == token
        # Characters that span tokens: their tokens are written as bytes, each of its own.
        split = [t for t in told["tokens"] if t.startswith("bytes:")]
        assert bool(split) == ("🙂" in text)
        assert "\ufffd" not in "".join(told["tokens"])


def test_a_second_time_is_the_same_bit_for_bit(served):
    server, _ = served
    before = server.metric("urial_scored_tokens_total")
    first = ask(server, prompt="An owl lives in the tall forest.", max_tokens=1)
    between = server.metric("urial_scored_tokens_total")
    again = ask(server, prompt="An owl lives in the tall forest.", max_tokens=1)
    assert again[0]["logprobs"] == first[0]["logprobs"]
    assert between > before
    assert server.metric("urial_scored_tokens_total") == between, "nothing was decoded again"


def test_a_shared_context_is_scored_once(served):
    server, oracle = served
    context = ids_of(server, "How do I make soup? " * 6)
    ends = [[9], [10, 11], [12], [9, 13, 14]]
    before = server.metric("urial_scored_tokens_total")
    prompts = [context + end for end in ends]
    for choice, ids in zip(ask(server, prompt=prompts, max_tokens=1), prompts, strict=True):
        check(choice, ids, oracle, 1)
    decoded = server.metric("urial_scored_tokens_total") - before
    assert decoded <= len(context) + sum(map(len, ends)) + len(ends)


def test_a_sampled_continuation_and_several_of_them(served):
    server, oracle = served
    ids = ids_of(server, "An owl")
    choices = ask(server, prompt=[ids], max_tokens=4, n=3, temperature=1.0, seed=3)
    for choice in choices:
        told = choice["logprobs"]
        scores, _ = oracle.scores(told["token_ids"])
        assert told["token_logprobs"][1:] == pytest.approx(scores.tolist(), abs=1e-3)


def test_names_as_ids_and_no_logprobs_at_all(served):
    server, _ = served
    (choice,) = ask(server, prompt=[[5, 6]], max_tokens=1, return_tokens_as_token_ids=True)
    assert choice["logprobs"]["tokens"][:2] == ["token_id:5", "token_id:6"]
    (choice,) = ask(server, prompt=[[5, 6]], max_tokens=0, logprobs=0)
    assert [t and len(t) for t in choice["logprobs"]["top_logprobs"]] == [None, 1]
    (choice,) = ask(server, prompt="x", max_tokens=0, logprobs=None, echo=False)
    assert (choice["text"], choice["logprobs"]) == ("", None)


def test_what_cannot_be_scored(served):
    server, oracle = served
    size, ctx = oracle.model.vocab.size, next(iter(server.state.worker.lanes.values())).ctx_size
    for prompt, said in (
        ([[5, size]], "this vocabulary has"),
        ([[]], "empty"),
        ([5] * (ctx + 1), f"{ctx + 1:,}"),
        ([[5], "x", 3], "prompt must be"),
        ([[5, -1]], "whole numbers"),
    ):
        reply = server.post("/v1/completions", {**ECHO, "prompt": prompt, "max_tokens": 0})
        assert reply.status_code == 400, reply.text
        assert said in reply.json()["error"]["message"]
        assert reply.json()["error"]["param"] == "prompt"
    (choice,) = ask(server, prompt=[[5] * ctx], max_tokens=0)
    assert len(choice["logprobs"]["tokens"]) == ctx


def test_text_and_ids_and_back(served):
    server, oracle = served
    vocab = oracle.model.vocab
    for text in known(served):
        ids = server.post("/tokenize", {"prompt": text, "add_special_tokens": False}).json()
        with_bos = server.post("/tokenize", {"prompt": text}).json()["tokens"]
        assert with_bos == ([vocab.bos] if vocab.add_bos else []) + ids["tokens"]
        assert server.post("/tokenize", {"content": text}).json()["tokens"] == ids["tokens"]
        back = server.post("/detokenize", {"tokens": ids["tokens"]}).json()
        assert back["prompt"].removeprefix(" ") == text
        assert back["content"] == back["prompt"]
    info = server.get("/tokenizer_info").json()
    eos = server.post(
        "/tokenize", {"prompt": info["eos_token"], "add_special_tokens": False}
    ).json()["tokens"]
    assert eos == [vocab.eos]
    assert server.post("/detokenize", {"tokens": eos}).json()["prompt"] == info["eos_token"]
    long = server.post("/tokenize", {"prompt": "thin rain " * 5000, "add_special_tokens": False})
    assert len(long.json()["tokens"]) > 5000, "documents are longer than a context"
