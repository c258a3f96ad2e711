"""Texts in UTF-16, UTF-32 and with byte order marks: read, or refused with a reason."""

from __future__ import annotations

import io
import os
import sys

import pytest

from tests.command import urial
from tests.fakes import Stdin
from urial_local.base.encodings import as_utf8, decoded
from urial_local.base.errors import UsageError
from urial_local.base.texts import read_text
from urial_local.cli.main import cli
from urial_local.cli.plumbing.data_options import chosen_ids
from urial_local.cli.plumbing.questions import read_question
from urial_local.records import sources
from urial_local.records.datasets import read_items
from urial_local.records.sources import open_source

QUESTIONS = ["How do I make soup?", "Wo ist 狐狸? 🦊"]
FILES = {
    "q.txt": "{}\r\n{}\r\n",
    "q.jsonl": '{{"query":"{}"}}\n{{"query":"{}"}}\n',
    "q.json": '[{{"query":"{}"}},\n{{"query":"{}"}}]',
    "q.csv": "id,query\r\n1,{}\r\n2,{}\r\n",
    "q.tsv": "query\tx\n{}\t\n{}\t1\n",
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_a_byte_order_mark_says_the_encoding(tmp_path, name, codec):
    text = FILES[name].format(*QUESTIONS)
    marked = text if codec == "utf-8-sig" else f"\ufeff{text}"
    (tmp_path / name).write_bytes(marked.encode(codec))
    assert [i.query for i in read_items(tmp_path / name)] == QUESTIONS


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_without_a_mark_it_is_refused_by_name(tmp_path, name, codec):
    (tmp_path / name).write_bytes(FILES[name].format("How do I make soup?", "Hi").encode(codec))
    with pytest.raises(UsageError, match=f"looks like {codec[:6].upper()}") as caught:
        read_items(tmp_path / name)
    assert f"iconv -f {codec.replace('-le', 'le').replace('-be', 'be')}" in caught.value.hint


def test_half_a_character_of_utf_16_costs_its_row(tmp_path):
    lines = ["one\n".encode("utf-16-le"), b"\x00\xd8", "\ntwo\n".encode("utf-16-le")]
    (tmp_path / "q.txt").write_bytes(b"\xff\xfe" + b"".join(lines))
    assert [i.query for i in read_items(tmp_path / "q.txt")] == ["one", "", "two"]


def test_a_nul_in_a_question_costs_its_row(tmp_path):
    text = "A long question, so that one NUL is not UTF-16.\na\0b\nc\n"
    (tmp_path / "q.txt").write_text(text)
    (tmp_path / "q.jsonl").write_text('{"query":"a\\u0000b"}\n{"query":"b"}\n')
    assert [bool(i.error) for i in read_items(tmp_path / "q.txt")] == [False, True, False]
    assert "holds a NUL" in read_items(tmp_path / "q.jsonl")[0].error


def test_files_that_were_put_together_keep_no_marks(tmp_path):
    (tmp_path / "q.txt").write_bytes(b"\xef\xbb\xbfone\n\xef\xbb\xbftwo\n\xef\xbb\xbf\n")
    (tmp_path / "q.jsonl").write_bytes(b'{"query":"one"}\n\xef\xbb\xbf{"query":"two"}\n')
    for name in ("q.txt", "q.jsonl"):
        assert [i.query for i in read_items(tmp_path / name)] == ["one", "two"]


def test_lines_may_end_with_carriage_returns_alone(tmp_path):
    for name in FILES:
        text = FILES[name].replace("\r\n", "\n").replace("\n", "\r").format("one", "two")
        (tmp_path / name).write_bytes(text.encode())
        assert [i.query for i in read_items(tmp_path / name)] == ["one", "two"], name
    (tmp_path / "mixed.txt").write_bytes(b"a\rb\nc\n")
    assert [i.query for i in read_items(tmp_path / "mixed.txt")] == ["a\rb", "c"]


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (b"\x1f\x8b\x08\0", "gzip"),
        (b"PK\x03\x04\x14", "ZIP"),
        (b"PAR1\x15\x04", "Parquet"),
        (b"\x28\xb5\x2f\xfd\x04", "zstd"),
        (b"SQLite format 3\0", "SQLite"),
        (b"GGUF\x03\0\0\0", "model"),
        (b"%PDF-1.7", "PDF"),
    ],
)
def test_files_of_other_kinds_are_named(tmp_path, start, what):
    for name in ("q.txt", "q.jsonl", "q.csv", "q.json", "q.csv.gz"):
        (tmp_path / name).write_bytes(start + bytes(range(256)))
        with pytest.raises(UsageError, match=what):
            read_items(tmp_path / name)


def test_standard_input_of_ask(monkeypatch):
    def asked(data: bytes) -> str:
        monkeypatch.setattr(sys, "stdin", Stdin(data))
        return read_question(("-",))

    assert asked("\ufeffWhy?\r\n".encode("utf-16-le")) == "Why?"
    assert asked("\ufeffWhy?\n".encode()) == "Why?"
    for data, said in [
        ("Why is it so?".encode("utf-16-be"), "looks like UTF-16"),
        (b"A question that is long enough, and a \0", "holds a NUL"),
        ("Où?".encode("latin-1"), "not valid UTF-8"),
    ]:
        with pytest.raises(UsageError, match=said):
            asked(data)


def test_standard_input_without_an_end_does_not_fill_the_disk(monkeypatch):
    class Endless(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            return b"x" * size

    stdin = Stdin(b"")
    stdin.buffer = Endless()
    monkeypatch.setattr(sys, "stdin", stdin)
    monkeypatch.setattr(sources, "SPARE", 1 << 60)
    with (
        pytest.raises(UsageError, match="Standard input has more than 64 MB"),
        open_source("-"),
    ):
        pass


def test_standard_input_of_generate(monkeypatch):
    for codec in ("utf-16", "utf-8-sig"):
        monkeypatch.setattr(sys, "stdin", Stdin("id,query\n1,one\n".encode(codec)))
        with open_source("-") as source:
            assert source.kind == "csv"
    long = b'{"query":"%s"}\n{"query":"b"}\n' % (b"a" * 100_000)
    deep = b'{"x":' * 50_000 + b"1" + b"}" * 50_000 + b'\n{"query":"b"}\n'
    for data in (long, deep):
        monkeypatch.setattr(sys, "stdin", Stdin(data))
        with open_source("-") as source:
            assert source.kind == "jsonl"


def test_lines_of_chat_in_utf_16():
    done = urial("chat", "-m", "demo", stdin="/show settings\n".encode("utf-16"))
    assert done.returncode == 0, done.stderr
    assert "temp" in done.stdout
    said = urial("chat", "-m", "demo", stdin="/show settings\n".encode("utf-16-be")).stderr
    assert "iconv -f utf-16be" in said


def test_ids_from_a_file(tmp_path):
    def ids(data: bytes) -> frozenset[str] | None:
        (tmp_path / "ids").write_bytes(data)
        return chosen_ids(f"@{tmp_path / 'ids'}")

    assert ids(b'\xef\xbb\xbf["1", 2, 3.0, null]') == {"1", "2", "3"}
    assert ids("\ufeff1\r\n2\r\n".encode("utf-16-le")) == {"1", "2"}
    assert ids(b"\xef\xbb\xbf7\n") == {"7"}, "a number alone is an id, too"
    assert ids(b'{"a": [1], "b": ["x"]}') == {"1", "x"}
    for data, said in [
        (b"[" * 100_000, "is not JSON"),
        (b'["1", true]', "has True among its ids"),
        (b"[[1]]", "a list of 1 among"),
        (b'{"a": 1}', "not hold a list of ids"),
        (b"[1", "is not JSON"),
        (b"[%s]" % (b"9" * 5000), "is not JSON"),
    ]:
        with pytest.raises(UsageError, match=said):
            ids(data)
    with pytest.raises(UsageError, match="larger than 3 bytes"):
        read_text(tmp_path / "ids", "The list", 3, error=UsageError)
    with pytest.raises(UsageError, match="no such file"):
        chosen_ids(f"@{tmp_path / 'none'}")


def test_a_pipe_is_read_no_further_than_it_has_come():
    """chat answers a line before the next one is there."""
    here, there = os.pipe()
    with open(here, "rb") as reading, open(there, "wb", buffering=0) as writing:
        writing.write("\ufeffone\n".encode("utf-16-le"))
        lines = as_utf8(reading, "x")
        assert next(lines) == b"one\n"
        writing.write("two\n".encode("utf-16-le"))
        assert next(lines) == b"two\n"


def test_nothing_and_little_are_texts():
    assert decoded(b"", "x") == ""
    assert decoded(b"a", "x") == "a"
    assert decoded(b"\xef\xbb\xbf", "x") == ""


def test_homes_of_unknown_users_and_pipes(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    questions = tmp_path / "q.jsonl"
    questions.write_text('{"query":"a"}\n')
    run = ("-o", tmp_path / "run")
    for name, said in [
        ("~nosuchuser/x.jsonl", "home of an unknown user"),
        (tmp_path / "pipe.jsonl", "is a pipe or a device"),
        ("/dev/zero", "is a pipe or a device"),
    ]:
        for args in (
            ("generate", name, "-m", "demo", *run),
            ("generate", questions, "-m", "demo", *run, "--retrieve", name),
            ("shift", questions, "--base", "demo", *run, "--answers", name),
            ("leaderboard", name),
            ("agreement", name, name),
            ("evaluate", name, "--judge", "demo", *run),
            (
                "evaluate",
                questions,
                "--judge",
                "demo",
                *run,
                "--mode",
                "pairwise",
                "--against",
                name,
            ),
        ):
            with pytest.raises(UsageError, match=said):
                cli([str(arg) for arg in args], standalone_mode=False)
    with pytest.raises(UsageError, match="home of an unknown user"):
        chosen_ids("@~nosuchuser/x")
