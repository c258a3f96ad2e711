"""A row of a shift run: one answer of one aligned model, scored in every base context.

What is in `rows.jsonl` is documented in docs/shift.md; here it is written and read back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from urial_local.runtime.row_scores import IdArray
from urial_local.runtime.shift_rows import FloatArray
from urial_local.tasks.shift.scoring import Columns

KEY = ("aligned", "id")
DIGITS = 7  # significant ones, of every number in a row
ALIGNED_COLUMNS = (
    "aligned_rank",
    "aligned_logprob",
    "aligned_entropy",
    "aligned_outside",
    "aligned_top_ids",
    "aligned_top_logprobs",
)
CONTEXT_COLUMNS = (
    "status",
    "base_rank",
    "base_logprob",
    "kl_base_aligned",
    "kl_aligned_base",
    "js",
    "base_entropy",
    "base_outside",
    "base_top_ids",
    "base_top_logprobs",
)
_WHOLE = ("status", "base_rank", "aligned_rank", "base_top_ids", "aligned_top_ids")
# The noise floor's columns, and what they are called in the kernel's terms.
NOISE_COLUMNS = {
    "status": "status",
    "base_rank": "base_rank",
    "base_top": "base_top_ids",  # the first of them
    "other_rank": "aligned_rank",
    "kl_base_other": "kl_base_aligned",
    "kl_other_base": "kl_aligned_base",
    "js": "js",
    "other_top": "aligned_top_ids",  # the first of them
}


def to_json(columns: Columns, names: tuple[str, ...]) -> dict[str, list[Any]]:
    """Arrays as lists; what is not a number becomes null."""
    return {
        name: columns[name].tolist() if name in _WHOLE else _rounded(columns[name])
        for name in names
    }


def noise_to_json(columns: Columns) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for name, source in NOISE_COLUMNS.items():
        array = columns[source][:, 0] if name.endswith("_top") else columns[source]
        whole = source in _WHOLE
        found[name] = array.tolist() if whole else _rounded(array)
    return found


def _rounded(values: FloatArray) -> list[Any]:
    """To DIGITS significant digits, which print short."""
    finite = np.isfinite(values)
    safe = np.where(finite & (values != 0), np.abs(values), 1.0)
    scale = 10.0 ** (DIGITS - 1 - np.floor(np.log10(safe)))
    rounded = np.where(finite, np.round(np.where(finite, values, 0) * scale) / scale, np.nan)
    lists = rounded.astype(object)
    lists[~finite] = None
    result: list[Any] = lists.tolist()
    return result


@dataclass(frozen=True, slots=True)
class Answer:
    """A row read back, as arrays; what the statistics of a whole run are made of."""

    id: str
    number: int
    aligned: str
    query: str
    tags: Mapping[str, tuple[str, ...]]
    ids: IdArray  # [n], the end token included where there is one
    ended: bool  # by the model itself, rather than cut off
    end_token: bool  # the last id is the token that ended it
    aligned_columns: Columns
    contexts: dict[str, Columns]
    noise: Columns | None

    @staticmethod
    def read(row: Mapping[str, Any]) -> Answer:
        """Raises KeyError, TypeError or ValueError for a row that is none."""
        return Answer(
            id=str(row["id"]),
            number=int(row["number"]),
            aligned=str(row["aligned"]),
            query=str(row["query"]),
            tags={str(k): tuple(v) for k, v in row.get("tags", {}).items()},
            ids=np.asarray(row["answer_ids"], np.int32),
            ended=bool(row["ended"]),
            end_token=bool(row["end_token"]),
            aligned_columns=_from_json(row, ALIGNED_COLUMNS),
            contexts={n: _from_json(c, CONTEXT_COLUMNS) for n, c in row["contexts"].items()},
            noise=_from_json(row["noise_floor"], tuple(NOISE_COLUMNS))
            if row.get("noise_floor")
            else None,
        )


def _from_json(row: Mapping[str, Any], names: tuple[str, ...]) -> Columns:
    whole = {*_WHOLE, "other_rank", "base_top", "other_top"}
    return {n: np.asarray(row[n], np.int32 if n in whole else np.float64) for n in names}


def same_top(answer: Answer, context: str) -> npt.NDArray[np.bool_]:
    """bool [n]: whether both models would write the same token."""
    ours = answer.contexts[context]["base_top_ids"]
    theirs = answer.aligned_columns["aligned_top_ids"]
    same: npt.NDArray[np.bool_] = (ours[:, 0] == theirs[:, 0]) & (ours[:, 0] >= 0)
    return same


def jaccard(answer: Answer, context: str) -> FloatArray:
    """[n], 0 … 1: tokens in both top lists over tokens in either; NaN where a list is empty."""
    ours = answer.contexts[context]["base_top_ids"]
    theirs = answer.aligned_columns["aligned_top_ids"]
    both = ((ours[:, :, None] == theirs[:, None, :]) & (ours[:, :, None] >= 0)).sum((1, 2))
    n_ours, n_theirs = (ours >= 0).sum(1), (theirs >= 0).sum(1)
    either = np.where((n_ours > 0) & (n_theirs > 0), n_ours + n_theirs - both, np.nan)
    return np.asarray(both / either, np.float64)
