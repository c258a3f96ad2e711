"""Retrieval and restyling: what stands before a question changes with it."""

from __future__ import annotations

import json

import pytest

from tests.test_cli import fails
from tests.test_generate import QUESTIONS, data, rows_of, run
from urial_local.base.errors import UsageError
from urial_local.records.runlog import latest_rows
from urial_local.tasks.generate.job import KEY
from urial_local.tasks.retrieve import Pool

__all__ = ["data"]  # a fixture


def test_retrieval_puts_the_nearest_examples_last(tmp_path):
    pool = tmp_path / "pool.jsonl"
    pairs = [
        ("Where does a wolf sleep?", "In a den."),
        ("How do I bake bread?", "With flour, water and patience."),
        ("How do I bake a cake with apples?", "With apples. " * 200),
        ("How do I bake an apple cake?", "Slice the apples."),
    ]
    pool.write_text("".join(json.dumps({"query": q, "answer": a}) + "\n" for q, a in pairs))
    with Pool(str(pool)) as opened:
        assert opened.size == 4
        found = opened.examples("A cake with apples, please!", 2)
        assert [t.query for t in found] == [pairs[3][0], pairs[2][0]]
        assert len(found[1].answer.split()) == 301, "long answers are cut at 300 words"
        assert found[1].answer.endswith(" …")
        own = opened.examples(pairs[3][0], 3)
        assert pairs[3][0] not in [t.query for t in own], "never the question itself"
        assert opened.examples("xyzzy", 3) == []
        assert opened.examples('"; DROP TABLE pool; -- NEAR(', 3) == []
    index = pool.with_name("pool.jsonl.bm25.sqlite")
    made = index.stat().st_mtime_ns
    Pool(str(pool)).close()
    assert index.stat().st_mtime_ns == made, "an index that is current is used again"
    pool.write_text(json.dumps({"query": "new", "answer": "yes"}))
    with Pool(str(pool)) as opened:
        assert opened.size == 1
    (tmp_path / "none.jsonl").write_text('{"query": "no answer"}\n')
    with pytest.raises(UsageError, match="holds no question with an answer"):
        Pool(str(tmp_path / "none.jsonl"))


def test_retrieval_by_embeddings(data, tmp_path, monkeypatch):
    """By the demo model's mean-pooled states: the nearest is found by a cosine of our own."""
    import numpy as np

    from urial_local.base.registry import find_model
    from urial_local.runtime.embeddings import Embedder

    pool = tmp_path / "pool.jsonl"
    things = ("goose", "wolf", "deer")
    texts = [f"Where can I find a {t}?" for t in things] + ["How do I make soup?"]
    pool.write_text("".join(json.dumps({"query": q, "answer": "yes"}) + "\n" for q in texts))
    with Embedder(find_model("demo").path) as embedder:
        vectors = np.array([embedder.embed(t) for t in texts])
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(4), rel=1e-5)
        asked = "How do I make bread?"
        order = np.argsort(-(vectors @ embedder.embed(asked)))
        with Pool(str(pool), embedder=embedder) as opened:
            found = [t.query for t in opened.examples(asked, 3)]
            assert found == [texts[i] for i in order[:3]][::-1]
            assert found[-1] == "How do I make soup?"
            assert texts[0] not in [t.query for t in opened.examples(texts[0], 3)]
        monkeypatch.setattr(embedder, "embed", lambda text: pytest.fail("embedded again"))
        Pool(str(pool), embedder=embedder).close()
    args = ("--retrieve", str(pool), "--embedding-model", "demo", "--ids", "q0", "-np", "1")
    assert run(data / "q.json", tmp_path / "run", *args, "-n", "30").returncode == 0


def test_retrieval_and_restyling_as_methods(data, tmp_path):
    pool = tmp_path / "pool.jsonl"
    style = "Ahoy! A {} is in the sea, matey."
    pool.write_text(
        "".join(
            json.dumps({"query": f"Where can I find a {t}?", "answer": style.format(t)}) + "\n"
            for t in ("goose", "wolf", "deer", "bat")
        )
    )
    args = ("--ids", "q0,q1", "-np", "2", "-n", "40")
    done = run(data / "q.json", tmp_path / "r", "--retrieve", str(pool), "--shots", "2", *args)
    assert done.returncode == 0, done.stderr
    rows = rows_of(tmp_path / "r")
    config = json.loads((tmp_path / "r" / "run.json").read_text())["config"]
    assert config["prompt"]["name"] == "system-only"
    assert len(config["retrieve"]) == 64
    assert rows["q0", 0]["prompt_tokens"] > 60
    # The examples change from row to row; what stands before them is decoded once.
    cached = {row["id"]: row["cached_tokens"] for row in latest_rows(tmp_path / "r", KEY)}
    assert cached["q0"] == 0
    assert 100 < cached["q1"] < rows["q1", 0]["prompt_tokens"]
    done = run(data / "q.json", tmp_path / "s", "--restyle", "zero-shot", *args)
    assert done.returncode == 0, done.stderr
    row = rows_of(tmp_path / "s")["q0", 0]
    assert row["draft"]
    assert row["query"] == QUESTIONS[0]
    said = fails(2, "generate", data / "q.json", "-m", "demo", "-o", tmp_path / "x", "--restyle",
                 "raw", "--retrieve", pool)  # fmt: skip
    assert "choose one" in said
