"""A row of a shift run: one answer of one aligned model, scored in every base context.

What is in `rows.jsonl` is documented in docs/shift.md; here it is written and read back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt

from urial_local.base.errors import UsageError
from urial_local.records.columns import Column, column
from urial_local.records.generated import ModelFacts, PromptFacts
from urial_local.records.runs import RunInfo
from urial_local.records.typed import Count, Malformed, read_as
from urial_local.runtime.row_scores import IdArray
from urial_local.runtime.shift_rows import ALIGNED_NOT_FINITE, BASE_NOT_FINITE, TOP, FloatArray
from urial_local.tasks.shift.scoring import INFINITE, NOT_IN_BASE, Columns


def _file_name(name: str, at: str) -> str:
    """Part of a file's name, and so no way out of the run's folder."""
    if not name or "/" in name or "\0" in name or len(name) > 200:
        raise Malformed(f"{at} must be a plain name, not {name[:40]!r}")
    return name


KEY = ("aligned", "id", "sample")  # rows of runs with one answer to a question have no sample
FileName = Annotated[str, _file_name]
DIGITS = 7  # significant ones, of every number in a row
ALIGNED_COLUMNS = (
    "aligned_rank",
    "aligned_logprob",
    "aligned_entropy",
    "aligned_outside",
    "aligned_top_ids",
    "aligned_top_logprobs",
    "aligned_nucleus_entropy",
    "aligned_nucleus_mass",
    "aligned_above",
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
    "overlap",
    "base_above",
    "base_nucleus_entropy",
)
# What rows of earlier releases do not have; it reads as not measured (NaN).
LATER_COLUMNS = (
    *("aligned_nucleus_entropy", "aligned_nucleus_mass", "aligned_above"),
    *("overlap", "base_above", "base_nucleus_entropy"),
)
_WHOLE = ("status", "base_rank", "aligned_rank", "base_top_ids", "aligned_top_ids")
NOT_FINITE = BASE_NOT_FINITE | ALIGNED_NOT_FINITE
_RANK = Column(True, 0, 2**31 - 1)
_ID = Column(True, -1, 2**31 - 1)  # -1 past the last possible token
_LOGPROB = Column(False, -1e30, 1e-3)
_NATS = Column(False, -1, 1e30)
_SHARE = Column(False, -1e-3, 1 + 1e-3)
IDS = Column(True, 0, 2**31 - 1)
SHAPES = {
    "status": Column(True, 0, 15),
    **dict.fromkeys(("base_rank", "aligned_rank", "other_rank"), _RANK),
    **dict.fromkeys(("base_top", "other_top"), _ID),
    **dict.fromkeys(("base_top_ids", "aligned_top_ids"), replace(_ID, width=TOP)),
    **dict.fromkeys(("base_logprob", "aligned_logprob"), _LOGPROB),
    **dict.fromkeys(("base_top_logprobs", "aligned_top_logprobs"), replace(_LOGPROB, width=TOP)),
    **dict.fromkeys(("base_outside", "aligned_outside"), _SHARE),
    **dict.fromkeys(("overlap", "base_above", "aligned_above", "aligned_nucleus_mass"), _SHARE),
    **dict.fromkeys(("base_entropy", "aligned_entropy", "js"), _NATS),
    **dict.fromkeys(("base_nucleus_entropy", "aligned_nucleus_entropy"), _NATS),
    **dict.fromkeys(("kl_base_aligned", "kl_aligned_base"), _NATS),
    **dict.fromkeys(("kl_base_other", "kl_other_base"), _NATS),
}
# What is scored again in batches of another shape, for the first positions of a few rows.
SHAPE_COLUMNS = ("status", "base_rank", "base_logprob", "kl_base_aligned")
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
class ShiftConfig:
    """What summaries and pages say of a run. `sampling`: None where answers were given."""

    base: ModelFacts
    aligned: tuple[AlignedFacts, ...]
    contexts: Mapping[str, PromptFacts]
    noise_floor: ModelFacts | None = None
    answers: Literal["given", "generated"] = "given"
    sampling: SamplingFacts | None = None
    max_tokens: Count | None = None
    kv_type: str = ""
    samples: Count = 1

    @staticmethod
    def of(info: RunInfo) -> ShiftConfig:
        """Raises UsageError for another kind of run, and for a run.json that is damaged."""
        if info.task != "shift":
            raise UsageError(f"{info.folder} is a run of {info.task!r}, not of shift.")
        found = info.config_as(ShiftConfig)
        if not found.aligned or not found.contexts:
            raise UsageError(f"{info.folder / 'run.json'} names no aligned model or no context.")
        if found.answers == "generated" and found.sampling is None:
            raise UsageError(f"{info.folder / 'run.json'}: config.sampling is missing.")
        return found


@dataclass(frozen=True, slots=True)
class AlignedFacts:
    """What a run says of an aligned model. Its name is part of a file's."""

    name: FileName
    file: str = ""
    title: str = ""
    quantisation: str = ""
    fingerprint: str = ""
    prompt: str = ""
    prompt_sha: str = ""


@dataclass(frozen=True, slots=True)
class SamplingFacts:
    """How answers were drawn."""

    temperature: float = 0.0
    seed: int | None = None
    top_p: float = 1.0


@dataclass(frozen=True, slots=True)
class _Head:
    """What a row holds besides its columns."""

    id: str
    number: Count
    aligned: str
    query: str
    ended: bool
    end_token: bool
    contexts: Mapping[str, Any]
    noise_floor: Mapping[str, Any] | None = None
    batch_shape: Mapping[str, Any] | None = None
    tags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    answer: str = ""
    sample: Count | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A row read back, as arrays; what the statistics of a whole run are made of."""

    id: str
    number: int
    aligned: str
    query: str
    text: str
    tags: Mapping[str, tuple[str, ...]]
    ids: IdArray  # [n], the end token included where there is one
    ended: bool  # by the model itself, rather than cut off
    end_token: bool  # the last id is the token that ended it
    aligned_columns: Columns
    contexts: dict[str, Columns]
    noise: Columns | None
    batch_shape: Columns | None  # of the first positions, in the first context
    sample: int | None = None  # which of the answers sampled for the question; None for the one

    @staticmethod
    def read(row: Mapping[str, Any]) -> Answer:
        """Raises Malformed for a row that is none: every column has an entry for each id, and what
        the status says of a position holds."""
        head = read_as(_Head, row)
        ids = column(row.get("answer_ids"), "answer_ids", IDS)
        if not len(ids):
            raise Malformed("answer_ids must not be empty")
        n = len(ids)
        aligned = _columns(row, "", ALIGNED_COLUMNS, n)
        contexts = {}
        for name, columns in head.contexts.items():
            found = contexts[name] = _columns(columns, f"contexts.{name}", CONTEXT_COLUMNS, n)
            _refuse_gaps(found, aligned, f"contexts.{name}")
        if not contexts:
            raise Malformed("contexts must not be empty")
        noise = None
        if head.noise_floor is not None:
            noise = _columns(head.noise_floor, "noise_floor", tuple(NOISE_COLUMNS), n)
            sound = noise["status"] & (NOT_FINITE | INFINITE) == 0
            _refuse_gap(noise, "kl_base_other", sound, "noise_floor")
        shape = None
        if head.batch_shape is not None:
            status = head.batch_shape.get("status")
            scored_again = column(status, "batch_shape.status", SHAPES["status"])
            if len(scored_again) > n:
                raise Malformed(f"batch_shape must have at most {n:,} positions")
            shape = _columns(head.batch_shape, "batch_shape", SHAPE_COLUMNS, len(scored_again))
            sound = scored_again & (NOT_FINITE | INFINITE) == 0
            _refuse_gap(shape, "kl_base_aligned", sound, "batch_shape")
        return Answer(
            head.id,
            head.number,
            head.aligned,
            head.query,
            head.answer,
            head.tags,
            ids,
            head.ended,
            head.end_token,
            aligned,
            contexts,
            noise,
            shape,
            head.sample,
        )

    def highest_id(self) -> int:
        """Of the tokens that were written and of those in the lists of the most probable ones."""
        tops = [c["base_top_ids"] for c in self.contexts.values()]
        return max(int(a.max()) for a in (self.ids, self.aligned_columns["aligned_top_ids"], *tops))


def _columns(row: Mapping[str, Any], at: str, names: tuple[str, ...], n: int) -> Columns:
    if not isinstance(row, Mapping):
        raise Malformed.expected(at, "an object", row)
    found = {}
    for name in names:
        place = f"{at}.{name}" if at else name
        if name in LATER_COLUMNS and name not in row:
            found[name] = np.full(n, np.nan)
            continue
        found[name] = column(row.get(name), place, SHAPES[name])
        if len(found[name]) != n:
            raise Malformed(f"{place} must have {n:,} entries as answer_ids, not"
                            f" {len(found[name]):,}")  # fmt: skip
    return found


def _refuse_gaps(ours: Columns, theirs: Columns, at: str) -> None:
    """Raises Malformed where a number is missing that the status says is there; without it, means
    would be none."""
    status = ours["status"]
    ranked = status & NOT_FINITE == 0
    for name in ("kl_base_aligned", "kl_aligned_base"):
        _refuse_gap(ours, name, ranked & (status & INFINITE == 0), at)
    for name in ("js", "base_entropy"):
        _refuse_gap(ours, name, ranked, at)
    _refuse_gap(theirs, "aligned_entropy", ranked, "")
    for name in LATER_COLUMNS:
        columns, place = (ours, at) if name in ours else (theirs, "")
        if (
            not name.endswith("_above") and not np.isnan(columns[name]).all()
        ):  # of an earlier release
            _refuse_gap(columns, name, ranked, place)
    known = ranked & (status & NOT_IN_BASE == 0)
    if (bad := np.flatnonzero(known & (ours["base_rank"] < 1))).size:
        raise Malformed(f"{at}.base_rank[{bad[0]}] must be 1 or more")
    for columns, name in ((ours, "base_above"), (theirs, "aligned_above")):
        if not np.isnan(columns[name]).all():
            _refuse_gap(columns, name, known, at if columns is ours else "")


def _refuse_gap(columns: Columns, name: str, wanted: npt.NDArray[np.bool_], at: str) -> None:
    if (bad := np.flatnonzero(wanted & ~np.isfinite(columns[name]))).size:
        place = f"{at}.{name}" if at else name
        raise Malformed(f"{place}[{bad[0]}] must be a number, not null")


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
