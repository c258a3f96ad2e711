"""Finds the examples of a pool that are most similar to a question.

By BM25 over the questions (SQLite's FTS5), or by the cosine of vectors of a GGUF embedding model.
The index lies beside the pool, and is made anew when the pool (or the embedding model) has changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sqlite3
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from urial_local.base.errors import UsageError
from urial_local.base.paths import cache_dir
from urial_local.prompting.prompts import Turn
from urial_local.records.datasets import as_item, unsound
from urial_local.records.sources import open_source, read_rows
from urial_local.runtime.embeddings import Embedder

MAX_WORDS = 300  # of an answer that becomes an example, as in the reference
MAX_TERMS = 200  # of a question that are looked for
INDEX_FORMAT = 1


class Pool:
    """A file of questions with answers, indexed. Close it, or use it as a context manager."""

    def __init__(
        self,
        name: str,
        index: Path | None = None,
        embedder: Embedder | None = None,
        tell: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Open the pool's index, making it where it is missing or out of date.

        With an embedder, similarity is that of its vectors; `tell` hears how many are there. Raises
        UsageError for a pool that cannot be read or holds no answers.
        """
        with open_source(name) as source:
            self.digest = _digest(source.path)
            path = index or _index_path(source.path, self.digest)
            if not _current(path, self.digest):
                _build(name, path, self.digest)
        self._database = sqlite3.connect(path)
        self.size: int = self._database.execute("SELECT count(*) FROM pool").fetchone()[0]
        self._embedder = embedder
        self._vectors: npt.NDArray[np.float32] | None = None
        if embedder is not None:
            self.digest = hashlib.sha256(
                f"{self.digest} {embedder.model.fingerprint}".encode()
            ).hexdigest()
            self._vectors = self._embedded(path.with_suffix(".npz"), embedder, tell)

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
        rows = self._database.execute(
            "SELECT query, answer FROM pool WHERE pool MATCH ? AND trim(query) <> ?"
            " ORDER BY bm25(pool), rowid LIMIT ?",
            (f"query : ({match})", query.strip(), k),
        ).fetchall()
        return [Turn(q, a) for q, a in reversed(rows)]

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
            q, a = self._database.execute(
                "SELECT query, answer FROM pool WHERE rowid = ?", (int(row) + 1,)
            ).fetchone()
            if q.strip() != query.strip():
                found.append(Turn(q, a))
        return found[::-1]

    def _embedded(
        self, path: Path, embedder: Embedder, tell: Callable[[int, int], None]
    ) -> npt.NDArray[np.float32]:
        """float32 [size, dimensions]: the pool's questions as vectors, kept beside the index."""
        damaged = (OSError, ValueError, KeyError, zipfile.BadZipFile)
        with contextlib.suppress(*damaged), np.load(path, allow_pickle=False) as kept:
            if str(kept["digest"]) == self.digest:
                return np.asarray(kept["vectors"], np.float32)
        vectors = np.empty((self.size, embedder.size), np.float32)
        rows = self._database.execute("SELECT query FROM pool ORDER BY rowid")
        for number, (query,) in enumerate(rows):
            vectors[number] = embedder.embed(query)
            tell(number + 1, self.size)
        part = path.with_name(f"{path.name}.{os.getpid()}.part.npz")
        np.savez(part, vectors=vectors, digest=np.array(self.digest))
        os.replace(part, path)
        return vectors


def _digest(path: Path) -> str:
    digest = hashlib.sha256(str(INDEX_FORMAT).encode())
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _current(path: Path, digest: str) -> bool:
    if not path.is_file():
        return False
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path)) as database:
        found = database.execute("SELECT digest FROM about").fetchone()
        return bool(found and found[0] == digest)
    return False


def _index_path(pool: Path, digest: str) -> Path:
    """Beside the pool, or in our cache where that folder cannot be written."""
    if os.access(pool.parent, os.W_OK):
        return pool.with_name(pool.name + ".bm25.sqlite")
    folder = cache_dir() / "pools"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{digest}.bm25.sqlite"


def _build(name: str, path: Path, digest: str) -> None:
    """Index the pool under another name, then rename."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(part)) as database:
        database.execute(
            "CREATE VIRTUAL TABLE pool USING fts5(query, answer UNINDEXED,"
            " tokenize = 'porter unicode61')"
        )
        database.execute("CREATE TABLE about (digest TEXT)")
        database.execute("INSERT INTO about VALUES (?)", (digest,))
        database.executemany("INSERT INTO pool VALUES (?, ?)", _pairs(name))
        (n,) = database.execute("SELECT count(*) FROM pool").fetchone()
        database.commit()
    if not n:
        part.unlink()
        raise UsageError(f"The pool {name} holds no question with an answer.")
    os.replace(part, path)


def _pairs(name: str) -> Iterator[tuple[str, str]]:
    """Questions with their answers; answers of many words are cut, whole words kept."""
    with open_source(name) as source:
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
