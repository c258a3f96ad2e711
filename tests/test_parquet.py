"""Parquet: every type of column, and files that unpack to more than they should."""

from __future__ import annotations

import datetime
import json
import sys
from decimal import Decimal

import pytest

from tests.fakes import Stdin
from urial_local.base.errors import UsageError
from urial_local.records import parquet as rows_of_parquet
from urial_local.records import parquet_child
from urial_local.records.datasets import read_items
from urial_local.records.sources import open_source

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def written(path, columns, **how):
    parquet.write_table(pa.table(columns), path, **how)
    return path


def here(path):
    """The rows, read in this process."""
    return list(rows_of_parquet.parquet_rows(path, str(path)))


def test_bytes_that_are_text_are_text(tmp_path):
    path = written(
        tmp_path / "q.parquet",
        {
            "id": pa.array([b"one", b"two", b"\xff"], pa.binary()),
            "query": pa.array([b"How?", b"\xff\xfe", b"Why?"], pa.binary()),
            "image": pa.array([b"\x89PNG", b"x", None], pa.binary()),
        },
    )
    first, second, third = read_items(path)
    assert (first.id, first.query, first.fields["image"]) == ("one", "How?", "iVBORw==")
    assert (second.id, second.query) == ("two", "")
    assert "bytes that are not text" in second.error
    assert "for its id" in third.error


@pytest.mark.slow
def test_texts_inside_lists_in_several_row_groups(tmp_path):
    """Conversations, as most chat datasets have them."""
    turns = [[{"role": "user", "content": f"Question {i}?"}] for i in range(20)]
    for how in ({}, {"use_dictionary": False}):
        path = written(
            tmp_path / "q.parquet", {"messages": pa.array(turns)}, row_group_size=3, **how
        )
        assert [item.query for item in read_items(path)] == [f"Question {i}?" for i in range(20)]


def test_every_type_of_column(tmp_path):
    columns = {
        "query": pa.array(["a", "b"]).dictionary_encode(),
        "fine": pa.array([1, 1_000], pa.timestamp("ns")),
        "zoned": pa.array([10**18 + 1, None], pa.timestamp("ns", "UTC")),
        "far": pa.array([2**50, 0], pa.timestamp("s")),
        "time": pa.array([1, 1_000], pa.time64("ns")),
        "lasts": pa.array([1, 1_000], pa.duration("ns")),
        "day": pa.array([datetime.date(2024, 2, 3)] * 2),
        "money": pa.array([Decimal("1.10")] * 2),
        "large": pa.array([2**64 - 1, 0], pa.uint64()),
        "text": pa.array(["x", "y"], pa.large_string()),
        "nothing": pa.nulls(2),
        "half": pa.array([1.5, float("nan")], pa.float32()),
        "both": pa.array([{"a": [1], "t": 1}, None], pa.struct([("a", pa.list_(pa.int8())),
                                                               ("t", pa.timestamp("ns"))])),
        "pairs": pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int64())),
        "whole": pa.array([1.0, None]),
    }  # fmt: skip
    first, second = read_items(written(tmp_path / "q.parquet", columns))
    assert not first.error
    assert json.loads(json.dumps(dict(first.fields), allow_nan=False)) == {
        "query": "a",
        "fine": "1970-01-01 00:00:00.000000001",
        "zoned": "2001-09-09 01:46:40.000000001Z",
        "far": first.fields["far"],  # out of the calendar; it has to be some text
        "time": "00:00:00.000000001",
        "lasts": "1",
        "day": "2024-02-03",
        "money": "1.10",
        "large": 2**64 - 1,
        "text": "x",
        "nothing": None,
        "half": 1.5,
        "both": {"a": [1], "t": "1970-01-01 00:00:00.000000001"},
        "pairs": [["k", 1]],
        "whole": 1.0,
    }
    assert second.fields["fine"] == "1970-01-01T00:00:00.000001"
    assert second.fields["half"] is None


def test_text_that_is_not_utf_8_costs_its_row(tmp_path):
    broken = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pa.py_buffer(b"\xffb")]
    )
    items = read_items(written(tmp_path / "q.parquet", {"query": broken}, use_dictionary=False))
    assert [i.query for i in items] == ["", "b"]


def test_what_would_unpack_to_too_much_is_refused_unread(tmp_path, monkeypatch):
    text = "x" * (1 << 20)
    path = written(tmp_path / "q.parquet", {"query": [text], "y": [text]}, compression="zstd")
    assert here(path)[0][1]["query"] == text, "small enough, whatever its ratio"
    monkeypatch.setattr(rows_of_parquet, "MAX_UNPACKED", 1 << 20)
    with monkeypatch.context() as patch:
        patch.setattr(parquet.ParquetFile, "iter_batches", lambda *a, **k: pytest.fail("was read"))
        with pytest.raises(UsageError, match=r"would unpack to 2\.1 MB"):
            here(path)
    nulls = written(tmp_path / "n.parquet", {"query": pa.nulls(2_000_000, pa.string())})
    with pytest.raises(UsageError, match="would unpack"):
        here(nulls)
    monkeypatch.setattr(rows_of_parquet, "MAX_UNPACKED", 1 << 10)
    plain = [f"question {n * n}" for n in range(2_000)]
    assert len(here(written(tmp_path / "q.parquet", {"query": plain}))) == 2_000


@pytest.mark.slow
def test_a_long_text_of_many_rows_is_in_memory_once(tmp_path):
    path = written(tmp_path / "q.parquet", {"query": ["x" * (4 << 20)] * 64}, compression="zstd")
    before = pa.total_allocated_bytes()
    most = 0
    for _, fields, _ in rows_of_parquet.parquet_rows(path, "q"):
        assert len(fields["query"]) == 4 << 20
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < 64 << 20, "apart they are 256 MB"


@pytest.mark.parametrize("error", [pa.ArrowMemoryError("out"), pa.ArrowNotImplementedError("no")])
def test_what_pyarrow_raises_is_told(tmp_path, monkeypatch, error):
    def failing(*args: object, **named: object) -> None:
        raise error

    path = written(tmp_path / "q.parquet", {"query": ["a"]})
    monkeypatch.setattr(parquet.ParquetFile, "iter_batches", failing)
    with pytest.raises(UsageError, match=r"q\.parquet"):
        here(path)


def test_a_breakdown_of_pyarrow_is_told(tmp_path, monkeypatch):
    """The child is a stand-in that does what a changed file can make pyarrow do."""
    path = written(tmp_path / "q.parquet", {"query": ["a", "b"]})
    for ending, said in [("os.abort()", "SIGABRT"), ("os._exit(3)", "failed"), ("", "failed")]:
        row = 'print("[1, {\\"query\\": \\"a\\"}, \\"\\"]", flush=True)'
        command = [sys.executable, "-c", f"import os; {row}; {ending}"]
        monkeypatch.setattr(parquet_child.child, "command", lambda *a, c=command: c)
        rows = parquet_child.rows_apart(path, "q.parquet")
        assert next(rows) == (1, {"query": "a"}, "")
        with pytest.raises(UsageError, match=rf"q\.parquet cannot be read: .*{said}"):
            next(rows)


def test_a_reader_that_stops_early_leaves_no_child(tmp_path, monkeypatch):
    path = written(tmp_path / "q.parquet", {"query": ["x" * 1000] * 5000})
    started = []
    real = parquet_child.subprocess.Popen
    monkeypatch.setattr(
        parquet_child.subprocess,
        "Popen",
        lambda *a, **k: started.append(real(*a, **k)) or started[-1],
    )
    rows = parquet_child.rows_apart(path, "q.parquet")
    next(rows)
    rows.close()
    assert started[0].poll() is not None


def test_columns_of_the_same_name_are_refused(tmp_path):
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["query", "query"])
    parquet.write_table(table, tmp_path / "q.parquet")
    with pytest.raises(UsageError, match="'query' twice"):
        read_items(tmp_path / "q.parquet")


def test_standard_input_is_told_by_its_magic(tmp_path, monkeypatch):
    data = written(tmp_path / "q.parquet", {"query": ["a"]}).read_bytes()
    monkeypatch.setattr(sys, "stdin", Stdin(data))
    with open_source("-") as source:
        assert source.kind == "parquet"
