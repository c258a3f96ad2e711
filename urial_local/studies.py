"""What a program asks of datasets: `generate`, `shift` and `judge`, with the results as records.

Each makes a run folder, or goes on with the one that is there: rows that are done are not made
again. Without `output` the folder is a temporary one, which goes when the result does.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any, Generic, TypeVar

from urial_local.assistant import Settings
from urial_local.base.errors import UsageError
from urial_local.base.formats import percent
from urial_local.records.datasets import Item, Selection, iterate
from urial_local.records.generated import Generated
from urial_local.records.judged import KEY as JUDGED_KEY
from urial_local.records.judged import JudgedRow
from urial_local.records.runlog import RunLog
from urial_local.records.runs import RunRows
from urial_local.records.sources import Source, open_source
from urial_local.report.shift_page import write_page
from urial_local.runtime.open import RuntimeOptions
from urial_local.runtime.sampling import Sampling
from urial_local.tasks.evaluate import job as judging
from urial_local.tasks.evaluate.answered import read_answered
from urial_local.tasks.evaluate.local_judge import (
    LocalOptions,
    fitting_context,
    open_local_judge,
)
from urial_local.tasks.evaluate.results import EvaluateSummary, summary_of
from urial_local.tasks.generate import job as generating
from urial_local.tasks.generate.setup import GenerateOptions, plan
from urial_local.tasks.intervals import Interval
from urial_local.tasks.model_file import model_file
from urial_local.tasks.shift import analysis as shifting
from urial_local.tasks.shift.classes import CLASSES, classes
from urial_local.tasks.shift.measures import ContextSummary, ShiftSummary
from urial_local.tasks.shift.record import KEY as SHIFT_KEY
from urial_local.tasks.shift.record import Answer
from urial_local.tasks.shift.results import ShiftRun, write_summary, write_tokens
from urial_local.tasks.shift.setup import ShiftOptions, set_up

Questions = str | Path | Iterable[str | Mapping[str, Any]]
T = TypeVar("T")
SHOWN = 5  # rows of a result in a notebook


class Result(Generic[T]):
    """Rows of a run folder, as records."""

    def __init__(self, folder: _Folder) -> None:
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
        return iter(RunRows(self.folder, generating.KEY, Generated.read))

    @property
    def errors(self) -> dict[str, str]:
        """By id: why a row has no answer."""
        rows = RunRows(self.folder, generating.KEY, Generated.read)
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

    def __init__(self, folder: _Folder) -> None:
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

    def __init__(self, folder: _Folder) -> None:
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
        for name, said in row.parsed_result.items():
            line[name] = said.get("score") if isinstance(said, Mapping) else said
        return line

    def _repr_html_(self) -> str:
        return _table([{"aspect": name, "mean": mean} for name, mean in self.mean.items()])


def generate(
    data: Questions,
    model: str = "demo",
    *,
    output: str | Path | None = None,
    prompt: str | None = None,
    limit: int | None = None,
    parallel: int | None = None,
    exact: bool = False,
    repeat: int = 1,
    ctx_size: int = 0,
    threads: int | None = None,
    **settings: Any,
) -> GenerateRun:
    """Answer every row of a dataset: a file, `hf:user/dataset[:file]`, or questions from a program.

    parallel: rows at a time; None measures which number is fastest. exact: one row at a time, so
    that nothing hangs on neighbours. Other keywords are settings, as for `load`. Raises UsageError,
    PromptError, ModelError or RunError; KeyboardInterrupt on Ctrl-C, with whole rows kept.
    """
    chosen = Settings().changed(**settings)
    options = GenerateOptions(
        prompt=prompt,
        sampling=dict(chosen.sampling),
        max_tokens=chosen.max_tokens,
        markers=chosen.markers,
        stop=chosen.stop,
        parallel=parallel,
        exact=exact,
        job=generating.JobOptions(repeat=repeat, seed=chosen.sampling.get("seed", 0)),
        runtime=RuntimeOptions(ctx_size=ctx_size, threads=threads),
    )
    planned = plan(model_file(model), options)
    folder = _Folder(output)
    with _source(data) as source:

        def items() -> Iterator[Item]:
            return iterate(source, selection=Selection(limit=limit))

        config = planned.config()
        with RunLog(folder.path, config, generating.KEY, Generated.read) as log:
            todo = list(generating.todo(log, items(), repeat))
            if todo:
                first = next((item for item, _ in todo if not item.error), None)
                with planned.open(len(todo), first) as opened:
                    work = generating.Job(opened.engine, opened.method, options.job)
                    for row in work.rows(todo):
                        log.append(row)
    return GenerateRun(folder)


def shift(
    questions: Questions,
    *,
    base: str = "demo",
    aligned: str | Sequence[str] = (),
    output: str | Path | None = None,
    contexts: Sequence[str] = (),
    aligned_prompt: str | None = None,
    answers: Mapping[str, str] | None = None,
    limit: int | None = None,
    max_tokens: int = 512,
    parallel: int = 4,
    ctx_size: int = 0,
    threads: int | None = None,
    temperature: float = 0.0,
    seed: int = 0,
) -> ShiftResult:
    """Compare a base model with its aligned counterpart, token by token, in several contexts (names
    of prompts; by default zero-shot and the URIAL prompt).

    aligned: by default the counterpart that the registry knows. answers: given ones, by id, in
    place of those that the aligned model would write. Raises as `generate` does.
    """
    setup = set_up(
        ShiftOptions(
            base=base,
            aligned=(aligned,) if isinstance(aligned, str) else tuple(aligned),
            base_prompts=tuple(contexts),
            aligned_prompt=aligned_prompt,
            sampling=Sampling(temperature=temperature, seed=seed),
            max_tokens=max_tokens,
            runtime=RuntimeOptions(ctx_size=ctx_size, parallel=parallel, threads=threads),
        )
    )
    with _source(questions) as source:
        items = list(iterate(source, selection=Selection(limit=limit)))
    folder = _Folder(output)
    given = None if answers is None else dict(answers)
    with RunLog(folder.path, setup.config(given is not None), SHIFT_KEY, Answer.read) as log:
        write_tokens(folder.path, setup)
        work = shifting.Analysis(setup, items, given)
        for row in work.rows(shifting.todo(log, setup, items, given)):
            log.append(row)
    return ShiftResult(folder)


def judge(
    answers: GenerateRun | str | Path,
    by: str,
    *,
    output: str | Path | None = None,
    mode: judging.ModeName = "auto",
    expected: bool = False,
    exact: bool = False,
    reason_tokens: int = LocalOptions().reason_tokens,
    parallel: int = 8,
    ctx_size: int = 0,
    threads: int | None = None,
) -> JudgeRun:
    """Have answers judged on their aspects by a model on this machine: those of a run, or of a file
    of JUST-EVAL, AlpacaEval and others. For endpoints, see `urial-local evaluate`.

    Raises as `generate` does.
    """
    name = str(answers.folder if isinstance(answers, GenerateRun) else answers)
    wording = judging.plan(mode)
    rows = judging.prepare(judging.rows_to_judge(read_answered(name), mode), wording)
    if not rows:
        raise UsageError(f"{name} has no answers.")
    file = model_file(by)
    runtime = RuntimeOptions(
        ctx_size=ctx_size, parallel=max(1, min(parallel, len(rows))), threads=threads
    )
    options = LocalOptions(
        expected=expected, exact=exact, reason_tokens=reason_tokens, runtime=runtime
    )
    if not ctx_size:
        need = fitting_context(file, [question for _, question in rows if question], options)
        options = replace(options, runtime=replace(runtime, ctx_size=need))
    folder = _Folder(output)
    with open_local_judge(file, options) as local:
        config = judging.run_config(local, wording, rows)
        with RunLog(folder.path, config, JUDGED_KEY, JudgedRow.read) as log:
            work = judging.Evaluation(local)
            for row in work.rows(judging.todo(log, rows)):
                log.append(row)
    return JudgeRun(folder)


class _Folder:
    """A run's folder; a temporary one lives as long as this object."""

    def __init__(self, output: str | Path | None) -> None:
        if output is not None:
            self.path = Path(output).expanduser()
            return
        self.path = Path(tempfile.mkdtemp(prefix="urial-local-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


@contextmanager
def _source(data: Questions) -> Iterator[Source]:
    """A dataset by its name, or rows of a program as one. Raises UsageError."""
    with ExitStack() as stack:
        if isinstance(data, str | Path):
            yield stack.enter_context(open_source(str(data)))
            return
        file = stack.enter_context(tempfile.NamedTemporaryFile("w", suffix=".jsonl"))
        for row in data:
            line = {"query": row} if isinstance(row, str) else dict(row)
            file.write(json.dumps(line) + "\n")
        file.flush()
        yield stack.enter_context(open_source(file.name))


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
