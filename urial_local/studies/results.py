"""What `generate`, `shift` and `judge` return: the rows of a run folder as records, as a DataFrame,
and as what a notebook shows."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Generic, TypeVar

from urial_local.base.errors import UsageError
from urial_local.base.formats import percent
from urial_local.records.generated import Generated
from urial_local.records.judged import KEY as JUDGED_KEY
from urial_local.records.judged import JudgedRow, of_row
from urial_local.records.runs import RunRows
from urial_local.report.shift_page import write_page
from urial_local.tasks.evaluate.results import EvaluateSummary, summary_of
from urial_local.tasks.generate.job import KEY as GENERATED_KEY
from urial_local.tasks.intervals import Interval
from urial_local.tasks.shift.classes import CLASSES, classes
from urial_local.tasks.shift.measures import ContextSummary, ShiftSummary
from urial_local.tasks.shift.record import Answer
from urial_local.tasks.shift.results import ShiftRun, write_summary

T = TypeVar("T")
SHOWN = 5  # rows of a result in a notebook


class Folder:
    """A run's folder; a temporary one lives as long as this object."""

    def __init__(self, output: str | Path | None) -> None:
        if output is not None:
            self.path = Path(output).expanduser()
            return
        self.path = Path(tempfile.mkdtemp(prefix="urial-local-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


class Result(Generic[T]):
    """Rows of a run folder, as records."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    @property
    def folder(self) -> Path:
        return self._folder.path

    def __iter__(self) -> Iterator[T]:
        raise NotImplementedError

    def to_pandas(self) -> Any:
        """A DataFrame, a line for each row. Raises UsageError without pandas."""
        try:
            import pandas
        except ImportError:
            raise UsageError("to_pandas() needs pandas, which is not installed.") from None
        return pandas.DataFrame([self._line(row) for row in self])

    def _line(self, row: T) -> dict[str, Any]:
        raise NotImplementedError

    def _repr_html_(self) -> str:
        lines = [self._line(row) for _, row in zip(range(SHOWN), self, strict=False)]
        return _table(lines) + f"<p>{escape(str(self.folder))}</p>"


class GenerateRun(Result[Generated]):
    """Answers to the rows of a dataset. Error rows are among `errors` alone."""

    def __iter__(self) -> Iterator[Generated]:
        return iter(RunRows(self.folder, GENERATED_KEY, Generated.read))

    @property
    def errors(self) -> dict[str, str]:
        """By id: why a row has no answer."""
        rows = RunRows(self.folder, GENERATED_KEY, Generated.read)
        return {row.id: row.error for row in rows.errors()}

    def _line(self, row: Generated) -> dict[str, Any]:
        turn = row.turns[0]
        return {
            "id": row.id,
            "query": row.query,
            "answer": turn.answer,
            "finish_reason": turn.finish_reason,
            "tokens": turn.completion_tokens,
            "mean_logprob": turn.mean_logprob,
            "flags": " ".join(row.flags),
        }


@dataclass(frozen=True, slots=True)
class ColouredAnswer:
    """An answer whose tokens are coloured by class in one context, for a notebook."""

    tokens: tuple[str, ...]
    kinds: tuple[str, ...]  # of CLASSES, or "" where a model has no distribution

    def __str__(self) -> str:
        return "".join(self.tokens)

    def _repr_html_(self) -> str:
        colours = {"marginal": "#f5e6a8", "shifted": "#f2b8a8", "not_in_base": "#d0c4ee"}
        spans = []
        for text, kind in zip(self.tokens, self.kinds, strict=True):
            style = f"background:{colours[kind]};color:#222" if kind in colours else ""
            spans.append(f'<span title="{kind}" style="{style}">{escape(text)}</span>')
        shown = "".join(spans)
        return f'<div style="white-space:pre-wrap">{shown}</div>'


class ShiftResult(Result[Answer]):
    """A shift analysis: `result["urial"].shifted.share` and the like, and each answer's columns."""

    def __init__(self, folder: Folder) -> None:
        super().__init__(folder)
        self._run = ShiftRun(self.folder)
        self.summary: ShiftSummary = write_summary(self._run)

    def __iter__(self) -> Iterator[Answer]:
        return iter(self._run)

    @property
    def contexts(self) -> tuple[str, ...]:
        return tuple(self._run.config.contexts)

    def __getitem__(self, context: str | tuple[str, str]) -> ContextSummary:
        """A context's figures; of several aligned models, name the model first: `[model, context]`.
        Raises KeyError, with the names that there are."""
        aligned = self.summary.aligned
        model, name = context if isinstance(context, tuple) else ("", context)
        if not model and len(aligned) == 1:
            (model,) = aligned
        if model not in aligned or name not in self.contexts:
            known = [(m, c) for m in aligned for c in self.contexts]
            raise KeyError(f"{context!r}; known: {known}")
        return aligned[model][name]

    def answer(self, id: str, context: str | None = None) -> ColouredAnswer:
        """An answer coloured by class in a context, by default the first. Raises KeyError."""
        for row in self:
            if row.id == id:
                ours = row.contexts[context or self.contexts[0]]
                kinds = classes(ours["status"], ours["base_rank"])
                texts = self._run.texts[row.aligned]
                return ColouredAnswer(
                    tuple(texts[token] for token in row.ids),
                    tuple(CLASSES[kind] if kind >= 0 else "" for kind in kinds),
                )
        raise KeyError(id)

    def report(self, path: str | Path | None = None) -> Path:
        """Write the page; returns where it is. Raises OSError."""
        page = write_page(self._run, self.summary)
        return page if path is None else Path(shutil.copyfile(page, path))

    def _line(self, row: Answer) -> dict[str, Any]:
        line: dict[str, Any] = {"id": row.id, "aligned": row.aligned, "query": row.query}
        line |= {"answer": row.text, "tokens": len(row.ids), "ended": row.ended}
        for name, columns in row.contexts.items():
            kinds = classes(columns["status"], columns["base_rank"])
            line[f"shifted_{name}"] = float((kinds == CLASSES.index("shifted")).mean())
        return line

    def _repr_html_(self) -> str:
        lines = [
            {
                "aligned": model,
                "base context": context,
                "unshifted": percent(found[context].unshifted.share),
                "marginal": percent(found[context].marginal.share),
                "shifted": percent(found[context].shifted.share),
                "mean KL": found[context].kl.mean,
            }
            for model, found in self.summary.aligned.items()
            for context in self.contexts
        ]
        return _table(lines)


class JudgeRun(Result[JudgedRow]):
    """Judgements, and the scores that follow from them: `result.mean["clarity"]`."""

    def __init__(self, folder: Folder) -> None:
        super().__init__(folder)
        self.summary: EvaluateSummary = summary_of([str(self.folder)])

    def __iter__(self) -> Iterator[JudgedRow]:
        return iter(RunRows(self.folder, JUDGED_KEY, JudgedRow.read))

    @property
    def mean(self) -> dict[str, float | None]:
        """Mean score of each aspect that was judged."""
        return self.summary.scores.mean

    @property
    def interval(self) -> dict[str, Interval | None]:
        """The mean's 95 % interval over questions; None where there are too few."""
        return self.summary.scores.interval

    def _line(self, row: JudgedRow) -> dict[str, Any]:
        line: dict[str, Any] = {"id": row.id, "mode": row.mode, "query": row.query}
        judged = of_row(row, "")
        for name, said in row.parsed_result.items():
            if not isinstance(said, Mapping):
                line[name] = said
            elif "score" in said:  # a number, or None for N/A
                line[name] = None if judged.error else judged.score(name)
            else:
                line |= {f"{name} {part}": value for part, value in said.items()}
        return line

    def _repr_html_(self) -> str:
        return _table([{"aspect": name, "mean": mean} for name, mean in self.mean.items()])


def _table(lines: Sequence[Mapping[str, Any]]) -> str:
    """An HTML table; all texts are escaped."""
    if not lines:
        return "<p>no rows</p>"

    def shown(value: Any) -> str:
        text = f"{value:.3f}" if isinstance(value, float) else "" if value is None else str(value)
        return escape(text)

    head = "".join(f"<th>{escape(name)}</th>" for name in lines[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{shown(v)}</td>" for v in line.values()) + "</tr>" for line in lines
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
