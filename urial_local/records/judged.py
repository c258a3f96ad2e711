"""Judgements as they are kept and exchanged: our own runs, and JUST-EVAL's judged files.

JUST-EVAL's records: id, input, output_cand, generator_cand, eval_config {mode, gpt, max_words},
prompt, result (the judge's text), parsed_result {aspect: {reason, score}}; in its older pairwise
files output_A, output_B, generator_A, generator_B and parsed_result {preference, reason}.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from urial_local.base.errors import UsageError
from urial_local.base.paths import user_path
from urial_local.records.runlog import latest_rows, read_run
from urial_local.records.sources import open_source, read_rows

_NUMBER = re.compile(r"[0-9]{1,2}(\.[0-9]{1,6})?")
KEY = ("id", "repeat", "mode", "turn", "order")
THEIR_MODES = {
    "score_multi": "general",
    "score_safety": "safety",
    "pairwise": "pairwise",
    "pairwise_multi": "pairwise",
    "mt-bench": "mt-bench",  # these two are ours, in their shape
    "tags": "tags",
}
LOOKED_AT = 20  # rows, to see what a file holds; those that failed have no result
OUR_MODES = {"general": "score_multi", "safety": "score_safety", "pairwise": "pairwise_multi"}


@dataclass(frozen=True, slots=True)
class Judgement:
    """One row as one judge saw it, in one mode. With an `error` there is no record."""

    id: str
    repeat: int
    mode: str  # general, safety, pairwise, mt-bench or tags
    turn: int  # of a dialogue, from 1; 0 where the mode judges whole rows
    order: str  # pairwise: AB, or BA where the second answer stood first; else empty
    judge: str
    generator: str
    query: str
    answer: str
    record: Mapping[str, Any] = field(default_factory=dict)  # see tasks.evaluate.modes
    expected: Mapping[str, float] = field(default_factory=dict)  # aspect → expected score
    tags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    ended: bool | None = None
    other: str = ""  # pairwise: the second answer, and who wrote it
    other_generator: str = ""
    error: str = ""

    def score(self, aspect: str) -> float | None:
        """1–5 (1–10 in mt-bench); None for N/A and where the aspect was not judged."""
        text = self._score_text(aspect)
        return float(text) if text not in ("", "N/A") else None

    def not_applicable(self, aspect: str) -> bool:
        return self._score_text(aspect) == "N/A"

    def _score_text(self, aspect: str) -> str:
        value = self.record.get(aspect)
        return str(value.get("score", "")).strip().upper() if isinstance(value, Mapping) else ""

    def reason(self, aspect: str) -> str:
        value = self.record.get(aspect)
        return str(value.get("reason", "")) if isinstance(value, Mapping) else ""

    @property
    def words(self) -> int:
        """Of the answer, split at blanks, as the reference counts."""
        return len(self.answer.split())


def is_judged(name: str) -> bool:
    """Whether a name is a run of `evaluate` or a file of JUST-EVAL's judgements."""
    folder = user_path(name)
    if (folder / "run.json").exists():
        return bool(read_run(folder)["config"].get("task") == "evaluate")
    if name == "-":
        return False
    with open_source(name) as source:
        first = itertools.islice(read_rows(source), LOOKED_AT)
        return any("parsed_result" in r.fields and "eval_config" in r.fields for r in first)


def read_judgements(name: str) -> Iterator[Judgement]:
    """The judgements of a run folder, or of a JUST-EVAL file. Raises UsageError for other files."""
    folder = user_path(name)
    if (folder / "run.json").exists():
        config = read_run(folder)["config"]
        if config.get("task") != "evaluate":
            raise UsageError(
                f"{folder} is a run of {config.get('task')}; it has not been judged.",
                f"urial-local evaluate {folder} --judge JUDGE",
            )
        judge = str(config["judge"]["name"])
        for row in latest_rows(folder, KEY):
            try:
                yield of_row(row, judge)
            except (TypeError, ValueError, AttributeError, KeyError) as error:
                raise UsageError(
                    f"The row {row.get('id')!r} of {folder} is no judgement: {error}.",
                    "The file was changed from outside; remove that line, and the same command"
                    " makes the row again.",
                ) from None
        return
    met: Counter[tuple[Any, ...]] = Counter()
    with open_source(name) as source:
        for number, raw in enumerate(read_rows(source)):
            if raw.error:
                raise UsageError(f"{name}: {raw.error}.")
            found = _of_just_eval(raw.fields, number, name)
            # Shards that the reference merged have the same ids again; no row may hide another.
            key = (found.mode, found.id, found.repeat, found.turn, found.order)
            yield replace(found, repeat=found.repeat + met[key])
            met[key] += 1


def of_row(row: Mapping[str, Any], judge: str) -> Judgement:
    """A row of our own. Raises ValueError or TypeError where somebody changed it."""
    record = row.get("parsed_result") or {}
    expected = {str(k): float(v) for k, v in dict(row.get("expected") or {}).items()}
    if not isinstance(record, Mapping) or not all(map(math.isfinite, expected.values())):
        raise ValueError("its record is malformed")
    ended = row.get("ended")
    return Judgement(
        id=str(row["id"]),
        repeat=int(row.get("repeat", 0)),
        mode=str(row["mode"]),
        turn=int(row.get("turn") or 0),
        order=str(row.get("order") or ""),
        judge=judge,
        generator=str(row.get("generator", "")),
        query=str(row.get("query", "")),
        answer=str(row.get("answer", "")),
        record=record,
        expected=expected,
        tags={str(k): tuple(map(str, v)) for k, v in dict(row.get("tags") or {}).items()},
        flags=tuple(map(str, row.get("flags") or ())),
        ended=ended if isinstance(ended, bool) else None,
        other=str(row.get("other", "")),
        other_generator=str(row.get("other_generator", "")),
        error=str(row.get("error") or "") or _wrong_score(record),
    )


def _wrong_score(record: Mapping[str, Any]) -> str:
    """What is wrong with a record's scores, or an empty text."""
    for aspect, value in record.items():
        if not _is_score(value, 10 if aspect == "rating" else 5):
            return f"The score of {aspect} is none of the scale."
    return ""


def _of_just_eval(fields: Mapping[str, Any], number: int, name: str) -> Judgement:
    config = fields.get("eval_config")
    theirs = config.get("mode") if isinstance(config, Mapping) else None
    if not isinstance(theirs, str) or theirs not in THEIR_MODES or not isinstance(config, Mapping):
        raise UsageError(
            f"Row {number + 1} of {name} is no judgement that is known (mode {theirs!r}).",
            f"Known are runs of evaluate, and JUST-EVAL's {', '.join(THEIR_MODES)}.",
        )
    record, error = fields.get("parsed_result"), ""
    if not isinstance(record, Mapping):
        record, error = {}, "It has no parsed_result."
    else:
        error = _wrong_score(record)
    mode = THEIR_MODES[theirs]
    pair = mode == "pairwise"
    if theirs == "pairwise" and "preference" in record:
        record = {
            "rationale": record.get("reason", ""),
            "choices": {"overall": record["preference"]},
        }
    elif theirs == "pairwise_multi" and "choices" not in record:
        record = {"choices": {k: v.get("preference") for k, v in record.items()
                              if isinstance(v, Mapping)}}  # fmt: skip
    # Where we wrote the file: which answer of a pair is the first one, and which turn it was.
    order = "BA" if fields.get("order") == "BA" else "AB"
    one, two = ("A", "B") if order == "AB" else ("B", "A")
    repeat, turn = fields.get("repeat", 0), fields.get("turn", 0)
    return Judgement(
        id=str(fields.get("id", number)),
        repeat=repeat if isinstance(repeat, int) else 0,
        mode=mode,
        turn=turn if isinstance(turn, int) else 0,
        order=order if pair else "",
        judge=str(config.get("gpt", "unknown")),
        generator=_stem(fields.get(f"generator_{one}" if pair else "generator_cand")),
        query=str(fields.get("input", "")),
        answer=str(fields.get(f"output_{one}" if pair else "output_cand", "")),
        record=record,
        other=str(fields.get(f"output_{two}", "")) if pair else "",
        other_generator=_stem(fields.get(f"generator_{two}")) if pair else "",
        error=error,
    )


def _is_score(value: Any, highest: int) -> bool:
    """Whether an aspect's score is a whole number of the scale, or N/A. A part without a score, as
    the choices of a pair, is none."""
    if not isinstance(value, Mapping) or "score" not in value:
        return True
    text = str(value["score"]).strip()
    return text.upper() == "N/A" or (bool(_NUMBER.fullmatch(text)) and 1 <= float(text) <= highest)


def just_eval_record(row: Mapping[str, Any], judge: str) -> dict[str, Any]:
    """A judgement of ours in JUST-EVAL's shape; a mode that it does not know keeps our name."""
    mode = str(row["mode"])
    numeric = str(row["id"]).isascii() and str(row["id"]).isdigit()
    shared = {
        "eval_config": {"mode": OUR_MODES.get(mode, mode), "gpt": judge, "max_words": -1},
        "prompt": row.get("prompt", ""),
        "result": row.get("result", ""),
        "parsed_result": row.get("parsed_result"),
        # Not the reference's; so that reading it again gives the same rows.
        **{name: row[name] for name in ("repeat", "turn", "order") if row.get(name)},
    }
    texts: dict[str, Any] = {
        "id": int(row["id"]) if numeric else row["id"],
        "input": row.get("query", ""),
    }
    if mode == "pairwise":
        first, second = ("answer", "other") if row.get("order") != "BA" else ("other", "answer")
        names = {"answer": "generator", "other": "other_generator"}
        texts |= {
            "output_A": row.get(first, ""),
            "output_B": row.get(second, ""),
            "generator_A": row.get(names[first], ""),
            "generator_B": row.get(names[second], ""),
        }
    else:
        texts |= {
            "output_cand": row.get("answer", ""),
            "generator_cand": row.get("generator", ""),
        }
    return {**texts, **shared}


def _stem(value: Any) -> str:
    """Of a path its stem: the reference names generators by their files."""
    return str(value or "").split("/")[-1].removesuffix(".json")
