"""Finds the examples of a pool that are most similar to a question.

By BM25 over the questions (SQLite's FTS5), or by the cosine of vectors of a GGUF embedding model.
The index lies in our cache, and is made again when the pool (or the embedding model) has changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sqlite3
import stat
import tempfile
from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from urial_local.base.errors import UrialError, UsageError
from urial_local.base.files import open_regular, private_folder, write_private
from urial_local.base.paths import pools_dir
from urial_local.prompting.prompts import Turn
from urial_local.records.datasets import as_item, unsound
from urial_local.records.sources import Source, open_source, read_rows
from urial_local.runtime.embeddings import Embedder

MAX_WORDS = 300  # of an answer that becomes an example, as in the reference
MAX_TERMS = 200  # of a question that are looked for
INDEX_FORMAT = 1
_TABLES = (
    "CREATE VIRTUAL TABLE pool USING fts5(query, answer UNINDEXED, tokenize = 'porter unicode61')",
    "CREATE TABLE about (digest TEXT)",
)


class Pool:
    """A file of questions with answers, indexed. Close it, or use it as a context manager."""

    def __init__(
        self,
        name: str,
        embedder: Embedder | None = None,
        tell: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Open the pool's index, making it where it is missing or out of date.

        With an embedder, similarity is that of its vectors; `tell` hears how many are there. Raises
        UsageError for a pool that cannot be read or holds no answers, UrialError where it cannot be
        indexed.
        """
        self.name = name
        with open_source(name) as source:
            self.digest = _digest(source.path)
            # Standard input is another file each time.
            path = None if name == "-" else _index_path(source.path)
            self._database = _opened(path, self.digest) or _built(source, path, self.digest)
        self.size: int = self._rows("SELECT count(*) FROM pool")[0][0]
        self._embedder = embedder
        self._vectors: npt.NDArray[np.float32] | None = None
        if embedder is not None:
            self.digest = hashlib.sha256(
                f"{self.digest} {embedder.model.fingerprint}".encode()
            ).hexdigest()
            vectors = path.with_suffix(".vectors") if path else None
            self._vectors = self._embedded(vectors, embedder, tell)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._database.close()

    def examples(self, query: str, k: int) -> list[Turn]:
        """The k most similar examples, the most similar last, nearest to the question.

        The question itself is never among them. By BM25, fewer than k where too few share a word
        with it.
        """
        if self._vectors is not None and self._embedder is not None:
            return self._nearest(self._vectors, self._embedder.embed(query), query, k)
        terms = terms_of(query)
        if not terms or k < 1:
            return []
        match = " OR ".join(f'"{t}"' for t in terms)
        rows = self._rows(
            "SELECT query, answer FROM pool WHERE pool MATCH ? AND trim(query) <> ?"
            " ORDER BY bm25(pool), rowid LIMIT ?",
            (f"query : ({match})", query.strip(), k),
        )
        return [Turn(q, a) for q, a in reversed(rows)]

    def _rows(self, sql: str, values: tuple[Any, ...] = ()) -> list[Any]:
        try:
            return self._database.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise UrialError(
                f"The index of the pool {self.name} is damaged: {error}.",
                "`urial-local cache clear` removes it; run the same command again to rebuild it.",
            ) from None

    def _nearest(
        self,
        vectors: npt.NDArray[np.float32],
        vector: npt.NDArray[np.float32],
        query: str,
        k: int,
    ) -> list[Turn]:
        found: list[Turn] = []
        for row in np.argsort(-(vectors @ vector), kind="stable"):
            if len(found) >= k:
                break
            ((q, a),) = self._rows(
                "SELECT query, answer FROM pool WHERE rowid = ?", (int(row) + 1,)
            )
            if q.strip() != query.strip():
                found.append(Turn(q, a))
        return found[::-1]

    def _embedded(
        self, path: Path | None, embedder: Embedder, tell: Callable[[int, int], None]
    ) -> npt.NDArray[np.float32]:
        """float32 [size, dimensions]: the pool's questions as vectors, kept beside the index."""
        shape = (self.size, embedder.size)
        if path is not None and (kept := _kept_vectors(path, self.digest, shape)) is not None:
            return kept
        vectors = np.empty(shape, np.float32)
        for number, (query,) in enumerate(self._rows("SELECT query FROM pool ORDER BY rowid")):
            vectors[number] = embedder.embed(query)
            tell(number + 1, self.size)
        if path is not None:
            with contextlib.suppress(OSError):  # the next start makes them again
                write_private(path, self.digest.encode(), vectors.astype("<f4").tobytes())
        return vectors


def _kept_vectors(
    path: Path, digest: str, shape: tuple[int, int]
) -> npt.NDArray[np.float32] | None:
    """Vectors that were kept: the digest of what they are of, then their numbers."""
    head = digest.encode()
    with contextlib.suppress(OSError), open_regular(path) as file:
        if os.fstat(file.fileno()).st_size == len(head) + 4 * prod(shape):
            if file.read(len(head)) != head:
                return None
            return np.frombuffer(file.read(), "<f4").astype(np.float32).reshape(shape)
    return None


def _digest(path: Path) -> str:
    digest = hashlib.sha256(str(INDEX_FORMAT).encode())
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _index_path(pool: Path) -> Path:
    """In our cache, not beside the pool: an index that a stranger sends along with a pool would be
    believed, and a folder of the user's is not ours to write into."""
    name = hashlib.sha256(os.fsencode(os.path.realpath(pool))).hexdigest()[:32]
    return pools_dir() / f"{name}.sqlite"


def _opened(path: Path | None, digest: str) -> sqlite3.Connection | None:
    """The index that is there, if it is ours, of these bytes, and of the form that we make."""
    if path is None or not _is_ours(path):
        return None
    address = f"file:{quote(os.fspath(path))}?mode=ro&immutable=1"
    with contextlib.suppress(sqlite3.Error), contextlib.ExitStack() as undo:
        database = sqlite3.connect(address, uri=True)
        undo.callback(database.close)
        database.execute("PRAGMA trusted_schema = OFF")
        made = "SELECT sql FROM sqlite_master WHERE name IN ('pool', 'about') OR type IN (?, ?)"
        if {sql for (sql,) in database.execute(made, ("view", "trigger"))} != set(_TABLES):
            return None
        found = database.execute("SELECT digest FROM about").fetchone()
        if found and found[0] == digest:
            undo.pop_all()
            return database
    return None


def _is_ours(path: Path) -> bool:
    """Whether this is an ordinary file that only we could have written."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return (
        stat.S_ISREG(found.st_mode)
        and found.st_uid == os.geteuid()
        and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    )


def _built(source: Source, path: Path | None, digest: str) -> sqlite3.Connection:
    """Index the pool: under another name, then renamed; or in memory, where the disk takes none."""
    if path is not None:
        with contextlib.suppress(OSError, sqlite3.OperationalError):
            private_folder(path.parent)
            handle, part = tempfile.mkstemp(dir=path.parent, suffix=".part")
            os.close(handle)
            try:
                with contextlib.closing(sqlite3.connect(part)) as database:
                    _fill(database, source, digest)
                os.replace(part, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(part)
                raise
            if (opened := _opened(path, digest)) is not None:
                return opened
    database = sqlite3.connect(":memory:")
    try:
        _fill(database, source, digest)
    except sqlite3.OperationalError as error:
        database.close()
        raise UrialError(f"The pool {source.name} cannot be indexed: {error}.") from None
    return database


def _fill(database: sqlite3.Connection, source: Source, digest: str) -> None:
    """Raises UsageError for a pool that holds nothing to show."""
    # An index that was not finished is thrown away, so there is nothing to undo.
    database.execute("PRAGMA journal_mode = OFF")
    for table in _TABLES:
        database.execute(table)
    database.execute("INSERT INTO about VALUES (?)", (digest,))
    database.executemany("INSERT INTO pool VALUES (?, ?)", _pairs(source))
    (n,) = database.execute("SELECT count(*) FROM pool").fetchone()
    database.commit()
    if not n:
        raise UsageError(f"The pool {source.name} holds no question with an answer.")


def _pairs(source: Source) -> Iterator[tuple[str, str]]:
    """Questions with their answers; answers of many words are cut, whole words kept."""
    for number, row in enumerate(read_rows(source)):
        item = as_item(number, row)
        if item.error or not (item.answer or "").strip() or unsound(item.answer or ""):
            continue
        yield item.query, first_words(item.answer or "", MAX_WORDS)


def terms_of(query: str) -> list[str]:
    """The words of a question that are looked for: each once, in its order."""
    return list(dict.fromkeys(re.findall(r"\w+", query.lower())))[:MAX_TERMS]


def first_words(text: str, most: int) -> str:
    """The text up to its last word but `most`, with a mark where words were left out."""
    # Blanks that no word follows would be tried from each of them on.
    words = re.findall(r"\s*\S+", text.rstrip())
    return "".join(words[:most]).strip() + (" …" if len(words) > most else "")
