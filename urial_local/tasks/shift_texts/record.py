"""A row of `shift --texts`: one stretch of a text under both models, written and read back."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from urial_local.base.errors import UsageError
from urial_local.records.columns import Column, column
from urial_local.records.generated import ModelFacts
from urial_local.records.runs import RunInfo
from urial_local.records.typed import Count, Malformed, read_as
from urial_local.runtime.shift_rows import FloatArray, ShiftRows
from urial_local.tasks.shift.record import SHAPES, to_json
from urial_local.tasks.shift_texts.mining import Mined

TASK = "shift-texts"
KEY = ("id", "chunk")
NUMBERS = (
    *("base_logprob", "aligned_logprob", "kl_base_aligned", "kl_aligned_base", "js"),
    *("base_entropy", "aligned_entropy", "overlap"),
)
LEAST_GAIN = 0.01  # of a token in a row; less is left out of its list
_SAME = Column(True, 0, 1)
_SHARE = Column(False, -1e-3, 1 + 1e-3)
_GAIN = Column(False, -1e9, 1e9)
_ID = Column(True, 0, 2**31 - 1)


@dataclass(frozen=True, slots=True)
class TextsConfig:
    """What summaries and pages say of a run."""

    base: ModelFacts
    aligned: ModelFacts
    vocabulary: Count
    ctx: Count
    score: Literal["all", "second-half"]
    k: Count
    kv_type: str = ""

    @staticmethod
    def of(info: RunInfo) -> TextsConfig:
        """Raises UsageError for another kind of run, and for a run.json that is damaged."""
        if info.task != TASK:
            raise UsageError(f"{info.folder} is a run of {info.task!r}, not of texts.")
        return info.config_as(TextsConfig)


def preferred_json(mined: Mined) -> dict[str, Any]:
    """The counts of a row: whole vocabularies packed, gains of those that gain."""
    ids = np.flatnonzero(np.abs(mined.gain) >= LEAST_GAIN)
    return {
        "positions": mined.positions,
        "top": pack(mined.top),
        "positive": pack(mined.positive),
        "gain_ids": ids.tolist(),
        "gains": [float(f"{g:.6g}") for g in mined.gain[ids]],
    }


def pack(counts: npt.NDArray[np.int64]) -> str:
    """Counts below 65,536 as 16-bit numbers, deflated, in base64."""
    data = counts.astype("<u2").tobytes()
    return base64.b64encode(zlib.compress(data, 6)).decode("ascii")


def unpack(text: Any, at: str, n: int) -> npt.NDArray[np.int64]:
    """int64 [n]. Raises Malformed; no more than 2n bytes are unpacked."""
    if not isinstance(text, str):
        raise Malformed.expected(at, "text", text)
    engine = zlib.decompressobj()
    try:
        data = engine.decompress(base64.b64decode(text, validate=True), 2 * n + 1)
    except (binascii.Error, zlib.error, ValueError):
        raise Malformed(f"{at} holds no packed counts") from None
    if len(data) != 2 * n:
        raise Malformed(f"{at} must hold {n:,} counts")
    return np.frombuffer(data, "<u2").astype(np.int64)


def columns_json(rows: ShiftRows, overlap: FloatArray) -> dict[str, Any]:
    """The columns of a row, one entry for each scored token."""
    arrays = {n: overlap if n == "overlap" else getattr(rows, n) for n in NUMBERS}
    found: dict[str, Any] = {"status": rows.status.tolist(), **to_json(arrays, NUMBERS)}
    same = (rows.base_top_ids[:, 0] == rows.aligned_top_ids[:, 0]) & (rows.status == 0)
    found["same_top"] = same.astype(int).tolist()
    return found


@dataclass(frozen=True, slots=True)
class _Head:
    id: str
    chunk: Count
    number: Count
    preferred: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Preferred:
    positions: Count
    top: str
    positive: str


@dataclass(frozen=True, slots=True)
class ScoredText:
    """A row read back."""

    id: str
    chunk: int
    number: int
    ids: npt.NDArray[np.int32]
    status: npt.NDArray[np.int32]
    same_top: npt.NDArray[np.int32]
    columns: dict[str, FloatArray]  # by NUMBERS, [n]
    positions: int  # that the counts are of
    packed: tuple[str, str]  # top, positive
    gain_ids: npt.NDArray[np.int32]
    gains: FloatArray

    @staticmethod
    def read(row: Mapping[str, Any]) -> ScoredText:
        """Raises Malformed for a row that is none."""
        head = read_as(_Head, row)
        preferred = read_as(_Preferred, head.preferred, "preferred")
        ids = column(row.get("ids"), "ids", _ID)
        if not len(ids):
            raise Malformed("ids must not be empty")
        status = _of(row, "status", SHAPES["status"], len(ids))
        found = {}
        for name in NUMBERS:
            shape = _SHARE if name == "overlap" else SHAPES[name]
            found[name] = _of(row, name, shape, len(ids))
            if (bad := np.flatnonzero((status == 0) & ~np.isfinite(found[name]))).size:
                raise Malformed(f"{name}[{bad[0]}] must be a number, not null")
        gain_ids = column(head.preferred.get("gain_ids"), "preferred.gain_ids", _ID)
        gains = column(head.preferred.get("gains"), "preferred.gains", _GAIN)
        if len(gains) != len(gain_ids) or not np.isfinite(gains).all():
            raise Malformed("preferred.gains must have a number for each id")
        return ScoredText(
            head.id,
            head.chunk,
            head.number,
            ids,
            status,
            _of(row, "same_top", _SAME, len(ids)),
            found,
            preferred.positions,
            (preferred.top, preferred.positive),
            gain_ids,
            gains,
        )

    def counts(self, n: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """top and positive, each [n]. Raises Malformed."""
        if len(self.gain_ids) and int(self.gain_ids.max()) >= n:
            raise Malformed(f"preferred.gain_ids must be below {n:,}")
        top, positive = self.packed
        return unpack(top, "preferred.top", n), unpack(positive, "preferred.positive", n)


def _of(row: Mapping[str, Any], name: str, shape: Column, n: int) -> npt.NDArray[Any]:
    found = column(row.get(name), name, shape)
    if len(found) != n:
        raise Malformed(f"{name} must have {n:,} entries as ids, not {len(found):,}")
    return found
