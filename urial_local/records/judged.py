"""Judgements as they are kept and exchanged: our own runs, and JUST-EVAL's judged files.

JUST-EVAL's records: id, input, output_cand, generator_cand, eval_config {mode, gpt, max_words},
prompt, result (the judge's text), parsed_result {aspect: {reason, score}}; in its older pairwise
files output_A, output_B, generator_A, generator_B and parsed_result {preference, reason}.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from urial_local.base.errors import UsageError
from urial_local.base.paths import user_path
from urial_local.records.formats import plain_id
from urial_local.records.runs import is_run, latest_rows, read_run
from urial_local.records.sources import open_source, read_rows
from urial_local.records.typed import Count, Malformed, read_as, within

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


Score = Annotated[float, within(0, 10)]


@dataclass(frozen=True, slots=True)
class JudgedRow:
    """A row of a run of `evaluate`, as it is kept; see Judgement."""

    id: str
    mode: Literal["general", "safety", "pairwise", "mt-bench", "tags"]
    repeat: Count = 0
    turn: Count = 0
    order: Literal["", "AB", "BA"] = ""
    number: Count = 0  # of the answer in its dataset
    generator: str = ""
    query: str = ""
    answer: str = ""
    prompt: str = ""  # all that the judge read
    result: str = ""  # all that it wrote
    parsed_result: Mapping[str, Any] = field(default_factory=dict)
    expected: Mapping[str, Score] = field(default_factory=dict)
    tags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    ended: bool | None = None
    other: str = ""
    other_generator: str = ""
    error: str = ""

    @staticmethod
    def read(row: Mapping[str, Any]) -> JudgedRow:
        """A row of rows.jsonl. Raises Malformed."""
        return read_as(JudgedRow, row)


@dataclass(frozen=True, slots=True)
class JudgeFacts:
    """What a run says of its judge, as far as it is the same for all judges."""

    name: str


@dataclass(frozen=True, slots=True)
class EvaluateConfig:
    """What pages and exports say of a run of `evaluate`."""

    judge: JudgeFacts


def is_judged(name: str) -> bool:
    """Whether a name is a run of `evaluate` or a file of JUST-EVAL's judgements."""
    folder = user_path(name)
    if is_run(folder):
        return read_run(folder).task == "evaluate"
    if name == "-":
        return False
    with open_source(name) as source:
        first = itertools.islice(read_rows(source), LOOKED_AT)
        return any("parsed_result" in r.fields and "eval_config" in r.fields for r in first)


def read_judgements(name: str) -> Iterator[Judgement]:
    """The judgements of a run folder, or of a JUST-EVAL file. Raises UsageError for other files."""
    folder = user_path(name)
    if is_run(folder):
        info = read_run(folder)
        if info.task != "evaluate":
            raise UsageError(
                f"{folder} is a run of {info.task}; it has not been judged.",
                f"urial-local evaluate {folder} --judge JUDGE",
            )
        judge = info.config_as(EvaluateConfig).judge.name
        for row in latest_rows(folder, KEY, JudgedRow.read):
            yield of_row(row, judge)
        return
    met: Counter[tuple[Any, ...]] = Counter()
    with open_source(name) as source:
        for number, raw in enumerate(read_rows(source)):
            if raw.error:
                raise UsageError(f"{name}: {raw.error}.")
            try:
                found = _of_just_eval(raw.fields, number, name)
            except Malformed as error:
                raise UsageError(f"{name}, row {number + 1}: {error}.") from None
            # Shards that the reference merged have the same ids again; no row may hide another.
            key = (found.mode, found.id, found.repeat, found.turn, found.order)
            yield replace(found, repeat=found.repeat + met[key])
            met[key] += 1


def of_row(row: JudgedRow, judge: str) -> Judgement:
    """A row of our own, as its judge saw it."""
    return Judgement(
        id=row.id,
        repeat=row.repeat,
        mode=row.mode,
        turn=row.turn,
        order=row.order,
        judge=judge,
        generator=row.generator,
        query=row.query,
        answer=row.answer,
        record=row.parsed_result,
        expected=row.expected,
        tags=row.tags,
        flags=row.flags,
        ended=row.ended,
        other=row.other,
        other_generator=row.other_generator,
        error=row.error or _wrong_score(row.parsed_result),
    )


def _wrong_score(record: Mapping[str, Any]) -> str:
    """What is wrong with a record's scores, or an empty text."""
    for aspect, value in record.items():
        if not _is_score(value, 10 if aspect == "rating" else 5):
            return f"The score of {aspect} is not on the scale."
    return ""


def _of_just_eval(fields: Mapping[str, Any], number: int, name: str) -> Judgement:
    config = fields.get("eval_config")
    theirs = config.get("mode") if isinstance(config, Mapping) else None
    if not isinstance(theirs, str) or theirs not in THEIR_MODES or not isinstance(config, Mapping):
        raise UsageError(
            f"Row {number + 1} of {name} is not a known kind of judgement (mode {theirs!r}).",
            f"Known are runs of evaluate, and JUST-EVAL's {', '.join(THEIR_MODES)}.",
        )
    row = read_as(_Theirs, fields)
    record, error = row.parsed_result, ""
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
    order = "BA" if row.order == "BA" else "AB"
    a, b = (row.output_A, row.generator_A), (row.output_B, row.generator_B)
    (one, who), (other, other_who) = (a, b) if order == "AB" else (b, a)
    return Judgement(
        id=str(number if row.id is None else _whole(row.id)),
        repeat=row.repeat,
        mode=mode,
        turn=row.turn,
        order=order if pair else "",
        judge=row.eval_config.gpt,
        generator=_stem(who if pair else row.generator_cand),
        query=row.input,
        answer=one if pair else row.output_cand,
        record=record,
        other=other if pair else "",
        other_generator=_stem(other_who) if pair else "",
        error=error,
    )


@dataclass(frozen=True, slots=True)
class _TheirConfig:
    """What JUST-EVAL says of a judgement's making."""

    gpt: str = "unknown"


@dataclass(frozen=True, slots=True)
class _Theirs:
    """A judgement in JUST-EVAL's shape; its `order`, `turn` and `repeat` are ours."""

    eval_config: _TheirConfig
    id: str | int | float | None = None
    parsed_result: Any = None
    input: str = ""
    output_cand: str = ""
    generator_cand: str = ""
    output_A: str = ""
    output_B: str = ""
    generator_A: str = ""
    generator_B: str = ""
    order: str = ""
    repeat: Count = 0
    turn: Count = 0


def _is_score(value: Any, highest: int) -> bool:
    """Whether an aspect's score is a whole number of the scale, or N/A. A part without a score, as
    the choices of a pair, is none."""
    if not isinstance(value, Mapping) or "score" not in value:
        return True
    text = str(value["score"]).strip()
    return text.upper() == "N/A" or (bool(_NUMBER.fullmatch(text)) and 1 <= float(text) <= highest)


def just_eval_record(row: JudgedRow, judge: str) -> dict[str, Any]:
    """A judgement of ours in JUST-EVAL's shape; a mode that it does not know keeps our name."""
    shared = {
        "eval_config": {"mode": OUR_MODES.get(row.mode, row.mode), "gpt": judge, "max_words": -1},
        "prompt": row.prompt,
        "result": row.result,
        "parsed_result": row.parsed_result,
        # Not the reference's; so that reading it again gives the same rows.
        **({"repeat": row.repeat} if row.repeat else {}),
        **({"turn": row.turn} if row.turn else {}),
        **({"order": row.order} if row.order else {}),
    }
    texts: dict[str, Any] = {"id": plain_id(row.id), "input": row.query}
    if row.mode == "pairwise":
        first, second = (row.answer, row.generator), (row.other, row.other_generator)
        if row.order == "BA":
            first, second = second, first
        texts |= {
            "output_A": first[0],
            "output_B": second[0],
            "generator_A": first[1],
            "generator_B": second[1],
        }
    else:
        texts |= {"output_cand": row.answer, "generator_cand": row.generator}
    return {**texts, **shared}


def _whole(value: str | int | float) -> str | int | float:
    """An id that a table wrote as a float, as the whole number that it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _stem(value: str) -> str:
    """Of a path its stem: the reference names generators by their files."""
    return value.split("/")[-1].removesuffix(".json")
