"""CSV: rows of hostile tables, and cells that no spreadsheet runs."""

from __future__ import annotations

import csv
import io
import sys

import pytest

from urial_local.base.errors import UsageError
from urial_local.records import tables
from urial_local.records.datasets import read_items
from urial_local.records.tables import SpreadsheetWriter, table_rows


def test_short_rows_of_a_wide_table_cost_what_they_hold():
    """The work for a row does not grow with the columns that it lacks."""

    def calls(columns: int) -> int:
        header = ",".join(["query", *(f"c{n}" for n in range(columns))])
        text = f"{header}\n" + "a,b\n" * 50
        seen = 0

        def count(frame: object, event: str, arg: object) -> None:
            nonlocal seen
            seen += 1

        rows = table_rows(io.BytesIO(text.encode()), ",")
        sys.setprofile(count)
        try:
            found = list(rows)
        finally:
            sys.setprofile(None)
        assert found[-1] == (51, {"query": "a", "c0": "b"}, "")
        return seen

    assert calls(20_000) - calls(200) < 100


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('id,query\n1,"abc\n2,fox\n', "line"),
        ("query,query\na,b\n", "the column 'query' appears twice"),
        ('query\n"a"b\n', "line 2"),
    ],
)
def test_a_malformed_table_is_refused(tmp_path, text, said):
    (tmp_path / "q.csv").write_text(text)
    with pytest.raises(UsageError, match=said):
        read_items(tmp_path / "q.csv")


def test_rows_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "MAX_ROW", 1000)
    path = tmp_path / "q.csv"
    for text in (f"query\n{'a' * 2000}\n", "query\n" + '"a\nb",' * 500 + "\n"):
        path.write_text(text)
        with pytest.raises(UsageError, match="has more than"):
            read_items(path)
    path.write_text("query\n" + "a line\n" * 500)
    assert len(read_items(path)) == 500, "many short rows are no long one"


def test_columns_without_a_name_and_blank_lines(tmp_path):
    (tmp_path / "q.csv").write_text("query,,\na,1,2\n\nb\n")
    assert [i.query for i in read_items(tmp_path / "q.csv")] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "+1"),
        ("-10.52533", "-10.52533"),
        ("-1e-05", "-1e-05"),
        ("-1+A1", "'-1+A1"),
        ("+1\n=2", "'+1\n=2"),
        ("- an item", "'- an item"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("＝1", "'＝1"),
        ("'=1", "''=1"),  # so that taking one ' off again gives what was there
        ("'tis", "'tis"),
        (" =1", " =1"),
        ("a=1", "a=1"),
        ("", ""),
        (-1.5, "-1.5"),  # a number is not text
        (None, ""),
    ],
)
def test_no_text_is_a_formula(text, cell):
    out = io.StringIO(newline="")
    SpreadsheetWriter(out).writerow([text, "x"])
    (row,) = csv.reader(io.StringIO(out.getvalue(), newline=""))
    assert row == [cell, "x"]


def test_every_csv_of_ours_is_written_so(tmp_path):
    """A writer of the standard library would let formulas through."""
    from urial_local.base.paths import PACKAGE

    writers = [p.name for p in PACKAGE.rglob("*.py") if "csv.writer(" in p.read_text("utf-8")]
    assert writers == ["tables.py"]
