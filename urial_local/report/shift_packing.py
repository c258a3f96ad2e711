"""The numbers of one answer for the page, in as few bytes as a reader's eye allows.

The lists of ten tokens are most of them. At each position the models' lists hold much the same
tokens, so the different ones stand there once, in the order in which they first come (the aligned
model's list, then each context's), as numbers of a sorted list of all ids of the answer; each
context's list is places among them. Probabilities: a list's first to hundredths of a percent, the
next two to two digits, the others within 5 % of themselves; divergences and entropies to two
digits. `unfold` in shift_answers.js reads it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from urial_local.runtime.row_scores import IdArray
from urial_local.runtime.shift_rows import TOP, FloatArray
from urial_local.tasks.shift.record import Answer
from urial_local.tasks.shift.scoring import INFINITE, Columns

NUMBERS = 0x80  # the character that stands for 0 in texts of numbers; without surrogates
PLACES = 0x5D  # the same in texts of places
LEVELS = 91  # of probabilities from 1 to 1e-4 on a logarithmic scale; the last is all below
FINE = 3  # probabilities of a list that have digits


def details(answer: Answer) -> dict[str, Any]:
    """What the page unpacks when the answer is opened. Texts hold all sides one after the other,
    the aligned model first, since alike things pack better together."""
    sides = [
        _Side(answer.aligned_columns, "aligned"),
        *(_Side(columns, "base") for columns in answer.contexts.values()),
    ]
    present = [
        list(dict.fromkeys(int(v) for side in sides for v in side.top[t] if v >= 0))
        for t in range(len(answer.ids))
    ]
    known = sorted({v for tokens in present for v in tokens})
    number = {v: i for i, v in enumerate(known)}
    place = [{v: chr(PLACES + i) for i, v in enumerate([-1, *tokens])} for tokens in present]
    bases = sides[1:]
    return {
        "ids": answer.ids.tolist(),
        "known": np.diff(known, prepend=0).tolist(),  # steps, which are small
        "present": "".join(_letter(number[v]) for tokens in present for v in tokens),
        "many": [len(tokens) for tokens in present],
        "top": "".join(place[t][int(v)] for s in sides for t, row in enumerate(s.top) for v in row),
        "first": "".join(_letter(round(v * 10_000)) for s in sides for v in s.p[:, 0]),
        "next": "".join(_letter(_share(v)) for s in sides for v in s.p[:, 1:FINE].ravel()),
        "rest": "".join(_level(v) for s in sides for v in s.p[:, FINE:TOP].ravel()),
        "outside": "".join(_level(v) for s in sides for v in s.outside),
        # Of tokens that are not among the ten, which say it themselves.
        "p": "".join(_number(v) for s in sides for v in s.written(answer.ids)),
        "rank": [s.rank[s.unlisted(answer.ids)].tolist() for s in sides],
        "entropy": "".join(_number(v) for s in sides for v in s.column("entropy")),
        "kl": "".join(_number(v) for s in bases for v in s.divergence("kl_base_aligned")),
        "kl_back": "".join(_number(v) for s in bases for v in s.divergence("kl_aligned_base")),
        "js": "".join(_number(v) for s in bases for v in s.columns["js"]),
        "status": [s.columns["status"].tolist() if s.columns["status"].any() else None
                   for s in bases],
    }  # fmt: skip


class _Side:
    """A model's columns, by the names that they have on both sides."""

    def __init__(self, columns: Columns, name: str) -> None:
        self.columns, self._name = columns, name
        self.top: IdArray = self.column("top_ids")
        self.p = np.nan_to_num(np.exp(self.column("top_logprobs")))
        self.outside = np.nan_to_num(self.column("outside"))
        self.rank: IdArray = self.column("rank")

    def column(self, name: str) -> Any:
        return self.columns[f"{self._name}_{name}"]

    def unlisted(self, ids: IdArray) -> npt.NDArray[np.bool_]:
        found: npt.NDArray[np.bool_] = ~(self.top == ids[:, None]).any(1)
        return found

    def written(self, ids: IdArray) -> FloatArray:
        """The written token's probability where it is not among the ten; NaN elsewhere."""
        return np.where(self.unlisted(ids), np.exp(self.column("logprob")), np.nan)

    def divergence(self, name: str) -> FloatArray:
        """With infinity where there is no number and the status says so."""
        values: FloatArray = self.columns[name]
        infinite = np.isnan(values) & (self.columns["status"] & INFINITE > 0)
        return np.where(infinite, np.inf, values)


def _letter(n: int) -> str:
    """A character for a number; those of surrogates are passed over."""
    code = NUMBERS + n
    return chr(code + 0x800 if code >= 0xD800 else code)


def _share(p: float) -> int:
    """0 … 280, two digits: hundredths of a percent below 1 %, then tenths, then whole ones."""
    hundredths = p * 10_000
    if hundredths < 99.5:
        return round(hundredths)
    if hundredths < 995:
        return 90 + round(hundredths / 10)
    return 180 + round(hundredths / 100)


def _level(p: float) -> str:
    """A printable character; neither a quotation mark nor a backslash, which JSON would escape."""
    at = LEVELS if p < 1e-4 else min(LEVELS - 1, round(-np.log10(p) / 4 * (LEVELS - 1)))
    code = 0x23 + at
    return chr(code + (code >= 0x5C))


def _number(value: float) -> str:
    """Two digits and an exponent; a blank for none, 0 for what is below 1e-9."""
    if not np.isfinite(value):
        return "∞" if value > 0 else " "
    if value < 1e-9:
        return "0"
    digits, exponent = f"{value:.1e}".split("e")
    return _letter((int(exponent) + 9) * 90 + round(float(digits) * 10) - 10)
