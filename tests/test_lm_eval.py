"""lm-evaluation-harness on a model in this process: scores, answers, and the prompt around them."""

from __future__ import annotations

import json
import sys
import warnings

import pytest

from tests.test_serve_scores import Oracle, write_bpe
from urial_local.assistant import load

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    lm_eval = pytest.importorskip("lm_eval")
    from tests.test_serve_lm_eval import CHOICES, check, evaluate, write_tasks
    from urial_local.harness import UrialLM

assert evaluate  # a fixture
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]


@pytest.fixture(scope="module", params=["demo", "bpe"])
def name(request, tmp_path_factory):
    if request.param == "demo":
        return "demo"
    return str(write_bpe(tmp_path_factory.mktemp("models") / "tiny-bpe.gguf"))


def test_log_likelihoods_are_those_of_float64(name, evaluate, tmp_path):
    lm, oracle = UrialLM(name, ctx_size=512, threads=1), Oracle(name, 512)
    results, seen = evaluate(lm, write_tasks(tmp_path)[:2])
    check(seen, oracle)
    assert len(seen) > sum(len(options) for _, options, _ in CHOICES)
    assert results["results"]["roll"]["word_perplexity,none"] > 1
    lm.close()
    oracle.close()


def test_answers_are_those_of_the_assistant(evaluate, tmp_path):
    """Under a prompt, as `ask` gives them, but for the task's own stops."""
    lm = UrialLM("demo", "urial-demo", exact=True, threads=1, disk_cache=False)
    results = lm_eval.simple_evaluate(
        model=lm, tasks=write_tasks(tmp_path)[2:], apply_chat_template=True, bootstrap_iters=0
    )
    with load("demo", prompt="urial-demo", threads=1, disk_cache=False) as assistant:
        for sample in results["samples"]["write"]:
            (said,) = sample["resps"][0]
            whole = assistant.complete(sample["doc"]["q"]).text
            assert said == whole.split("\n\n")[0].split("3.")[0]
    lm.close()


def test_choices_are_scored_where_an_answer_begins(evaluate, tmp_path):
    lm, oracle = UrialLM("demo", "urial-demo", ctx_size=1024, threads=1), Oracle("demo", 1024)
    noted = []
    ask = lm._loglikelihood_tokens

    def seen(requests, **more):
        replies = ask(requests, **more)
        noted.extend(zip(requests, replies, strict=True))
        return replies

    lm._loglikelihood_tokens = seen
    lm_eval.simple_evaluate(
        model=lm, tasks=write_tasks(tmp_path)[:1], apply_chat_template=True, bootstrap_iters=0
    )
    vocab, asker = lm.lm.vocab, lm.asker
    for ((context, answer), ids, following), _ in noted:
        question = next(q for q, _, _ in CHOICES if q in context)
        assert ids == asker.request(question).tokens, "the question in the prompt's frame"
        assert b"".join(map(vocab.piece, following)).decode().strip() == answer.strip()
    check([((texts, i, f), reply) for (texts, i, f), reply in noted], oracle)
    lm.close()
    oracle.close()


def test_a_conversation_is_laid_out_by_the_prompt():
    lm = UrialLM("demo", "urial-demo", threads=1)
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Where does an owl live?"},
        {"role": "assistant", "content": "In forests."},
        {"role": "user", "content": "What does it eat?"},
    ]
    text = lm.apply_chat_template(turns)
    assert text.endswith("# Query:\n```\nWhat does it eat?\n```\n\n# Answer:\n```\n")
    assert "Be brief.\n\nWhere does an owl live?" in text
    assert text.startswith(lm.asker.prompt.prefix())
    lm.close()


def test_the_command_runs_tasks_and_writes_results(tmp_path, monkeypatch):
    from click.testing import CliRunner

    from urial_local.cli import lm_eval as command

    for variable in ("HF_HOME", "HF_DATASETS_CACHE"):
        monkeypatch.setenv(variable, str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    (task,) = write_tasks(tmp_path)[:1]
    (tmp_path / "choose.yaml").write_text(json.dumps(task))  # JSON is YAML
    before = list(sys.argv)
    done = CliRunner().invoke(
        command.command,
        ["-m", "demo", "-p", "urial-demo", "--tasks", "choose", "--include_path", str(tmp_path),
         "--output_path", str(tmp_path / "results")],
    )  # fmt: skip
    assert done.exception is None, done.output
    assert sys.argv == before
    assert "choose" in done.output
    (results,) = (tmp_path / "results").rglob("results_*.json")
    said = json.loads(results.read_text())
    assert said["config"]["model"] == "urial"
    assert "acc,none" in said["results"]["choose"]
