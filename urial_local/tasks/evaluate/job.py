"""Takes answers to a judge, and yields each judgement as it comes.

A judgement's row holds who judged what, the wording, the judge's text, and the record (see modes).
A row that cannot be judged is an error row, never a score; the next run tries it again.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from urial_local.base.errors import PromptError, UsageError
from urial_local.prompting.judging import Case, JudgeTemplate, judge_template
from urial_local.records.datasets import unsound
from urial_local.records.judged import KEY
from urial_local.records.runlog import RunLog
from urial_local.tasks.evaluate.answered import Answered
from urial_local.tasks.evaluate.judge import Judge, Question, Verdict
from urial_local.tasks.evaluate.modes import MODES
from urial_local.tasks.evaluate.neighbours import Effect, judged_alone, sample

ModeName = Literal["auto", "general", "safety", "pairwise", "mt-bench", "tags"]
Row = dict[str, Any]
Prepared = tuple[Row, "Question | None"]


@dataclass(frozen=True, slots=True)
class Plan:
    """Which wording judges which rows. `auto` gives safety rows `safety`, others `general`."""

    mode: ModeName
    templates: Mapping[str, JudgeTemplate]  # by mode

    def config(self) -> dict[str, Any]:
        """For run.json."""
        shas = {name: template.fingerprint() for name, template in self.templates.items()}
        return {"mode": self.mode, "templates": shas}


def plan(mode: ModeName, template: str | None = None) -> Plan:
    """The wording of a mode; `template` is a file in place of ours. Raises PromptError, or
    UsageError for a file without a mode."""
    if template and mode == "auto":
        raise UsageError(
            "`template` replaces the wording of one mode.", "Say which with `mode=general`."
        )
    names = ("general", "safety") if mode == "auto" else (mode,)
    return Plan(mode, {name: judge_template(template or name) for name in names})


def rows_to_judge(
    answered: Iterable[Answered],
    mode: ModeName,
    others: Mapping[tuple[str, int], Answered] | None = None,
) -> Iterator[tuple[Row, Case]]:
    """Each row of a judging run as it stands before its verdict, with the texts to judge.

    `others`: the second answers of a pairwise run, by id and repeat; both orders are judged.
    """
    for item in answered:
        name = ("safety" if item.safety else "general") if mode == "auto" else mode
        if name == "pairwise":
            yield from _pair(item, (others or {}).get((item.id, item.repeat)))
        elif name == "mt-bench":
            for i, turn in enumerate(item.turns):
                reference = item.references[i] if i < len(item.references) else ""
                case = Case(turn.query, turn.answer, "", item.turns[:i], reference)
                yield _row(item, name, case, turn=i + 1), case
        else:
            first = item.turns[0]
            case = Case(first.query, "" if name == "tags" else first.answer)
            yield _row(item, name, case), case


def _pair(item: Answered, other: Answered | None) -> Iterator[tuple[Row, Case]]:
    first, second = item.turns[0], other.turns[0] if other else None
    problem = ""
    if other is None or second is None:
        problem = "The second run has no answer to this row."
    elif other.error or other.unanswered:
        problem = other.error or "The second run has no answer to this row."
    elif second.query != first.query:
        problem = "The second run has another question under this id."
    for order in ("AB", "BA"):
        theirs = second.answer if second else ""
        pair = Case(first.query, first.answer, theirs)
        case = pair if order == "AB" else Case(first.query, theirs, first.answer)
        row = _row(item, "pairwise", pair, order=order)
        name = other.generator if other else ""
        # Two runs of one model under one prompt, told apart.
        row["other_generator"] = f"{name} (second)" if name == item.generator else name
        if problem:
            row["error"] = problem
        yield row, case


def _row(item: Answered, mode: str, case: Case, turn: int = 0, order: str = "") -> Row:
    asked = json.dumps([mode, *case.texts()])
    row: Row = {
        "id": item.id,
        "repeat": item.repeat,
        "mode": mode,
        "turn": turn,
        "order": order,
        "number": item.number,
        "generator": item.generator,
        "query": case.query,
        "answer": case.answer,
        "tags": {name: list(values) for name, values in item.tags.items()},
        "flags": list(item.flags),
        "ended": item.ended,
        "asked_sha": hashlib.sha256(asked.encode("ascii")).hexdigest()[:16],
    }
    if mode == "pairwise":
        row["other"] = case.other
    if item.error:
        row["error"] = f"There is no answer to judge. {item.error}"
    elif item.unanswered and mode != "tags":
        row["error"] = "There is no answer to judge."
    elif problem := next(filter(None, map(unsound, case.texts())), ""):
        row["error"] = f"What is to be judged {problem}."
    return row


def prepare(rows: Iterable[tuple[Row, Case]], plan: Plan) -> list[Prepared]:
    """Each row with its question to the judge, or without one where it has an error already or its
    wording fails. Rows of one rubric come together, so that it is read once, and the longest of
    them first, so that no long one is left for the end.

    Raises UsageError where a row comes twice, which no key could tell apart.
    """
    found: list[Prepared] = []
    for row, case in rows:
        if row.get("error"):
            found.append((row, None))
            continue
        template = plan.templates[row["mode"]]
        try:
            question = Question(
                key_of(row), MODES[row["mode"]], template.rubric(), template.case(case)
            )
        except PromptError as error:
            found.append(({**row, "error": error.message}, None))
            continue
        asked = {"template": template.fingerprint(), "prompt": question.text}
        found.append(({**row, **asked}, question))
    keys = Counter(key_of(row) for row, _ in found)
    if twice := [key for key, n in keys.items() if n > 1]:
        raise UsageError(
            f"The id {twice[0][0]!r} appears twice.",
            "Ids tell rows apart: make them different, or use `id_field=none` to count rows.",
        )
    return sorted(found, key=lambda pair: (pair[0]["mode"], -len(pair[0].get("prompt", ""))))


class Described(Protocol):
    """A judge, or what is known of one that workers open."""

    def about(self) -> dict[str, Any]: ...


def run_config(
    judge: Described, plan: Plan, prepared: Sequence[Prepared], shard: tuple[int, int] | None = None
) -> dict[str, Any]:
    """All that decides a judgement; another one is refused when a run is resumed."""
    rows = [row for row, _ in prepared]
    return {
        "task": "evaluate",
        "judge": judge.about(),
        **plan.config(),
        "answers": sorted({row["generator"] for row in rows}),
        "against": sorted({row.get("other_generator", "") for row in rows} - {""}),
        "shard": "/".join(map(str, shard)) if shard else None,
    }


def todo(log: RunLog, prepared: Iterable[Prepared]) -> list[Prepared]:
    """The rows that a run lacks. Raises UsageError where what is to be judged has changed."""
    return [
        pair
        for pair in prepared
        if log.lacks(
            *key_of(pair[0]), asked=pair[0]["asked_sha"], what=f"The answer {pair[0]['id']!r}"
        )
    ]


class Evaluation:
    """Judgements by one judge. It writes nothing: rows are yielded as they are made."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        # The fingerprint is of a model on this machine.
        self._judge = {"judge": judge.name, "judge_fingerprint": judge.about().get("fingerprint")}
        self._rows: dict[tuple[str, ...], Row] = {}
        self._sample: dict[tuple[str, ...], Question] = {}
        self._first: dict[tuple[str, ...], Verdict] = {}  # of the sample

    def stop(self) -> None:
        """Begin no new rows; those in flight are finished. May be called from a signal handler."""
        self.judge.stop()

    def abort(self) -> None:
        """Leave those in flight, too."""
        self.judge.abort()

    def rows(self, todo: Sequence[Prepared]) -> Iterator[Row]:
        """Judge these: first the error rows among them, then the others as they are judged. Raises
        UrialError as the judge does, Aborted or KeyboardInterrupt after abort()."""
        questions = []
        for row, question in todo:
            if question is None:
                yield row
            else:
                self.await_verdict(row)
                questions.append(question)
        self._sample = {question.key: question for question in sample(questions)}
        for verdict in self.judge.judge(questions):
            yield self.judged(verdict)

    def alone(self) -> Iterator[Effect]:
        """Judge a few of the rows of this start again, one by one: what changed for each."""
        return judged_alone(self.judge, self._sample.values(), self._first)

    def await_verdict(self, row: Row) -> None:
        """The row's question goes to the judge."""
        self._rows[key_of(row)] = {**row, **self._judge}

    def judged(self, verdict: Verdict) -> Row:
        """The row with its verdict."""
        row = self._rows.pop(verdict.key)
        if verdict.key in self._sample:
            self._first[verdict.key] = verdict
        counts = {
            "prompt_tokens": verdict.prompt_tokens,
            "cached_tokens": verdict.cached_tokens,
            "completion_tokens": verdict.completion_tokens,
            "seconds": verdict.seconds,
        }
        if verdict.error:
            return {**row, "result": verdict.text, "error": verdict.error, **counts}
        record: Row = {"result": verdict.text, "parsed_result": dict(verdict.record)}
        if verdict.expected:
            record["expected"] = {k: round(v, 6) for k, v in verdict.expected.items()}
        return {**row, **record, **counts}


def key_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(row.get(name, "")) for name in KEY)
