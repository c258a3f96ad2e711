"""Rows of Parquet (the [data] extra). What a file says of its own size is looked at before it is
unpacked: a few bytes of it can stand for any amount of memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from urial_local.base import formats
from urial_local.base.errors import UsageError

Parsed = tuple[int, Mapping[str, Any], str]  # the row's number from 1, its fields, what is wrong
MAGIC = b"PAR1"
MAX_UNPACKED = 256 << 20  # bytes and values that any file may unpack to
MAX_RATIO = 200  # of what a larger one unpacks to and its size; texts shrink to a tenth at best
BATCH = 256  # rows


def is_parquet(path: Path) -> bool:
    """By its first and last bytes."""
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            return False
        size = file.seek(0, 2)
        file.seek(max(0, size - len(MAGIC)))
        return size > 2 * len(MAGIC) and file.read() == MAGIC


def parquet_rows(path: Path, name: str) -> Iterator[Parsed]:
    """The rows of a file. Raises UsageError where pyarrow is missing or the file cannot be read."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise UsageError(
            "Parquet needs pyarrow, which is not installed.", "pip install 'urial-local[data]'"
        ) from None
    try:
        with parquet.ParquetFile(path) as file:
            _refuse_bomb(file.metadata, path, name)
            _refuse_twice(file.schema_arrow.names, name)
            texts = [c.path for c in map(file.schema.column, range(len(file.schema.names)))
                     if c.physical_type == "BYTE_ARRAY" and not c.max_repetition_level
                     and "." not in c.path]  # fmt: skip
        # As dictionaries, so that a long text that many rows have is in memory once; not inside
        # lists and structs, where pyarrow does not join the dictionaries of several row groups.
        with parquet.ParquetFile(path, read_dictionary=texts) as file:
            number = 0
            for batch in file.iter_batches(batch_size=BATCH):
                columns = dict(zip(batch.schema.names, batch.columns, strict=True))
                for i in range(batch.num_rows):
                    number += 1
                    yield _row(number, columns, i)
    except (MemoryError, RecursionError):
        raise UsageError(f"{name} does not fit in memory when unpacked.") from None
    except ArrowException as error:
        raise UsageError(f"{name} is not a Parquet file that can be read: {error}") from None


def _refuse_bomb(metadata: Any, path: Path, name: str) -> None:
    unpacked = 0
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        unpacked += max(0, group.num_rows)
        for column in map(group.column, range(group.num_columns)):
            unpacked += max(0, column.total_uncompressed_size) + max(0, column.num_values)
    size = path.stat().st_size
    if unpacked > max(MAX_UNPACKED, MAX_RATIO * size):
        raise UsageError(
            f"{name} has {formats.size(size)} and would unpack to {formats.size(unpacked)}; no file"
            " of texts does that.",
            "If this is intended, write it as JSONL.",
        )


def _refuse_twice(names: list[str], name: str) -> None:
    (column, times), *_ = Counter(names).most_common(1) or [("", 0)]
    if times > 1:
        raise UsageError(f"{name} has the column {column!r} twice.")


def _row(number: int, columns: Mapping[str, Any], i: int) -> Parsed:
    fields = {}
    for name, column in columns.items():
        try:
            fields[name] = _value(column[i])
        except (ValueError, OverflowError, NotImplementedError, RecursionError) as error:
            return number, {}, f"row {number} has a field {name!r} that cannot be read: {error}"
    return number, fields, ""


def _value(scalar: Any) -> Any:
    """A cell as Python has it; times that are finer or further than its own as text, and texts that
    are not UTF-8 as bytes."""
    try:
        return scalar.as_py()
    except (ValueError, OverflowError):
        pass
    if hasattr(scalar, "as_buffer"):  # text or bytes
        return bytes(scalar.as_buffer())
    if isinstance(scalar, Mapping):  # of a struct
        return {name: _value(inner) for name, inner in scalar.items()}
    if hasattr(scalar, "values"):  # of a list
        return [_value(inner) for inner in scalar.values]
    if hasattr(scalar, "dictionary"):
        return _value(scalar.value)
    return scalar.cast("string").as_py()
