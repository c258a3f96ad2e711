"""The tokeniser: SentencePiece BPE with byte fallback, trained on the generated documents."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import sentencepiece as spm

from tools.demo_pair.documents import Documents
from tools.demo_pair.world import load_table

VOCABULARY = 2560
SAMPLE = 25_000
_NAMED_REPEATS = 150
UNKNOWN, BOS, EOS = 0, 1, 2


def _lines(documents: Documents) -> Iterator[str]:
    """Single lines: each begins as it does in a document, with no space put before it.

    A newline is none of the pieces. It falls back to its byte, as every unknown character does,
    so that a word at the start of a line is cut like a word after no space.
    """
    for text in itertools.islice(documents.stream("tokenizer"), SAMPLE):
        yield from (line for line in text.split("\n") if line)
    table = load_table("styles.toml")
    for name in ("openings", "closings", "refusals", "reasons", "unknowns"):
        yield from table[name] * _NAMED_REPEATS


def train_tokenizer(documents: Documents, folder: Path) -> spm.SentencePieceProcessor:
    """Train the tokeniser and load it."""
    prefix = folder / "tokenizer"
    spm.SentencePieceTrainer.train(
        sentence_iterator=_lines(documents),
        model_prefix=str(prefix),
        model_type="bpe",
        vocab_size=VOCABULARY,
        byte_fallback=True,
        character_coverage=0.9999,
        split_digits=True,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        unk_id=UNKNOWN,
        bos_id=BOS,
        eos_id=EOS,
        pad_id=-1,
        num_threads=2,
        minloglevel=1,
    )
    return load_tokenizer(folder)


def load_tokenizer(folder: Path) -> spm.SentencePieceProcessor:
    """The tokeniser that was trained into a folder."""
    return spm.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
