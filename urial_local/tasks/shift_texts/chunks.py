"""Texts as stretches of tokens that are scored, and how a model reads each.

Two ways, by `score`:

all          Every token of a text is scored. A text is cut into stretches that follow on each
             other; each is read from its start, after BOS where the vocabulary adds one, and with
             it is at most `ctx` tokens. Where either model adds none, nothing stands before a
             stretch's first token, so that it is not scored.
second-half  As llama.cpp's `llama-perplexity`: the text is tokenised with BOS where the vocabulary
             adds one, and cut into stretches of exactly `ctx` tokens; what is left over is not
             read. A stretch's first token is replaced by BOS where the vocabulary adds one. Scored
             are the tokens from number ⌊ctx/2⌋ + 1 (from 0) to the last: ctx - 1 - ⌊ctx/2⌋ of them.

Texts never become control tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from urial_local.base.errors import UsageError
from urial_local.base.paths import user_path
from urial_local.base.texts import read_text
from urial_local.records.datasets import Fields, Item, Selection, count, iterate
from urial_local.records.runlog import asked_digest
from urial_local.records.sources import FORMATS, Source, open_source, read_rows
from urial_local.runtime.vocabulary import Ids

Score = Literal["all", "second-half"]
SCORES: tuple[Score, ...] = ("all", "second-half")
MAX_TEXT = 64 << 20  # bytes of a file that is one text
SHORTEST = 2  # tokens of a stretch in which something can be scored
TEXT_FIELD = "text"


class Tokeniser(Protocol):
    """What is needed of a vocabulary."""

    add_bos: bool
    bos: int

    def tokenize(self, text: str) -> Ids: ...


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stretch of a text. `tokens`: int32 [n], without a BOS that is put before it."""

    id: str  # the text's
    number: int  # of the stretch among all, from 0
    chunk: int  # of the stretch in its text, from 0
    tokens: Ids

    @property
    def asked(self) -> str:
        """Tells whether it is still the same when a run is resumed."""
        return asked_digest(" ".join(map(str, self.tokens.tolist())))


@dataclass(frozen=True, slots=True)
class Reading:
    """How a stretch is read: what each model has before the tokens that are scored."""

    base: list[int]
    aligned: list[int]
    scored: list[int]


def read_texts(
    name: str,
    fields: Fields,
    selection: Selection,
    kind: str | None = None,
) -> list[Item]:
    """The texts of a file: all of a .txt is one text; else a row's field `text` is, or the field
    that is chosen, or what a question would be. Raises UsageError."""
    path = user_path(name)
    plain = (kind or FORMATS.get(path.suffix.lower())) == "text"
    if plain and name != "-" and not name.startswith("hf:"):
        text = read_text(path, "The text", MAX_TEXT, error=UsageError)
        # As llama.cpp reads a file: without the line break at its end.
        text = text.removesuffix("\n")
        if not text.strip():
            raise UsageError(f"{name} is empty.")
        return [Item(path.stem, 0, text)]
    with open_source(name, kind) as source:
        chosen = fields if fields.query else Fields(_text_field(source), id=fields.id)
        count(source, chosen, selection)
        return list(iterate(source, chosen, selection))


def _text_field(source: Source) -> str | None:
    first = next(iter(read_rows(source)), None)
    return TEXT_FIELD if first is not None and TEXT_FIELD in first.fields else None


def cut(
    texts: Sequence[Item], vocab: Tokeniser, ctx: int, score: Score, bos: bool
) -> tuple[list[Chunk], int]:
    """The stretches of texts in their order, and how many texts have none, since they are too
    short or cannot be used. `bos`: whether both models begin with one."""
    found: list[Chunk] = []
    short = 0
    for item in texts:
        before = len(found)
        if not item.error:
            for i, tokens in enumerate(_stretches(vocab, item.query, ctx, score, bos)):
                found.append(Chunk(item.id, len(found), i, tokens))
        short += len(found) == before
    if not found:
        least = ctx if score == "second-half" else SHORTEST
        raise UsageError(
            f"None of the texts has {least:,} tokens, so there is nothing to score.",
            "Use a smaller `ctx`, or longer texts." if score == "second-half" else "",
        )
    return found, short


def _stretches(vocab: Tokeniser, text: str, ctx: int, score: Score, bos: bool) -> Iterator[Ids]:
    ids = vocab.tokenize(text)
    if score == "second-half":
        for start in range(0, len(ids) - ctx + 1, ctx):
            yield ids[start : start + ctx]
        return
    if vocab.add_bos and len(ids) and ids[0] == vocab.bos:
        ids = ids[1:]
    size = ctx - 1
    least = 1 if bos else SHORTEST
    for start in range(0, len(ids), size):
        if len(ids) - start >= least:
            yield ids[start : start + size]


def reading(tokens: Ids, score: Score, base: Tokeniser, aligned: Tokeniser) -> Reading:
    """See the module's text."""
    ids = [int(t) for t in tokens]
    sides = (base, aligned)
    if score == "second-half":
        first = len(ids) // 2
        b, a = ([v.bos if v.add_bos else ids[0], *ids[1 : first + 1]] for v in sides)
        return Reading(b, a, ids[first + 1 :])
    begun = [[v.bos] if v.add_bos else [] for v in sides]
    if not all(begun):
        begun, ids = [[*one, ids[0]] for one in begun], ids[1:]
    return Reading(begun[0], begun[1], ids)


def of_shard(chunks: Sequence[Chunk], shard: tuple[int, int] | None) -> list[Chunk]:
    """The i-th of n parts, by the number of the stretch."""
    return [c for c in chunks if shard is None or c.number % shard[1] == shard[0] - 1]


def begin_alike(base: Tokeniser, aligned: Tokeniser) -> bool:
    """Whether both models begin with a BOS."""
    return bool(base.add_bos and aligned.add_bos)
