"""Opens files of rows and reads them one at a time, whatever their size.

JSON arrays, JSONL, CSV, TSV, plain text (a line a row), Parquet (the [data] extra), standard input,
and datasets on the Hugging Face hub (`hf:user/name[:file]`). Knows nothing of what rows mean.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, BinaryIO

from urial_local.base import hub
from urial_local.base.encodings import as_utf8, converted
from urial_local.base.errors import UsageError, near
from urial_local.base.no_model import LFS_ADVICE, LFS_POINTER
from urial_local.base.paths import user_path
from urial_local.records.json_rows import json_rows, read_object
from urial_local.records.parquet import is_parquet
from urial_local.records.parquet_child import rows_apart
from urial_local.records.plain import plain
from urial_local.records.runs import Row, RunRows
from urial_local.records.tables import table_rows
from urial_local.records.typed import Count, read_as

FORMATS = {
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "text",
    ".parquet": "parquet",
}
COLUMNS = {"query", "instruction", "question", "prompt"}  # a table's first line has one of them
MAX_LINE = 64 << 20  # bytes of one row
BOM = b"\xef\xbb\xbf"
PIECE = 1 << 16  # bytes
SPARE = 1 << 30  # bytes of the temporary folder's disk that are left to others
_UNPACK = "Unpack it first."
NOT_TEXT = (  # how such files begin, what they are, and what to do
    (b"PAR1\x15", "Parquet", "Name it .parquet, or use --format parquet."),
    (b"\x1f\x8b", "compressed with gzip", _UNPACK),
    (b"BZh91AY&SY", "compressed with bzip2", _UNPACK),
    (b"\xfd7zXZ\0", "compressed with xz", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "compressed with 7-Zip", _UNPACK),
    (b"PK\x03\x04", "a ZIP archive, as .xlsx and .npz are", "Unpack it, or save it as CSV."),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document", "Save it as CSV."),
    (b"ARROW1\0\0", "an Arrow file", "Write it as Parquet or JSONL."),
    (b"SQLite format 3\0", "a SQLite database", "Write its rows as JSONL or CSV."),
    (b"GGUF\x02\0\0\0", "a model", "Name it with -m."),
    (b"GGUF\x03\0\0\0", "a model", "Name it with -m."),
    (b"%PDF-", "a PDF document", "Save its text as .txt."),
    (LFS_POINTER, "a Git LFS pointer, which stands for a file", LFS_ADVICE),
)


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row as it stands: an object's fields, or why it is none. `line` counts lines or rows."""

    line: int
    fields: Mapping[str, Any]
    error: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """A file that can be read from its start again and again."""

    path: Path
    kind: str  # a value of FORMATS
    name: str  # what the user called it
    # By the field that holds ids, what stands before the number of a row without one.
    unnamed: dict[str | None, str] = field(default_factory=dict, compare=False, repr=False)


@contextlib.contextmanager
def open_source(name: str, kind: str | None = None) -> Iterator[Source]:
    """A file, a run folder (its rows), `-` for standard input, or `hf:user/dataset[:file]`.

    Standard input is kept in a temporary file meanwhile, since rows are read more than once. Raises
    UsageError for what is missing or of no known format; `kind` overrides the file's ending.
    """
    if name == "-":
        with tempfile.NamedTemporaryFile(suffix=".jsonl") as spool:
            if sys.stdin is None:
                raise UsageError("Standard input is closed, so there are no rows to read.")
            _spool(sys.stdin.buffer, spool)
            found = Source(Path(spool.name), kind or "text", "standard input")
            yield found if kind else replace(found, kind=_guess(found))
        return
    path = _from_hub(name) if name.startswith("hf:") else user_path(name)
    if path.is_dir() and (path / "rows.jsonl").exists():
        yield Source(path, "run", name)
        return
    if path.is_dir():
        raise UsageError(f"{path} is a folder without a run in it.", "Name a file of rows in it.")
    if path.exists() and not path.is_file():
        raise UsageError(
            f"{path} is a pipe or a device, and rows are read more than once.",
            f"Give them on standard input: - < {path}",
        )
    if not path.is_file():
        siblings = [p.name for p in path.parent.glob("*") if p.suffix in FORMATS]
        raise UsageError(f"There is no file {path}.", near(path.name, siblings) if siblings else "")
    how = kind or FORMATS.get(path.suffix.lower())
    if how is None:
        with path.open("rb") as file:
            refuse_binary(file.read(32), name)
        raise UsageError(
            f"{path} has no extension that tells its format.",
            f"Name it with --format, one of {', '.join(sorted(set(FORMATS.values())))}.",
        )
    yield Source(path, how, name)


def _spool(stream: BinaryIO, spool: IO[bytes]) -> None:
    """Keep a stream. Raises UsageError rather than fill the disk, as one without an end would."""
    count = 0
    while data := stream.read(PIECE):
        spool.write(data)
        count += 1
        if count % 1024 == 0 and shutil.disk_usage(spool.name).free < SPARE:
            raise UsageError(
                f"Standard input has more than {count * PIECE >> 20:,} MB, and the temporary folder"
                " has no room for more.",
                "Set TMPDIR to a larger disk, or name a file.",
            )
    spool.flush()


def read_rows(source: Source) -> Iterator[RawRow]:
    """The rows of a source, one at a time. A row that does not parse has an `error`.

    Raises UsageError where the file as a whole cannot be read.
    """
    reader = {
        "json": _json,
        "jsonl": _jsonl,
        "csv": _table,
        "tsv": _table,
        "text": _text,
        "parquet": _parquet,
        "run": _run,
    }[source.kind]
    try:
        for row in reader(source):
            try:
                fields = row.fields if source.kind == "text" else plain(row.fields)
            except RecursionError:
                yield RawRow(row.line, {}, f"row {row.line} is nested too deeply")
                continue
            yield RawRow(row.line, fields, row.error)
    except OSError as error:
        raise UsageError(f"{source.name} cannot be read: {error.strerror or error}.") from None


def _run(source: Source) -> Iterator[RawRow]:
    """The rows of a run: what the dataset held, with the answer that was made."""
    rows = RunRows(source.path, ("id",), _Kept.read).ordered(lambda row: row.number)
    for number, row in enumerate(rows, 1):
        yield RawRow(number, {**row.fields, "id": row.id, "answer": row.answer})


@dataclass(frozen=True, slots=True)
class _Kept:
    """A row of a run of any kind; those of `shift` and `evaluate` are their own fields."""

    id: str
    number: Count = 0
    answer: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def read(row: Row) -> _Kept:
        return read_as(_Kept, row if row.get("fields") is not None else {**row, "fields": row})


@contextlib.contextmanager
def _opened(source: Source) -> Iterator[io.BufferedReader]:
    """The file's text in UTF-8. Raises UsageError for what is not text."""
    with io.BufferedReader(source.path.open("rb", 0), PIECE) as file:
        refuse_binary(file.peek(32), source.name)
        yield as_utf8(file, source.name)


def refuse_binary(start: bytes, name: str) -> None:
    """Raises UsageError for a file that begins as one of another kind; rows are texts."""
    for magic, what, hint in NOT_TEXT:
        if start.startswith(magic):
            raise UsageError(f"{name} is {what}, not a file of rows.", hint)


def _lines(source: Source) -> Iterator[tuple[int, bytes, str]]:
    """(number, line, error) of lines that are not blank. A file that has only CR has those for the
    ends of its lines; a byte order mark may stand where files were put together."""
    with _opened(source) as file:
        start = file.peek(PIECE)
        if b"\r" in start and b"\n" not in start:
            file = converted(file, lambda data: data.replace(b"\r", b"\n"))
        number = 0
        while line := file.readline(MAX_LINE + 1):
            number += 1
            if len(line) > MAX_LINE:
                while line and not line.endswith(b"\n"):
                    line = file.readline(PIECE)
                yield number, b"", f"line {number} has more than {MAX_LINE >> 20} MB"
            elif (text := line.removeprefix(BOM)).strip():
                yield number, text, ""


def _text(source: Source) -> Iterator[RawRow]:
    for number, line, error in _lines(source):
        try:
            yield RawRow(number, {"query": line.decode("utf-8").rstrip("\r\n")}, error)
        except UnicodeDecodeError:
            yield RawRow(number, {}, f"line {number} is not valid UTF-8")


def _jsonl(source: Source) -> Iterator[RawRow]:
    for number, line, error in _lines(source):
        value: Any = {}
        if not error:
            try:
                value = read_object(line.decode("utf-8"))
                if not isinstance(value, dict):
                    error = f"line {number} is not an object"
            except UnicodeDecodeError:
                error = f"line {number} is not valid UTF-8"
            except ValueError as failure:
                error = f"line {number} is not JSON: {failure}"
        yield RawRow(number, {} if error else value, error)


def _json(source: Source) -> Iterator[RawRow]:
    try:
        with _opened(source) as file:
            for row in json_rows(file):
                yield RawRow(*row)
    except ValueError as error:
        raise UsageError(
            f"{source.name} is not JSON: {error}.",
            "A file with one object a line is JSONL: name it .jsonl or use --format jsonl.",
        ) from None


def _table(source: Source) -> Iterator[RawRow]:
    try:
        between = "," if source.kind == "csv" else "\t"
        with _opened(source) as file, contextlib.closing(table_rows(file, between)) as rows:
            for row in rows:
                yield RawRow(*row)
    except ValueError as error:
        raise UsageError(f"{source.name}, {error}.") from None


def _parquet(source: Source) -> Iterator[RawRow]:
    with contextlib.closing(rows_apart(source.path, source.name)) as rows:
        for row in rows:
            yield RawRow(*row)


def _guess(source: Source) -> str:
    """The format of standard input: Parquet, JSON, JSONL, CSV or TSV with a known column, or a
    query on each line."""
    if is_parquet(source.path):
        return "parquet"
    with _opened(source) as file:
        line = b""
        while not line and (found := file.readline(MAX_LINE)):
            line = found.strip()
        text = line + file.peek(PIECE)[:PIECE]
    if re.match(rb'\[\s*([{"\]]|$)', text):
        return "json"
    if line[:1] == b"{":
        try:
            json.loads(line)
        except ValueError:
            return "json"
        except RecursionError:
            pass
        return "jsonl"
    head = line.decode("utf-8", "replace").split
    for kind, columns in (("csv", head(",")), ("tsv", head("\t"))):
        if len(columns) > 1 and {c.strip('" ') for c in columns} & COLUMNS:
            return kind
    return "text"


def _from_hub(name: str) -> Path:
    """Download `hf:user/dataset[:file]` (or find it in the hub's cache).

    Raises UsageError, or HubError where the hub does not give it."""
    repo, _, wanted = name[3:].partition(":")
    if repo.count("/") != 1 or not all(repo.split("/")):
        raise UsageError(
            f"{name!r} is not a dataset name.", "Write hf:user/dataset or hf:user/dataset:file."
        )
    if not wanted:
        names = [f.name for f in hub.repository(repo, "dataset").files]
        files = [f for f in names if Path(f).suffix in FORMATS and Path(f).suffix != ".txt"]
        if len(files) != 1:
            shown = ", ".join(files[:12]) or "none that can be read"
            raise UsageError(
                f"{name} has {len(files)} data files.", f"Name one: {name}:FILE. It has {shown}."
            )
        wanted = files[0]
    return hub.download(repo, wanted, "dataset")
