"""Retrieval and restyling: what stands before a question changes with it."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sqlite3

import pytest

from tests.command import fails
from tests.generated_runs import QUESTIONS, rows_of, run
from urial_local.base.errors import UrialError, UsageError
from urial_local.base.files import remove_files
from urial_local.base.paths import pools_dir
from urial_local.records.runlog import latest_rows
from urial_local.tasks.generate.job import KEY
from urial_local.tasks.retrieve import Pool


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
    assert list(tmp_path.iterdir()) == [pool], "nothing is written beside it"
    (index,) = pools_dir().iterdir()
    made = index.stat().st_mtime_ns
    Pool(str(pool)).close()
    assert index.stat().st_mtime_ns == made, "an index that is current is used again"
    assert [p.stat().st_mode & 0o777 for p in (index, index.parent)] == [0o600, 0o700]
    pool.write_text(json.dumps({"query": "new", "answer": "yes"}))
    with Pool(str(pool)) as opened:
        assert opened.size == 1
    assert list(pools_dir().iterdir()) == [index]
    (tmp_path / "none.jsonl").write_text('{"query": "no answer"}\n')
    with pytest.raises(UsageError, match="holds no question with an answer"):
        Pool(str(tmp_path / "none.jsonl"))


def small_pool(path):
    pairs = [("How do I bake bread?", "With flour."), ("Where is a fox?", "In the wood.")]
    path.write_text("".join(json.dumps({"query": q, "answer": a}) + "\n" for q, a in pairs))
    return str(path)


def found(pool: str) -> list[str]:
    with Pool(pool) as opened:
        return [t.answer for t in opened.examples("Where does a fox live?", 1)]


LIES = (
    "DROP TABLE pool; CREATE VIEW pool AS WITH RECURSIVE n(query) AS (SELECT 1 UNION ALL SELECT"
    " query + 1 FROM n) SELECT query, query AS answer, query AS pool FROM n",  # without an end
    "DROP TABLE pool",
    "DROP TABLE about",
    "DROP TABLE about; CREATE TABLE about (digest TEXT, more TEXT)",
    "CREATE TRIGGER t AFTER INSERT ON about BEGIN DELETE FROM about; END",
    "UPDATE about SET digest = 'another'",
    "DELETE FROM about",
)


@pytest.mark.parametrize("lie", LIES)
def test_an_index_that_is_not_of_our_making_is_made_again(tmp_path, lie):
    pool = small_pool(tmp_path / "pool.jsonl")
    assert found(pool) == ["In the wood."]
    (index,) = pools_dir().iterdir()
    with contextlib.closing(sqlite3.connect(index)) as database:
        database.executescript(lie)
    index.chmod(0o600)
    assert found(pool) == ["In the wood."]
    assert list(pools_dir().iterdir()) == [index]


def test_an_index_of_others_is_not_believed(tmp_path):
    pool = small_pool(tmp_path / "pool.jsonl")
    found(pool)
    (index,) = pools_dir().iterdir()
    good = index.read_bytes()
    theirs = tmp_path / "pool.jsonl.bm25.sqlite"
    with contextlib.closing(sqlite3.connect(index)) as database:
        database.execute("UPDATE pool SET answer = 'Click here.'")
        database.commit()
    lying = index.read_bytes()
    theirs.write_bytes(lying)
    assert found(pool) == ["Click here."], "only we could have written there"
    index.chmod(0o666)
    assert found(pool) == ["In the wood."]
    for make in (
        lambda: index.symlink_to(theirs),
        lambda: os.mkfifo(index),
        lambda: index.write_bytes(b"SQLite format 3\0" + bytes(4000)),
        lambda: index.write_bytes(good[: len(good) // 2]),
        lambda: index.write_bytes(b""),
    ):
        index.unlink()
        make()
        assert found(pool) == ["In the wood."]
        assert index.is_file()
        assert not index.is_symlink()
    assert theirs.read_bytes() == lying


def test_a_damaged_index_is_a_sentence(tmp_path):
    pool = small_pool(tmp_path / "pool.jsonl")
    found(pool)
    (index,) = pools_dir().iterdir()
    with contextlib.closing(sqlite3.connect(index)) as database:
        database.execute("DELETE FROM pool_data")
        database.commit()
    with pytest.raises(UrialError, match="is damaged"):
        found(pool)
    assert remove_files(pools_dir(), "*.sqlite") > 0, "as `cache clear` does"
    assert found(pool) == ["In the wood."]


def test_a_cache_that_takes_nothing_only_costs_time(tmp_path, monkeypatch):
    pool = small_pool(tmp_path / "pool.jsonl")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, hard))  # as a disk that fills up
    try:
        assert found(pool) == ["In the wood."]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert list(pools_dir().iterdir()) == [], "nothing half-written is left"
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("URIAL_CACHE_DIR", str(tmp_path / "file"))
    assert found(pool) == ["In the wood."]


@pytest.mark.slow
def test_retrieval_by_embeddings(generated, tmp_path, monkeypatch):
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
        (kept,) = pools_dir().glob("*.vectors")
        good = kept.read_bytes()
        for bad in (b"", good[:-1], good + b"\0", b"0" * 64 + good[64:]):
            kept.write_bytes(bad)
            Pool(str(pool), embedder=embedder).close()
            assert kept.read_bytes() == good
        assert kept.stat().st_mode & 0o777 == 0o600
        monkeypatch.setattr(embedder, "embed", lambda text: pytest.fail("embedded again"))
        Pool(str(pool), embedder=embedder).close()
    args = ("--retrieve", str(pool), "--embedding-model", "demo", "--ids", "q0", "-np", "1")
    assert run(generated / "q.json", tmp_path / "run", *args, "-n", "30").returncode == 0


def test_retrieval_and_restyling_as_methods(generated, tmp_path):
    pool = tmp_path / "pool.jsonl"
    style = "Ahoy! A {} is in the sea, matey."
    pool.write_text(
        "".join(
            json.dumps({"query": f"Where can I find a {t}?", "answer": style.format(t)}) + "\n"
            for t in ("goose", "wolf", "deer", "bat")
        )
    )
    args = ("--ids", "q0,q1", "-np", "2", "-n", "40")
    done = run(generated / "q.json", tmp_path / "r", "--retrieve", str(pool), "--shots", "2", *args)
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
    done = run(generated / "q.json", tmp_path / "s", "--restyle", "zero-shot", *args)
    assert done.returncode == 0, done.stderr
    row = rows_of(tmp_path / "s")["q0", 0]
    assert row["draft"]
    assert row["query"] == QUESTIONS[0]
    said = fails(
        2, "generate", generated / "q.json", "-m", "demo", "-o", tmp_path / "x", "--restyle",
                 "raw", "--retrieve", pool)  # fmt: skip
    assert "choose one" in said
