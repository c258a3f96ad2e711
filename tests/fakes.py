"""Test doubles: a model whose logits are known for every context, and its byte vocabulary."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np

from urial_local.base.errors import ContextOverflow
from urial_local.runtime.sequences import Aborted, BatchToken

END = 0


class ByteVocab:
    """Token 0 ends the text, token n is the byte n. A piece may be set to anything."""

    def __init__(self, size: int = 128) -> None:
        self.size = size
        self.pieces = {n: bytes([n]) for n in range(1, size)}
        self.pieces[END] = b""

    def is_end(self, token: int) -> bool:
        return token == END

    def piece(self, token: int) -> bytes:
        return self.pieces[token]

    def encode(self, text: str) -> list[int]:
        return list(text.encode("ascii"))


def random_logits(size: int = 128) -> Callable[[tuple[int, ...]], np.ndarray]:
    """Logits that are a fixed, arbitrary function of the whole context."""

    def logits(context: tuple[int, ...]) -> np.ndarray:
        digest = hashlib.sha256(repr(context).encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "little"))
        return rng.normal(size=size).astype(np.float32)

    return logits


def script(answers: dict[str, str], size: int = 128) -> Callable[[tuple[int, ...]], np.ndarray]:
    """Logits that write `answers[query]` after a prompt that ends with `query`, then end."""

    def logits(context: tuple[int, ...]) -> np.ndarray:
        text = bytes(context).decode("ascii")
        row = np.zeros(size, np.float32)
        for query, answer in answers.items():
            at = text.rfind(query)
            if at >= 0 and answer.startswith(text[at + len(query) :]):
                rest = answer[len(text) - at - len(query) :]
                row[ord(rest[0]) if rest else END] = 20.0
                return row
        row[END] = 20.0
        return row

    return logits


class FakeDecoder:
    """Keeps the books that llama.cpp keeps, and refuses what llama.cpp would get wrong."""

    def __init__(
        self,
        logits: Callable[[tuple[int, ...]], np.ndarray],
        *,
        n_seq: int = 2,
        cells: int = 4096,
        batch_size: int = 64,
        recurrent: bool = False,
        window: int = 0,
    ) -> None:
        """`window`: tokens attended to; a loaded state then holds no others, as llama.cpp's."""
        self.logits_of, self.threads = logits, 1
        self.n_seq, self.cells, self.batch_size = n_seq, cells, batch_size
        self.recurrent, self.window = recurrent, window
        self.cuttable = not recurrent
        self.abort_flag = np.zeros(1, np.int32)
        self.sequences: list[list[object]] = [[] for _ in range(n_seq)]  # of cells, shared or not
        self.decoded = 0  # tokens
        self.batches: list[int] = []
        self.most_cells = 0
        self.abort_after = -1  # batches

    def tokens(self, sequence: int) -> tuple[int, ...]:
        return tuple(cell[0] for cell in self.sequences[sequence])  # type: ignore[index]

    def decode(self, tokens: list[BatchToken]) -> np.ndarray:
        assert 0 < len(tokens) <= self.batch_size
        if self.abort_after == 0 or self.abort_flag[0]:
            raise Aborted
        self.abort_after -= 1
        rows = []
        for t in tokens:
            cells = self.sequences[t.sequence]
            assert t.position == len(cells), "positions must follow on each other"
            if self.window:
                seen = cells[max(0, len(cells) - self.window + 1) :]
                assert all(len(c) == 1 for c in seen), "a lost cell is attended to"  # type: ignore[arg-type]
            cells.append([t.token])  # a new object: a cell of its own
            if t.wanted:
                rows.append(self.logits_of(self.tokens(t.sequence)))
        used = len({id(c) for s in self.sequences for c in s})
        if used > self.cells:
            raise ContextOverflow("full")
        self.most_cells = max(self.most_cells, used)
        self.decoded += len(tokens)
        self.batches.append(len(tokens))
        return np.array(rows, np.float32)

    def copy(self, source: int, target: int, n: int) -> bool:
        kept = self.sequences[source][:n] if self.holds(source, n) else []
        self.sequences[target] = kept
        return len(kept) == n

    def cut(self, sequence: int, n: int) -> bool:
        kept = n == 0 or self.holds(sequence, n)
        del self.sequences[sequence][n if kept else 0 :]
        return kept

    def holds(self, sequence: int, n: int) -> bool:
        cells = self.sequences[sequence]
        if self.recurrent:
            return len(cells) == n
        least = next((i for i, c in enumerate(cells) if len(c) == 1), 0)  # type: ignore[arg-type]
        return len(cells) >= n and (not self.window or least <= max(0, n - self.window))

    def clear(self, sequence: int) -> None:
        self.sequences[sequence] = []

    def save(self, sequence: int) -> bytes:
        return bytes(self.tokens(sequence))

    def settle(self, sequence: int, keep: bool) -> bytes:
        state = self.save(sequence)
        if self.window:
            self.load(sequence, memoryview(state), len(state))
        return state if keep else b""

    def load(self, sequence: int, state: memoryview, n: int) -> bool:
        """Cells that are lost keep their token for the books, and are longer than others."""
        lost = max(0, n - self.window) if self.window else 0
        self.sequences[sequence] = [[t, None] if i < lost else [t] for i, t in enumerate(state)]
        return len(state) == n


class FakeModel:
    """A model's face over the byte vocabulary, for the floors above the runtime."""

    chat_template = ""
    name = description = "fake"
    fingerprint = "f" * 32
    path = Path("fake.gguf")

    def __init__(self) -> None:
        self.vocab = _TextVocab()


class _TextVocab(ByteVocab):
    def tokenize(self, text: str, *, parse_special: bool = False, literals: object = None):
        return np.array(self.encode(text), np.int32)

    def count(self, text: str) -> int:
        return len(self.encode(text))


class WordVocab:
    """A vocabulary of text: token 0 ends, 1 … 127 are ASCII characters, more are words."""

    def __init__(self, words: tuple[str, ...] = ()) -> None:
        self.words = words
        self.size = 128 + len(words)

    def is_end(self, token: int) -> bool:
        return token == END

    def piece(self, token: int) -> bytes:
        if token == END:
            return b""
        return self.words[token - 128].encode() if token >= 128 else bytes([token])

    def detokenize(self, tokens: list[int]) -> str:
        return b"".join(map(self.piece, tokens)).decode()

    def encode(self, text: str) -> list[int]:
        """The longest word at each place, else a character."""
        found = []
        while text:
            fits = [w for w in self.words if text.startswith(w)]
            word = max(fits, key=len, default=text[0])
            found.append(128 + self.words.index(word) if word in self.words else ord(word))
            text = text[len(word) :]
        return found

    def continuation(self, prompt: str, answer: str) -> np.ndarray:
        return np.array(self.encode(answer), np.int32)


def text_script(vocab: WordVocab, says: Callable[[str], tuple[str, float]]):
    """Logits of a model that goes on as `says(text)`: the next text, and how sure it is."""

    def logits(context: tuple[int, ...]) -> np.ndarray:
        more, sure = says(vocab.detokenize(list(context)))
        row = np.zeros(vocab.size, np.float32)
        token = vocab.encode(more)[0] if more else END
        # p / (1 - p) of the one against all others
        row[token] = np.log(sure * (vocab.size - 1) / (1 - sure))
        return row

    return logits


def greedy(logits, prompt: list[int], n: int) -> tuple[int, ...]:
    """The oracle: one row, no cache, no batch."""
    tokens = list(prompt)
    for _ in range(n):
        token = int(logits(tuple(tokens)).argmax())
        if token == END:
            break
        tokens.append(token)
    return tuple(tokens[len(prompt) :])


class Stdin:
    def __init__(self, data: bytes) -> None:
        self.buffer = io.BytesIO(data)

    def isatty(self) -> bool:
        return False
