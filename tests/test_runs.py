"""Run folders and datasets: whole rows survive, other configurations are refused."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import time

import pytest

from urial_local.base.errors import RunError, UsageError
from urial_local.records.datasets import read_items
from urial_local.records.merge import merge_runs
from urial_local.records.runlog import RunLog, cut_torn_tail, latest_rows, read_rows, read_run

KEY = ("id",)
CONFIG = {"task": "x", "model": {"sha": "m", "name": "a"}, "contexts": ["a", "b"]}


def rows(folder):
    return list(latest_rows(folder, KEY))


# --- run folders ---------------------------------------------------------------------------------


def test_a_run_goes_on_where_it_stopped(tmp_path):
    with RunLog(tmp_path / "run", CONFIG, KEY) as log:
        log.append({"id": "1", "text": "ä🙂\n"})
    with RunLog(tmp_path / "run", CONFIG, KEY) as log:
        assert log.has("1")
        assert not log.has("2")
        log.append({"id": "2", "text": ""})
    assert rows(tmp_path / "run") == [{"id": "1", "text": "ä🙂\n"}, {"id": "2", "text": ""}]
    assert len(read_run(tmp_path / "run")["sessions"]) == 2


def test_error_rows_are_tried_again_and_the_last_row_counts(tmp_path):
    with RunLog(tmp_path, CONFIG, KEY) as log:
        log.append({"id": "1", "error": "too long"})
        log.append({"id": "2"})
        assert log.count_errors() == 1
    with RunLog(tmp_path, CONFIG, KEY) as log:
        assert not log.has("1")
        log.append({"id": "1", "error": "too long"})  # the same again: not written twice
        assert len(list(read_rows(log.rows_path))) == 2
        log.append({"id": "1", "text": "well"})
        assert log.has("1")
    assert rows(tmp_path) == [{"id": "2"}, {"id": "1", "text": "well"}]


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_torn_tail_is_cut_and_kept_aside(tmp_path, cut):
    path = tmp_path / "rows.jsonl"
    whole = [json.dumps({"id": str(i), "text": "x" * 100}) for i in range(3)]
    data = "\n".join(whole).encode()[:-cut]
    path.write_bytes(data)
    cut_torn_tail(path)
    assert [r["id"] for r in read_rows(path)] == ["0", "1"]
    assert path.with_suffix(".torn").read_bytes() == whole[2].encode()[:-cut] + b"\n"
    cut_torn_tail(path)
    assert path.read_bytes() == ("\n".join(whole[:2]) + "\n").encode()


def test_a_damaged_line_is_named(tmp_path):
    with RunLog(tmp_path, CONFIG, KEY) as log:
        log.append({"id": "1"})
    path = tmp_path / "rows.jsonl"
    path.write_bytes(path.read_bytes() + b"{broken\n" + b'{"id":"2"}\n')
    with pytest.raises(RunError, match=r"Line 2 of .* is not a row"):
        RunLog(tmp_path, CONFIG, KEY)


def test_another_configuration_is_refused_with_the_difference(tmp_path):
    RunLog(tmp_path, CONFIG, KEY).close()
    other = {**CONFIG, "model": {"sha": "n", "name": "b"}, "contexts": ["a"]}
    with pytest.raises(UsageError, match="another configuration") as caught:
        RunLog(tmp_path, other, KEY)
    assert 'contexts[1]: "b" there, (none) now' in caught.value.hint
    assert 'model.sha: "m" there, "n" now' in caught.value.hint
    assert "model.name" not in caught.value.hint, "a file may have another name elsewhere"
    RunLog(tmp_path, CONFIG, KEY).close()  # and the lock was given back


def test_two_processes_do_not_write_one_run(tmp_path):
    code = (
        "import time\nfrom pathlib import Path\nfrom urial_local.records.runlog import RunLog\n"
        f"with RunLog(Path({str(tmp_path)!r}), {CONFIG!r}, ('id',)) as log:\n"
        "    print('open', flush=True)\n    time.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"open\n"
        with pytest.raises(RunError, match=f"Another process is writing.*process {child.pid}"):
            RunLog(tmp_path, CONFIG, KEY)
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    RunLog(tmp_path, CONFIG, KEY).close()  # a killed process holds no lock


def test_a_full_disk_leaves_whole_rows(tmp_path):
    with RunLog(tmp_path, CONFIG, KEY) as log:
        log.append({"id": "1", "text": "x" * 100})
        size = log.rows_path.stat().st_size
        old = resource.getrlimit(resource.RLIMIT_FSIZE)
        ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, old[1]))
        try:
            with pytest.raises(RunError, match="could not be written") as caught:
                log.append({"id": "2", "text": "y" * 100})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, old)
            signal.signal(signal.SIGXFSZ, ignored)
        assert "1 rows before it are safe" in caught.value.hint
        assert log.rows_path.stat().st_size == size
        log.append({"id": "2", "text": "y" * 100})
    assert [r["id"] for r in rows(tmp_path)] == ["1", "2"]


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"id": 1}\n')
    with pytest.raises(UsageError, match=r"no run\.json"):
        RunLog(tmp_path, CONFIG, KEY)
    (tmp_path / "run.json").write_text('{"format": 99, "config": {}}')
    with pytest.raises(UsageError, match="format 99"):
        RunLog(tmp_path, CONFIG, KEY)
    (tmp_path / "run.json").write_text("[1]")
    with pytest.raises(UsageError, match="not the description of a run"):
        read_run(tmp_path)
    with pytest.raises(UsageError, match="is not a run"):
        read_run(tmp_path / "nowhere")


def test_a_read_only_place_is_an_error_of_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        RunLog(tmp_path / "file" / "run", CONFIG, KEY)


def test_killed_at_any_moment_every_line_is_whole(tmp_path):
    code = (
        "from pathlib import Path\nfrom urial_local.records.runlog import RunLog\n"
        f"with RunLog(Path({str(tmp_path)!r}), {CONFIG!r}, ('id',)) as log:\n"
        "    print('open', flush=True)\n"
        "    for i in range(10**6):\n"
        "        if not log.has(str(i)): log.append({'id': str(i), 'text': 'x' * 5000})\n"
    )
    for pause in (0.0, 0.003, 0.01, 0.02):
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(pause)
        child.kill()
        child.wait()
        child.stdout.close()
    RunLog(tmp_path, CONFIG, KEY).close()
    ids = [int(r["id"]) for r in rows(tmp_path)]
    assert ids == list(range(len(ids)))
    assert len(ids) > 0


# --- merging -------------------------------------------------------------------------------------


def shard(folder, name, ids, **more):
    with RunLog(folder, {**CONFIG, "shard": name}, KEY) as log:
        for i in ids:
            log.append({"id": i, "answer_ids": [1, 2], **more})


def test_shards_merge_and_missing_ones_are_named(tmp_path):
    shard(tmp_path / "a", "1/3", ["1", "2"])
    shard(tmp_path / "b", "3/3", ["3"])
    merged = merge_runs(tmp_path / "m", [tmp_path / "a", tmp_path / "b"], KEY)
    assert (merged.rows, merged.missing_shards) == (3, ("2/3",))
    shard(tmp_path / "c", "2/3", ["4"])
    merged = merge_runs(tmp_path / "m", [tmp_path / n for n in "abc"], KEY)
    assert (merged.rows, merged.missing_shards) == (4, ())
    assert sorted(r["id"] for r in rows(tmp_path / "m")) == ["1", "2", "3", "4"]


def test_runs_that_differ_are_not_merged(tmp_path):
    shard(tmp_path / "a", "1/2", ["1"])
    with RunLog(tmp_path / "b", {**CONFIG, "task": "y", "shard": "2/2"}, KEY):
        pass
    with pytest.raises(UsageError, match="another configuration"):
        merge_runs(tmp_path / "m", [tmp_path / "a", tmp_path / "b"], KEY)
    with RunLog(tmp_path / "c", {**CONFIG, "shard": "2/2"}, KEY) as log:
        log.append({"id": "1", "answer_ids": [9]})
    with pytest.raises(UsageError, match="differs"):
        merge_runs(tmp_path / "m", [tmp_path / "a", tmp_path / "c"], KEY)


# --- datasets ------------------------------------------------------------------------------------


def write(path, text):
    path.write_text(text, "utf-8")
    return path


def test_formats(tmp_path):
    table = [
        ("q.txt", "one\n\ntwo\r\n", ["one", "two"]),
        ("q.json", '[{"instruction": "one"}, {"query": "two"}]', ["one", "two"]),
        ("q.jsonl", '{"question": "one"}\n{"prompt": "two"}\n', ["one", "two"]),
        ("q.csv", 'id,question\n7,"one, and\nmore"\n8,two\n', ["one, and\nmore", "two"]),
        ("q.tsv", "id\tquery\n1\tone\n", ["one"]),
        ("mt.jsonl", '{"question_id": 81, "turns": ["one", "then"]}\n', ["one"]),
        ("lima.json", '[{"conversations": ["one", "answer"]}]', ["one"]),
        ("chat.json", '[{"conversations": [{"from": "human", "value": "one"}]}]', ["one"]),
        ("alpaca.json", '[{"instruction": "add", "input": "1 2", "output": "3"}]', ["add\n\n1 2"]),
    ]
    for name, text, queries in table:
        assert [i.query for i in read_items(write(tmp_path / name, text))] == queries, name
    assert [i.id for i in read_items(tmp_path / "q.csv")] == ["7", "8"]
    assert read_items(tmp_path / "alpaca.json")[0].answer == "3"
    assert read_items(tmp_path / "mt.jsonl")[0].id == "81"
    assert read_items(tmp_path / "mt.jsonl")[0].later == ("then",)
    assert read_items(tmp_path / "lima.json")[0].answer == "answer"


def test_tags_and_given_answers(tmp_path):
    text = '[{"id": 3, "instruction": "q", "output": ["a"], "task": ["x", "y"], "category": "c"}]'
    (item,) = read_items(write(tmp_path / "q.json", text))
    assert (item.id, item.answer) == ("3", "a")
    assert item.tags == {"category": ("c",), "task": ("x", "y")}


def test_a_bad_row_does_not_stop_the_others(tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_bytes(b'{"query": "one"}\n{oops\n{"other": 1}\n\xff\xfe\n{"query": "two"}\n')
    items = read_items(path)
    assert [i.query for i in items] == ["one", "", "", "", "two"]
    assert "Line 2 is not JSON" in items[1].error
    assert "no text in query or" in items[2].error
    assert "its fields: other" in items[2].error
    assert "Line 4 is not valid UTF-8" in items[3].error


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("q.json", "[{not json", "is not JSON"),
        ("q.json", "{not json", "is not JSON"),
        ("q.txt", "\n\n", "is empty"),
        ("q.dat", "x", "no ending that says its format"),
        ("q.json", "[]", "is empty"),
        ("q.jsonl", '{"id": 1, "query": "a"}\n{"id": 1, "query": "b"}\n', "id '1' twice"),
        ("q.jsonl", '{"x": 1}\n', "No row"),
        ("q.csv", 'id,query\n1,"abc\n2,fox\n', "line"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path, name, text, message):
    with pytest.raises(UsageError, match=message):
        read_items(write(tmp_path / name, text))


def test_a_missing_file_names_the_nearest(tmp_path):
    write(tmp_path / "questions.txt", "x")
    with pytest.raises(UsageError, match="no file") as caught:
        read_items(tmp_path / "question.txt")
    assert "questions.txt" in caught.value.hint


def test_parquet(tmp_path):
    pytest.importorskip("pyarrow")
    from pyarrow import Table, parquet

    table = Table.from_pylist([{"id": 1, "query": "one", "task": ["a"]}, {"id": 2, "query": "two"}])
    parquet.write_table(table, tmp_path / "q.parquet")
    items = read_items(tmp_path / "q.parquet")
    assert [(i.id, i.query) for i in items] == [("1", "one"), ("2", "two")]
    assert items[0].tags == {"task": ("a",)}
    write(tmp_path / "bad.parquet", "not parquet")
    with pytest.raises(UsageError, match="not a Parquet file"):
        read_items(tmp_path / "bad.parquet")


def test_parquet_without_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    write(tmp_path / "q.parquet", "x")
    with pytest.raises(UsageError, match="needs pyarrow") as caught:
        read_items(tmp_path / "q.parquet")
    assert "[data]" in caught.value.hint


def test_a_dataset_on_the_hub(tmp_path, monkeypatch):
    """The hub's part is played by functions in its place; the network is not asked."""
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    local = write(tmp_path / "q.jsonl", '{"query": "one"}\n')
    asked = []

    def download(repo: str, name: str, repo_type: str) -> str:
        asked.append((repo, name, repo_type))
        if name == "gone.jsonl":
            raise LocalEntryNotFoundError("no network")
        return str(local)

    files = ["README.md", "q.jsonl", "data/other.json"]
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda *a, **k: files)
    assert read_items("hf:user/set:q.jsonl")[0].query == "one"
    assert asked == [("user/set", "q.jsonl", "dataset")]
    with pytest.raises(UsageError, match="2 data files") as caught:
        read_items("hf:user/set")
    assert "q.jsonl, data/other.json" in caught.value.hint
    files.remove("data/other.json")
    assert read_items("hf:user/set")[0].query == "one"
    with pytest.raises(UsageError, match="could not be fetched: no network"):
        read_items("hf:user/set:gone.jsonl")
    with pytest.raises(UsageError, match="is no dataset"):
        read_items("hf:nonsense")


def test_small_kindnesses(tmp_path):
    """A byte order mark, plain strings in a list, numbers as tags, a format that is named."""
    (tmp_path / "bom.jsonl").write_bytes(b'\xef\xbb\xbf{"query": "one", "difficulty": 3}\n')
    (item,) = read_items(tmp_path / "bom.jsonl")
    assert (item.query, item.tags) == ("one", {"difficulty": ("3",)})
    assert [i.query for i in read_items(write(tmp_path / "s.json", '["a", "b"]'))] == ["a", "b"]
    path = write(tmp_path / "rows.data", '{"query": "one"}\n')
    assert read_items(path, kind="jsonl")[0].query == "one"


def test_the_known_sets(shared_file):
    items = read_items(shared_file("data/just_eval/zephyr-7b-beta.to_eval.json"))
    assert len(items) == 1000
    assert all(i.query and i.answer for i in items)
    assert sum("info-seek" in i.tags.get("task", ()) for i in items) == 431
    assert {v for i in items for v in i.tags["category"]} == {"regular", "safety"}
    questions = read_items(shared_file("data/mt_bench/question.jsonl"))
    assert [i.id for i in questions] == [str(n) for n in range(81, 161)]
    judged = read_items(shared_file("data/just_eval/1.score_multi.gpt-4.json"))
    assert all(i.query and i.answer for i in judged)
    safety = read_items(shared_file("data/just_eval/1.safety.score_safety.chatgpt.json"))
    assert not any("malicious query" in i.query.lower()[:60] for i in safety), "not the judge's"
