"""Runs of very many rows: files of rows in parts, what is kept between starts, memory, passes."""

from __future__ import annotations

import hashlib
import json
import os
import tracemalloc
from pathlib import Path

import pytest

from tests.command import urial
from tests.fake_plans import FakePlan, answered
from urial_local.base.errors import RunError, UsageError
from urial_local.cli.plumbing import generating
from urial_local.records import datasets, known, runlog
from urial_local.records.datasets import Fields, RawRow, Selection, as_item
from urial_local.records.generated import Generated
from urial_local.records.merge import merge_runs
from urial_local.records.parts import parts
from urial_local.records.runlog import RunLog, asked_digest, read_run
from urial_local.records.runs import RunRows, latest_rows
from urial_local.records.sources import open_source
from urial_local.tasks.generate.job import KEY

ID = ("id",)
CONFIG = {"task": "x", "shard": None}


def filled(folder: Path, ids, config=CONFIG, **more) -> None:
    with RunLog(folder, config, ID) as log:
        for i in ids:
            if not log.has(str(i)):
                log.append({"id": str(i), "number": int(i), "text": "x" * 80, **more})


def ids_of(folder: Path) -> list[str]:
    return [row["id"] for row in latest_rows(folder, ID)]


@pytest.fixture
def small(monkeypatch):
    """Parts of some ten rows, and all that is read is kept."""
    monkeypatch.setattr(runlog, "PART", 1000)
    monkeypatch.setattr(runlog, "KEEP", 4)


# --- parts ---------------------------------------------------------------------------------------


def test_rows_lie_in_parts_of_a_size_and_none_is_cut(small, tmp_path):
    filled(tmp_path, range(25))
    files = parts(tmp_path)
    assert [p.name for p in files] == ["rows.jsonl", *(f"rows-000{n}.jsonl" for n in (2, 3, 4))]
    assert all(p.stat().st_size <= 1000 for p in files)
    assert sum(len(p.read_text().splitlines()) for p in files) == 25
    assert ids_of(tmp_path) == [str(i) for i in range(25)]
    info = json.loads((tmp_path / "run.json").read_text())
    assert info["format"] == 2, "so that a release that reads one file refuses it"
    filled(tmp_path, range(30))
    assert ids_of(tmp_path) == [str(i) for i in range(30)]


def test_a_run_in_one_part_is_what_it_was(tmp_path):
    filled(tmp_path, range(25))
    assert [p.name for p in parts(tmp_path)] == ["rows.jsonl"]
    assert json.loads((tmp_path / "run.json").read_text())["format"] == 1


def test_a_torn_row_is_cut_from_the_last_part_alone(small, tmp_path):
    filled(tmp_path, range(25))
    last = parts(tmp_path)[-1]
    before = last.read_bytes()
    last.write_bytes(before + b'{"id":"torn')
    filled(tmp_path, [])
    assert last.read_bytes() == before
    assert (tmp_path / "rows.torn").read_bytes() == b'{"id":"torn\n'


@pytest.mark.parametrize("lost", ["rows.jsonl", "rows-0002.jsonl"])
def test_a_missing_part_is_named_and_nothing_is_made_again(small, lost, tmp_path):
    filled(tmp_path, range(25))
    (tmp_path / lost).unlink()
    with pytest.raises(RunError, match=f"{lost} is missing, and there are rows after it"):
        filled(tmp_path, range(25))
    with pytest.raises(RunError, match=f"{lost} is missing"):
        ids_of(tmp_path)


def test_parts_without_a_run_are_left_alone(small, tmp_path):
    (tmp_path / "rows-0002.jsonl").write_text('{"id":"1"}\n')
    with pytest.raises(UsageError, match=r"holds no run, but a rows-0002\.jsonl"):
        filled(tmp_path, [])


def test_a_damaged_line_is_named_by_its_own_file(small, tmp_path):
    filled(tmp_path, range(25))
    second = parts(tmp_path)[1]
    lines = second.read_bytes().splitlines(keepends=True)
    second.write_bytes(b"".join([*lines[:3], b"{}\n", *lines[3:]]))
    for look in (lambda: filled(tmp_path, []), lambda: ids_of(tmp_path)):
        with pytest.raises(RunError, match=r"rows-0002\.jsonl, line 4: id must be text"):
            look()


def test_an_error_row_and_its_later_try_may_lie_in_two_parts(small, tmp_path):
    with RunLog(tmp_path, CONFIG, ID) as log:
        log.append({"id": "0", "error": "too long"})
    filled(tmp_path, range(1, 25))
    with RunLog(tmp_path, CONFIG, ID) as log:
        assert (log.count_errors(), log.count_done()) == (1, 24)
        log.append({"id": "0", "text": "well"})
    assert len(parts(tmp_path)) == 3
    assert ids_of(tmp_path) == [*map(str, range(1, 25)), "0"]
    assert not RunRows(tmp_path, ID).errors()


def test_runs_in_parts_are_merged_exported_and_read_as_data(small, tmp_path):
    for i in (1, 2):
        config = {"task": "generate", "model": {"name": "m"}, "shard": f"{i}/2"}
        with RunLog(tmp_path / str(i), config, KEY, Generated.read) as log:
            for n in range(20 - i, -1, -2):  # backwards, to see that exports are in order
                log.append(answered(n, f"What is {n}?"))
            log.end_session()
    whole = tmp_path / "whole"
    merge_runs(whole, [tmp_path / "1", tmp_path / "2"], KEY, Generated.read)
    assert len(parts(whole)) > 3
    with open_source(str(whole)) as source:
        assert [row.fields["id"] for row in datasets.read_rows(source)] == list(map(str, range(20)))
    done = urial("export", whole, "--to", "alpaca-eval")
    rows = json.loads(done.stdout)
    assert [row["instruction"] for row in rows] == [f"What is {n}?" for n in range(20)]
    assert done.stdout == json.dumps(rows, ensure_ascii=False, indent=2) + "\n"
    lines = urial("export", whole, "--to", "csv").stdout.splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == list(map(str, range(20)))


def test_an_empty_export_is_an_empty_list(tmp_path):
    with RunLog(tmp_path, {"task": "generate", "model": {"name": "m"}}, KEY) as log:
        log.append({"id": "1", "repeat": 0, "number": 0, "query": "q", "error": "too long"})
    assert urial("export", tmp_path, "--to", "just-eval").stdout == "[]\n"


# --- what is kept between starts -----------------------------------------------------------------


class Reader:
    """What checks a row, and how often it was asked."""

    def __init__(self) -> None:
        self.read = 0

    def __call__(self, row):
        self.read += 1
        return row


def opened(folder: Path) -> tuple[int, int, int]:
    """Rows done, error rows, and how many rows were checked."""
    reader = Reader()
    with RunLog(folder, CONFIG, ID, reader) as log:
        return log.count_done(), log.count_errors(), reader.read


def kept_files() -> list[Path]:
    return list(known.rows_dir().glob("*.rows"))


def test_rows_are_checked_once(small, tmp_path):
    filled(tmp_path, range(25))
    with RunLog(tmp_path, CONFIG, ID) as log:
        log.append({"id": "e", "error": "too long"})
    assert opened(tmp_path) == (25, 1, 25), "kept for another reader only"
    assert opened(tmp_path) == (25, 1, 0)
    assert len(kept_files()) == len(parts(tmp_path))
    last = parts(tmp_path)[-1]
    with last.open("ab") as file:  # as a process that was killed leaves it
        file.write(b'{"id":"new"}\n')
    assert opened(tmp_path) == (26, 1, 1)
    with RunLog(tmp_path, CONFIG, ID) as log:
        assert log.has("3")
        assert not log.has("e")
        log.append({"id": "e", "error": "too long"})  # the same again: its reason is known
    assert sum(len(p.read_text().splitlines()) for p in parts(tmp_path)) == 27


@pytest.mark.parametrize("change", ["a byte", "shorter", "another place"])
def test_what_is_kept_holds_for_the_same_bytes_alone(small, change, tmp_path):
    filled(tmp_path / "a", range(25))
    assert opened(tmp_path / "a")[2] == 25
    first, *_, last = parts(tmp_path / "a")
    folder, expected = tmp_path / "a", (25, 0, 0)
    if change == "a byte":  # of a text, so that the row is a row still
        before = first.read_bytes()
        first.write_bytes(before.replace(b"x", b"y", 1))
        expected = (25, 0, len(before.splitlines()))
    elif change == "shorter":
        lines = last.read_bytes().splitlines(keepends=True)
        last.write_bytes(b"".join(lines[:-1]))
        expected = (24, 0, len(lines) - 1)
    else:
        folder = (tmp_path / "a").rename(tmp_path / "b")
        expected = (25, 0, 25)
    assert opened(folder) == expected


@pytest.mark.parametrize("damage", [b"", b"urial rows 1\n", b"x" * 100, b"cut"])
def test_what_is_kept_may_be_damaged(small, damage, tmp_path):
    filled(tmp_path, range(5))
    opened(tmp_path)
    (file,) = kept_files()
    data = file.read_bytes()
    file.write_bytes(data[:-7] if damage == b"cut" else damage)
    assert opened(tmp_path) == (5, 0, 5)
    assert opened(tmp_path) == (5, 0, 0)


def test_what_others_could_have_written_is_not_believed(small, tmp_path):
    filled(tmp_path, range(5))
    opened(tmp_path)
    (file,) = kept_files()
    os.chmod(file, 0o666)
    assert opened(tmp_path) == (5, 0, 5)


def test_a_line_behind_what_is_kept_has_its_own_number(small, tmp_path):
    filled(tmp_path, range(5))
    with (tmp_path / "rows.jsonl").open("ab") as file:
        file.write(b"{oops\n")
    with pytest.raises(RunError, match=r"rows\.jsonl, line 6: this is not a row"):
        filled(tmp_path, [])


def test_what_is_kept_is_bounded_and_cleared(small, monkeypatch, tmp_path):
    monkeypatch.setattr(known, "MOST_KEPT", 600)
    for n in range(6):
        filled(tmp_path / str(n), range(5))
    assert 1 <= len(kept_files()) <= 3
    assert "Freed" in urial("cache", "clear").stderr
    assert not kept_files()


# --- passes and memory ---------------------------------------------------------------------------


@pytest.fixture
def rows_read(monkeypatch):
    """Counts the rows of datasets that are read."""
    count = [0]
    plainly = datasets.read_rows

    def counted(source):
        for row in plainly(source):
            count[0] += 1
            yield row

    monkeypatch.setattr(datasets, "read_rows", counted)
    return count


def generate(path: Path, output: Path, plan=None, id_field=None, **chosen):
    with open_source(str(path)) as source:
        data = generating.Dataset(source, Fields(id=id_field), Selection(**chosen))
        return generating.run(plan or FakePlan(), data, output)[0]


def test_where_ids_are_numbers_a_dataset_is_read_once(rows_read, tmp_path):
    path = tmp_path / "q.txt"
    path.write_text("".join(f"question {i}\n" for i in range(2000)))
    assert generate(path, tmp_path / "run").done == 2000
    assert rows_read[0] == 2000 + 1, "and the first, to see that there is something to ask"
    assert read_run(tmp_path / "run").sessions[-1].finished
    plan = FakePlan()
    assert generate(path, tmp_path / "run", plan).done == 0
    assert plan.opened == 0, "nothing is lacking, so no model is opened"
    rows_read[0] = 0
    assert generate(path, tmp_path / "few", limit=10).done == 10
    assert rows_read[0] <= 12, "and no further than it is wanted"


def test_where_rows_have_ids_a_new_run_reads_twice(rows_read, tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_text("".join(f'{{"id": "q{i}", "query": "question {i}"}}\n' for i in range(50)))
    assert generate(path, tmp_path / "run").done == 50
    assert rows_read[0] == 100
    with path.open("a") as file:
        file.write('{"id": "q7", "query": "again"}\n')
    with pytest.raises(UsageError, match="twice: in rows 8 and 51"):
        generate(path, tmp_path / "run")


def test_a_changed_question_is_found_in_one_pass_too(tmp_path):
    path = tmp_path / "q.txt"
    path.write_text("one\ntwo\n")
    generate(path, tmp_path / "run")
    path.write_text("one\nthree\nfour\n")
    with pytest.raises(UsageError, match="'1' is not the one that this run holds"):
        generate(path, tmp_path / "run")


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "is empty"), ("\n\n", "is empty"), ("\0\n", "No row of .* can be used")],
)
def test_a_dataset_without_a_question_leaves_no_folder(text, said, tmp_path):
    (tmp_path / "q.txt").write_text(text)
    with pytest.raises(UsageError, match=said):
        generate(tmp_path / "q.txt", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", ["plain", " é\t", "a\0b", "", "  ", "\ud800"])
@pytest.mark.parametrize("chosen", [Fields(), Fields(id="none"), Fields(answer="query")])
def test_the_short_way_means_what_the_long_one_does(text, chosen):
    """A field without a meaning makes the row take the long way."""
    short = as_item(3, RawRow(4, {"query": text}), chosen)
    long = as_item(3, RawRow(4, {"query": text, "zz": 1}), chosen)
    fields = ("id", "number", "query", "answer", "tags", "later", "cut", "unnamed", "max_tokens")
    assert [getattr(short, f) for f in fields] == [getattr(long, f) for f in fields]
    assert bool(short.error) == bool(long.error)


def bytes_a_row(made, rows: int) -> float:
    tracemalloc.start()
    try:
        made()
        return tracemalloc.get_traced_memory()[1] / rows
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("texts", [("",), ("a", 'b"\\\n'), ("é🙂\ud800\0", "", "x")])
def test_a_questions_digest_is_what_it_was(texts):
    expected = hashlib.sha256(json.dumps(texts).encode("ascii")).hexdigest()[:16]
    assert asked_digest(*texts) == expected


@pytest.mark.slow
def test_memory_of_a_run_grows_by_bytes_a_row(tmp_path):
    """By what Python's own books say, with some room; rows have 1,500 bytes each."""
    rows = 3000
    run, config = tmp_path / "run", {"task": "generate", "model": {"name": "m"}}
    with RunLog(run, config, KEY, Generated.read) as log:
        for n in range(rows):
            log.append({**answered(n, f"What is {n}?"), "asked_sha": f"{n:016x}"})
    assert (run / "rows.jsonl").stat().st_size > 1000 * rows
    assert bytes_a_row(lambda: RunLog(run, config, KEY, Generated.read).close(), rows) < 300
    every = RunRows(run, KEY, Generated.read)
    assert bytes_a_row(lambda: sum(1 for _ in every), rows) < 60
    assert bytes_a_row(lambda: RunRows(run, KEY, Generated.read), rows) < 250

    def in_order() -> None:
        for _ in every.ordered(lambda row: (row.number, row.repeat)):
            pass

    assert bytes_a_row(in_order, rows) < 250
