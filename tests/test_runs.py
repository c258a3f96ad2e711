"""Run folders and datasets: whole rows survive, other configurations are refused."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys

import pytest

from tests.command import size_of, until
from urial_local.base.errors import RunError, UsageError
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
    assert len(read_run(tmp_path / "run").sessions) == 2


@pytest.mark.parametrize("name", ["summary.json", "report.html", "positions.csv", "tokens-1.json"])
def test_a_folder_with_files_of_others_is_left_alone(name, tmp_path):
    """A run would come to replace them; other files may lie there."""
    (tmp_path / "thesis.txt").write_text("mine")
    with RunLog(tmp_path / "run", CONFIG, KEY):
        pass
    (tmp_path / name).write_text("mine")
    before = sorted(p.name for p in tmp_path.iterdir() if p.suffix != ".lock")
    with pytest.raises(UsageError, match=f"holds no run, but a {name}"):
        RunLog(tmp_path, CONFIG, KEY)
    assert (tmp_path / name).read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix != ".lock") == before


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
    with pytest.raises(
        RunError, match=r"rows\.jsonl, line 2: this is not a row, since it is not JSON"
    ):
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


@pytest.mark.slow
def test_killed_at_any_moment_every_line_is_whole(tmp_path):
    code = (
        "from pathlib import Path\nfrom urial_local.records.runlog import RunLog\n"
        f"with RunLog(Path({str(tmp_path)!r}), {CONFIG!r}, ('id',)) as log:\n"
        "    print('open', flush=True)\n"
        "    for i in range(10**6):\n"
        "        if not log.has(str(i)): log.append({'id': str(i), 'text': 'x' * 5000})\n"
    )
    for more in (0, 1, 100_000, 1_000_000):  # bytes; a row has some 5,000
        before = size_of(tmp_path / "rows.jsonl")
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        until(lambda n=before + more: size_of(tmp_path / "rows.jsonl") >= n, child)
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
