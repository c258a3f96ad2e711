"""JSON: a list is cut into rows, and no row costs another one anything."""

from __future__ import annotations

import io
import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from urial_local.base.errors import UsageError
from urial_local.records import json_rows, sources
from urial_local.records.datasets import read_items

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=12,
)


class Pieces(io.BytesIO):
    """A file that gives a few bytes at a time, so that every border falls somewhere bad."""

    def __init__(self, data: bytes, size: int) -> None:
        super().__init__(data)
        self._size = size

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(self._size, size) if size and size > 0 else self._size)


def rows(text: str | bytes, size: int = 1 << 16):
    data = text if isinstance(text, bytes) else text.encode()
    return list(json_rows.json_rows(Pieces(data, size)))


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.dictionaries(st.text(st.characters(codec="utf-8")), VALUES)),
    st.sampled_from([1, 2, 3, 7, 64]),
    st.booleans(),
    st.sampled_from([None, 1]),
)
def test_a_list_is_cut_as_the_standard_parser_reads_it(values, size, ascii_only, indent):
    text = json.dumps(values, ensure_ascii=ascii_only, indent=indent)
    found = rows(text, size)
    assert [fields for _, fields, _ in found] == values
    assert [(number, error) for number, _, error in found] == [
        (n, "") for n in range(1, len(values) + 1)
    ]


@pytest.mark.parametrize("size", [1, 5, 1 << 16])
def test_a_bad_row_costs_itself(size):
    text = b'[{"query":"a"},{"query":"\xff"},{"query" "c"},7,{"query":"d"} {},"e",{"x":1e999},]'
    found = [(fields.get("query"), error) for _, fields, error in rows(text, size)]
    assert [query for query, _ in found] == ["a", None, None, None, None, "e", None, None]
    assert "not valid UTF-8" in found[1][1]
    assert "row 3 is not JSON" in found[2][1]
    assert found[3][1] == "row 4 is not an object"
    assert "row 5 is not JSON" in found[4][1]
    assert not found[6][1]
    assert "row 8 is not JSON" in found[7][1]


@pytest.mark.parametrize(
    "text", ["[", "[{", '[{"a":1}', '["a', '["a\\', "[1]]", '[{"a":1}][]', "[}", "7", '{"a":1}{}']
)
def test_a_file_that_is_not_json_is_refused(text):
    with pytest.raises(ValueError, match=r"JSON|list|row|double|Extra|Expecting"):
        rows(text, 2)


def test_a_field_that_is_there_twice_is_an_error_of_its_row(tmp_path):
    text = '{"query":"a","query":"b"}\n{"query":"c","x":{"y":1,"y":2}}\n'
    (tmp_path / "q.jsonl").write_text(text)
    first, second = read_items(tmp_path / "q.jsonl")
    assert "'query' appears twice" in first.error
    assert (second.query, second.error) == ("c", "")


def test_what_python_writes_for_no_number_is_null(tmp_path):
    """json.dump writes NaN and Infinity, bare; in a text they are text."""
    text = '[{"query":"Is NaN, a number?","score":NaN,"x":[-Infinity,Infinity,{"y":NaN}]}]'
    for name, said in (("q.json", text), ("q.jsonl", text[1:-1])):
        (tmp_path / name).write_text(said)
        (item,) = read_items(tmp_path / name)
        assert item.query == "Is NaN, a number?"
        assert item.fields["score"] is None
        assert item.fields["x"] == [None, None, {"y": None}]


@pytest.mark.parametrize("name", ["q.json", "q.jsonl"])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"x":', "}")])
def test_depth_is_limited_before_anything_is_built(tmp_path, name, opening, closing):
    """Within the limit a row is asked; beyond it, it is an error row."""

    def row(depth: int) -> str:
        return f'{{"query":"a","x":{opening * depth}1{closing * depth}}}'

    def file(depth: int) -> list:
        both = [row(depth), '{"query":"b"}']
        text = f"[{','.join(both)}]" if name == "q.json" else "\n".join(both)
        (tmp_path / name).write_text(text)
        return read_items(tmp_path / name)

    limit = json_rows.MAX_DEPTH
    assert [i.query for i in file(limit - 1)] == ["a", "b"]
    assert json.loads(json.dumps(dict(file(limit - 1)[0].fields)))
    for depth in (limit, 900, 20_000):
        items = file(depth)
        assert [i.query for i in items] == ["", "b"]
        assert "nested too deeply" in items[0].error


@pytest.mark.slow
def test_memory_does_not_grow_with_depth():
    peaks = []
    for depth in (5_000, 20_000):
        text = f'[{{"x":{"[" * depth}{"]" * depth}}}]'
        tracemalloc.start()
        assert "nested too deeply" in rows(text)[0][2]
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 8 * peaks[0], "quadratic would be 16 times"


def test_a_row_that_is_too_large_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(json_rows, "MAX_ROW", 1000)
    monkeypatch.setattr(sources, "MAX_LINE", 1000)
    both = ['{"query":"%s"}' % ("a" * 5000), '{"query":"b"}']
    (tmp_path / "q.json").write_text(f"[{','.join(both)}]")
    (tmp_path / "q.jsonl").write_text("\n".join(both))
    for name in ("q.json", "q.jsonl"):
        items = read_items(tmp_path / name)
        assert [i.query for i in items] == ["", "b"]
        assert "has more than" in items[0].error
    (tmp_path / "one.json").write_text(both[0])
    with pytest.raises(UsageError, match="has more than"):
        read_items(tmp_path / "one.json")


def test_numbers_of_any_size(tmp_path):
    """Python refuses to read whole numbers of more than 4,300 digits; that is one row's error."""
    rows = ['{"query":"a","id":%s}' % ("9" * 5000), '{"query":"b","id":1e999,"x":-1e400}']
    (tmp_path / "q.json").write_text(f"[{','.join(rows)}]")
    (tmp_path / "q.jsonl").write_text("\n".join(rows))
    for name in ("q.json", "q.jsonl"):
        first, second = read_items(tmp_path / name)
        assert "is not JSON" in first.error
        assert (second.query, second.id, second.fields["x"]) == ("b", "1", None)
