"""Compares the vocabularies of a base and an aligned model, id by id."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from urial_local.base.errors import UsageError
from urial_local.runtime.llama_api import lib
from urial_local.runtime.vocabulary import Ids, Vocabulary


@dataclass(frozen=True, slots=True)
class VocabularyPair:
    """What two vocabularies share. `difference` names the first difference, or is empty.

    An id is shared when both models have it and it stands for the same bytes in both.
    """

    difference: str
    remark: str  # worth saying, but no obstacle: other BOS or EOS ids
    n_base: int
    n_aligned: int
    shared: Ids  # ascending ids that both have

    @property
    def same(self) -> bool:
        return not self.difference

    def place(self) -> npt.NDArray[np.int32]:
        """int32 [n_aligned]: where each aligned id stands in `shared`, -1 for "not in base"."""
        place = np.full(self.n_aligned, -1, np.int32)
        place[self.shared] = np.arange(len(self.shared), dtype=np.int32)
        return place


def compare_vocabularies(base: Vocabulary, aligned: Vocabulary) -> VocabularyPair:
    """Type, size and the bytes of every token. Raises UsageError for different types: there, equal
    ids mean nothing."""
    if base.type != aligned.type:
        raise UsageError(
            f"The vocabularies are of different types: {_type(base)} (base) and"
            f" {_type(aligned)} (aligned).",
            "Shift compares a base model with a model that was trained from it.",
        )
    n = min(base.size, aligned.size)
    texts = [(base.text(i), aligned.text(i)) for i in range(n)]
    equal = np.array([a == b for a, b in texts], bool)
    difference = ""
    if not equal.all():
        first = int(np.argmin(equal))
        ours, theirs = texts[first]
        difference = f"Token {first} is {ours!r} in the base model and {theirs!r} in the aligned."
    elif base.size != aligned.size:
        longer, name = (aligned, "aligned") if aligned.size > n else (base, "base")
        difference = (
            f"The base model has {base.size:,} tokens and the aligned one {aligned.size:,}: only"
            f" the {name} has token {n}, {longer.text(n)!r}."
        )
    remark = "; ".join(
        f"{role} is {base.text(a)!r} in the base model and {aligned.text(b)!r} in the aligned"
        for role, a, b in (("BOS", base.bos, aligned.bos), ("EOS", base.eos, aligned.eos))
        if a != b
    )
    shared = np.flatnonzero(equal).astype(np.int32)
    return VocabularyPair(difference, remark, base.size, aligned.size, shared)


def _type(vocab: Vocabulary) -> str:
    names = {
        lib.LLAMA_VOCAB_TYPE_SPM: "SentencePiece",
        lib.LLAMA_VOCAB_TYPE_BPE: "byte-pair (BPE)",
        lib.LLAMA_VOCAB_TYPE_WPM: "WordPiece",
        lib.LLAMA_VOCAB_TYPE_UGM: "Unigram",
        lib.LLAMA_VOCAB_TYPE_RWKV: "RWKV",
    }
    return names.get(vocab.type, f"type {vocab.type}")
