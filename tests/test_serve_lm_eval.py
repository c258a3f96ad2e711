"""lm-evaluation-harness, unmodified, against a whole server: its own classes, on small task files,
each log-likelihood held against scores in float64 of the same ids."""

from __future__ import annotations

import json
import warnings

import pytest

pytest.importorskip("starlette")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    lm_eval = pytest.importorskip("lm_eval")
    from lm_eval.models.openai_completions import LocalChatCompletion, LocalCompletionsAPI

from tests.serving import Running, plan, running
from tests.test_serve_scores import Oracle, write_bpe

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]

CHOICES = [
    ("Question: Where does an owl live?\nAnswer:", [" forests", " in the dens", " soup"], 0),
    ("Question: What does a fox eat?\nAnswer:", [" rabbits", " mice and men", " the thin rain"], 0),
    ("Question: Is it so?\nAnswer:", [" yes", " no"], 1),
]
TEXTS = [
    "An owl lives in forests. It eats mice.",
    "The thin rain fell over the forests where the owl lives, and the fox hid in its dens. " * 36,
]


def write_tasks(folder) -> list[dict]:
    def dataset(name: str, rows: list[dict]) -> dict:
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(path)}},
            "test_split": "test",
        }

    return [
        {
            **dataset("choose", [{"q": q, "options": o, "gold": g} for q, o, g in CHOICES]),
            "output_type": "multiple_choice",
            "doc_to_text": "{{q}}",
            "doc_to_choice": "{{options}}",
            "doc_to_target": "gold",
            "target_delimiter": "",
        },
        {
            **dataset("roll", [{"text": text} for text in TEXTS]),
            "output_type": "loglikelihood_rolling",
            "doc_to_text": "",
            "doc_to_target": "{{text}}",
            "metric_list": [{"metric": "word_perplexity"}],
        },
        {
            **dataset("write", [{"q": q} for q in ("How do I make soup?", "Where is a fox?")]),
            "output_type": "generate_until",
            "doc_to_text": "{{q}}",
            "doc_to_target": "{{q}}",
            "generation_kwargs": {"until": ["\n\n", "3."], "max_gen_toks": 40},
            "metric_list": [{"metric": "exact_match"}],
        },
    ]


@pytest.fixture
def evaluate(tmp_path, monkeypatch):
    """Runs the tasks; returns the results, and each request for a log-likelihood with its reply."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")

    def run(lm, tasks: list[dict]):
        seen = []
        ask = getattr(lm, "_loglikelihood_tokens", None)

        def noted(requests, **more):
            replies = ask(requests, **more)
            seen.extend(zip(requests, replies, strict=True))
            return replies

        lm._loglikelihood_tokens = noted
        return lm_eval.simple_evaluate(model=lm, tasks=tasks, bootstrap_iters=0), seen

    return run


def completions(server: Running, **more) -> LocalCompletionsAPI:
    """As `lm_eval --model local-completions` makes it: the tokenizer comes from the server."""
    settings = {"model": "served", "max_length": 512, "num_concurrent": 2, **more}
    settings["model"] = next(iter(server.state.worker.lanes))
    return LocalCompletionsAPI(base_url=f"{server.url}/v1/completions", **settings)


REAL = pytest.param("real", marks=pytest.mark.real)


@pytest.fixture(scope="module", params=["demo", "bpe", REAL])
def served(request, tmp_path_factory):
    name = request.param
    if name == "bpe":
        name = str(write_bpe(tmp_path_factory.mktemp("models") / "tiny-bpe.gguf"))
    elif name == "real":
        name = str(request.getfixturevalue("real_base"))
    # A quantised model's scores hang on the shape of batches, unless that is always the same.
    with running([plan(name, ctx_size=512, exact=request.param == "real")]) as server:
        oracle = Oracle(name, 512)
        yield server, oracle
        oracle.close()


def check(seen, oracle: Oracle) -> None:
    for (_, context, continuation), (total, greedy) in seen:
        ids = [*context, *continuation][-512:]
        scores, best = oracle.scores(ids)
        n = len(continuation)
        assert total == pytest.approx(scores[-n:].sum(), abs=1e-4 * n)
        assert greedy == best[-n:].all()


@pytest.mark.parametrize("batch_size", [1, 4])
def test_log_likelihoods_are_those_of_float64(served, evaluate, tmp_path, batch_size):
    server, oracle = served
    lm = completions(server, batch_size=batch_size)
    assert lm.tokenizer_backend == "remote", "it found the server's tokenizer"
    results, seen = evaluate(lm, write_tasks(tmp_path)[:2])
    assert len(seen) >= sum(len(o) for _, o, _ in CHOICES) + len(TEXTS) + 1, "several windows"
    check(seen, oracle)
    assert results["results"]["choose"]["acc,none"] >= 0
    assert results["results"]["roll"]["word_perplexity,none"] > 1


def test_texts_give_the_same_as_ids(served, evaluate, tmp_path):
    server, oracle = served
    tasks = write_tasks(tmp_path)[:1]
    _, by_ids = evaluate(completions(server), tasks)
    assert {r[0][0]: r[1] for r in by_ids}
    check(by_ids, oracle)


def test_generation_stops_where_the_task_says(served, evaluate, tmp_path):
    server, _ = served
    results, _ = evaluate(completions(server, batch_size=2), write_tasks(tmp_path)[2:])
    for sample in results["samples"]["write"]:
        (said,) = sample["resps"][0]
        assert "\n\n" not in said
        assert "3." not in said
        text = {"prompt": sample["doc"]["q"], "add_special_tokens": False}
        ids = server.post("/tokenize", text).json()["tokens"]
        asked = {"prompt": ids, "max_tokens": 40, "stop": ["\n\n", "3."]}
        alone = server.post("/v1/completions", asked).json()["choices"][0]
        assert said == alone["text"]


def test_chat_completions_go_through_the_prompt(evaluate, tmp_path):
    with running([plan("demo")]) as server:
        lm = LocalChatCompletion(  # as `lm_eval --model local-chat-completions` makes it
            base_url=f"{server.url}/v1/chat/completions", model="demo", num_concurrent=2
        )
        tasks = write_tasks(tmp_path)[2:]
        results = lm_eval.simple_evaluate(model=lm, tasks=tasks, apply_chat_template=True)
        said = [sample["resps"][0][0] for sample in results["samples"]["write"]]
        assert said[0].startswith("Thanks for asking! Here is how to make soup:")
