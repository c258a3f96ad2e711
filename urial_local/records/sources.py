"""Opens files of rows and reads them one at a time, whatever their size.

JSON arrays, JSONL, CSV, TSV, plain text (a line a row), Parquet (the [data] extra), standard input,
and datasets on the Hugging Face hub (`hf:user/name[:file]`). Knows nothing of what rows mean.
"""

from __future__ import annotations

import base64
import codecs
import contextlib
import csv
import json
import math
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from urial_local.base import hub
from urial_local.base.errors import UsageError, near
from urial_local.base.no_model import LFS_ADVICE, LFS_POINTER
from urial_local.records.runlog import RunRows

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
BROKEN = "\uffff"  # stands for bytes that are not UTF-8; a noncharacter, which no text holds
codecs.register_error("urial-broken", lambda e: (BROKEN, getattr(e, "end", 0)))


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
            shutil.copyfileobj(sys.stdin.buffer, spool)
            spool.flush()
            yield Source(Path(spool.name), kind or _guess(Path(spool.name)), "standard input")
        return
    path = _from_hub(name) if name.startswith("hf:") else Path(name).expanduser()
    if path.is_dir() and (path / "rows.jsonl").exists():
        yield Source(path, "run", name)
        return
    if path.is_dir():
        raise UsageError(f"{path} is a folder, and holds no run.", "Name a file of rows in it.")
    if not path.is_file():
        siblings = [p.name for p in path.parent.glob("*") if p.suffix in FORMATS]
        raise UsageError(f"There is no file {path}.", near(path.name, siblings) if siblings else "")
    found = kind or FORMATS.get(path.suffix.lower())
    if found is None:
        raise UsageError(
            f"{path} has no ending that says its format.",
            f"Name it with --format, one of {', '.join(sorted(set(FORMATS.values())))}.",
        )
    with path.open("rb") as file:
        if file.read(len(LFS_POINTER)) == LFS_POINTER:
            raise UsageError(
                f"{path} is a pointer of Git LFS, which stands for a file.", LFS_ADVICE
            )
    yield Source(path, found, name)


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
                fields = {str(k): plain(v) for k, v in row.fields.items()}
            except RecursionError:
                yield RawRow(row.line, {}, f"row {row.line} is nested too deeply")
                continue
            yield RawRow(row.line, fields, row.error)
    except OSError as error:
        raise UsageError(f"{source.name} cannot be read: {error.strerror or error}.") from None


def plain(value: Any) -> Any:
    """A value that JSON can hold: no NaN or infinity, no dates, no bytes."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _run(source: Source) -> Iterator[RawRow]:
    """The rows of a run: what the dataset held, with the answer that was made."""
    rows = sorted(RunRows(source.path, ("id",)), key=lambda r: int(r.get("number", 0)))
    for number, row in enumerate(rows, 1):
        kept = row.get("fields")
        fields = dict(kept) if isinstance(kept, Mapping) else dict(row)
        yield RawRow(number, {**fields, "id": row.get("id"), "answer": row.get("answer")})


def _lines(source: Source) -> Iterator[tuple[int, bytes, str]]:
    """(number, line, error) of lines that are not blank."""
    with source.path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE + 1):
            number += 1
            if number == 1:
                line = line.removeprefix(BOM) or b"\n"
            if len(line) > MAX_LINE:
                while line and not line.endswith(b"\n"):
                    line = file.readline(MAX_LINE)
                yield number, b"", f"line {number} has more than {MAX_LINE >> 20} MB"
            elif line.strip():
                yield number, line, ""


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
                value = json.loads(line.decode("utf-8"))
                if not isinstance(value, dict):
                    value, error = {}, f"line {number} is not an object"
            except UnicodeDecodeError:
                error = f"line {number} is not valid UTF-8"
            except (ValueError, RecursionError) as failure:
                error = f"line {number} is not JSON: {failure}"
        yield RawRow(number, value if not error else {}, error)


def _json(source: Source) -> Iterator[RawRow]:
    import ijson

    with source.path.open("rb") as file:
        bom = 3 if file.read(3) == BOM else 0
        file.seek(bom)
        start = file.read(4096).lstrip()[:1]
        file.seek(bom)
        try:
            if not start:
                return
            if start == b"{":  # one object: a single row
                yield RawRow(1, json.loads(file.read(MAX_LINE).decode("utf-8-sig")))
                return
            text = _Mended(file)
            for number, value in enumerate(ijson.items(text, "item", use_float=True), 1):
                if text.broken and BROKEN in json.dumps(value, ensure_ascii=False):
                    yield RawRow(number, {}, f"row {number} is not valid UTF-8")
                elif isinstance(value, dict):
                    yield RawRow(number, value)
                elif isinstance(value, str):
                    yield RawRow(number, {"query": value})
                else:
                    yield RawRow(number, {}, f"row {number} is not an object")
        except (ValueError, RecursionError, ijson.JSONError) as error:
            said = error.args[0] if error.args else ""
            said = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(error)
            raise UsageError(
                f"{source.name} is not JSON: {said.strip()}",
                "A file with one object a line is JSONL: name it .jsonl or use --format jsonl.",
            ) from None


class _Mended:
    """A file whose bytes that are not UTF-8 read as BROKEN, so that one bad row costs itself only:
    the parser would give up the whole file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8")("urial-broken")
        self.broken = False

    def read(self, size: int) -> bytes:
        if size == 0:
            return b""
        while True:
            data = self._file.read(size)
            text = self._decoder.decode(data, final=not data)
            self.broken = self.broken or BROKEN in text
            if text or not data:
                return text.encode("utf-8")


def _table(source: Source) -> Iterator[RawRow]:
    # Bytes that are not UTF-8 become lone surrogates here, and an error where the row is read.
    with source.path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        csv.field_size_limit(MAX_LINE)
        # Strict: a quote that is never closed is an error, rather than a field of many rows.
        reader = csv.DictReader(file, delimiter="," if source.kind == "csv" else "\t", strict=True)
        try:
            for fields in reader:
                number = reader.line_num
                extra = fields.pop(None, None)
                if extra:
                    yield RawRow(number, {}, f"line {number} has more fields than the first line")
                elif any(_broken(v) for v in fields.values()):
                    yield RawRow(number, {}, f"line {number} is not valid UTF-8")
                else:
                    yield RawRow(number, {k: v for k, v in fields.items() if v is not None})
        except csv.Error as error:
            raise UsageError(f"{source.name}, line {reader.line_num}: {error}") from None


def _broken(text: str | None) -> bool:
    return any("\ud800" <= c <= "\udfff" for c in text or "")


def _parquet(source: Source) -> Iterator[RawRow]:
    try:
        from pyarrow import ArrowInvalid, parquet
    except ImportError:
        raise UsageError(
            "Parquet needs pyarrow, which is not installed.", "pip install 'urial-local[data]'"
        ) from None
    try:
        number = 0
        for batch in parquet.ParquetFile(source.path).iter_batches(batch_size=256):
            for fields in batch.to_pylist():
                number += 1
                yield RawRow(number, fields)
    except ArrowInvalid as error:
        raise UsageError(f"{source.name} is not a Parquet file: {error}") from None


def _guess(path: Path) -> str:
    """The format of standard input: JSON, JSONL, CSV or TSV with a known column, or a query on
    each line."""
    with path.open("rb") as file:
        start = file.read(1 << 16)
    text = start.removeprefix(BOM).lstrip()
    if re.match(rb'\[\s*[{"\]]', text):
        return "json"
    if text[:1] == b"{":
        line = text.strip().split(b"\n", 1)[0]
        with contextlib.suppress(ValueError):
            json.loads(line)
            return "jsonl"
        return "json"
    head = text.split(b"\n", 1)[0].decode("utf-8", "replace").strip().split
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
            f"{name!r} is no dataset.", "Write hf:user/dataset or hf:user/dataset:file."
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
