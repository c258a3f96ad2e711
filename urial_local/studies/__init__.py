"""What a program asks of datasets: `generate`, `shift` and `judge`, with the results as records.

Each makes a run folder, or goes on with the one that is there: rows that are done are not made
again. Without `output` the folder is a temporary one, which goes when the result does.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from urial_local.assistant import Settings
from urial_local.records.datasets import Item, Selection, iterate
from urial_local.records.generated import Generated
from urial_local.records.judged import KEY as JUDGED_KEY
from urial_local.records.judged import JudgedRow
from urial_local.records.runlog import RunLog
from urial_local.records.sources import Source, open_source
from urial_local.runtime.open import RuntimeOptions
from urial_local.runtime.sampling import Sampling
from urial_local.studies.results import Folder, GenerateRun, JudgeRun, ShiftResult
from urial_local.tasks.evaluate import job as judging
from urial_local.tasks.evaluate.local_judge import LocalOptions
from urial_local.tasks.evaluate.setup import JudgeOptions, open_fitting, rows_of
from urial_local.tasks.generate import job as generating
from urial_local.tasks.generate.setup import GenerateOptions, plan
from urial_local.tasks.guide import guide_options, taken
from urial_local.tasks.model_file import model_file
from urial_local.tasks.shift import analysis as shifting
from urial_local.tasks.shift.record import KEY as SHIFT_KEY
from urial_local.tasks.shift.record import Answer
from urial_local.tasks.shift.results import write_tokens
from urial_local.tasks.shift.setup import ShiftOptions, set_up

Questions = str | Path | Iterable[str | Mapping[str, Any]]


def generate(
    data: Questions,
    model: str = "demo",
    *,
    output: str | Path | None = None,
    prompt: str | None = None,
    chat_template: str | None = None,
    limit: int | None = None,
    parallel: int | None = None,
    exact: bool = False,
    repeat: int = 1,
    ctx_size: int = 0,
    threads: int | None = None,
    guide: str | None = None,
    **settings: Any,
) -> GenerateRun:
    """Answer every row of a dataset: a file, `hf:user/dataset[:file]`, or questions from a program.

    parallel: rows at a time; None measures which number is fastest. exact: one row at a time, so
    that nothing hangs on neighbours. chat_template, guide and other keywords: as for `load`.
    Raises UsageError, PromptError, ModelError or RunError; KeyboardInterrupt on Ctrl-C, with whole
    rows kept.
    """
    second = guide_options(guide, **taken(settings))
    chosen = Settings().changed(**settings)
    options = GenerateOptions(
        prompt=prompt,
        chat_template=chat_template,
        **_chosen(chosen),
        guide=second,
        parallel=parallel,
        exact=exact,
        job=generating.JobOptions(repeat=repeat, seed=chosen.sampling.get("seed", 0)),
        runtime=RuntimeOptions(ctx_size=ctx_size, threads=threads),
    )
    planned = plan(model_file(model), options)
    folder = Folder(output)
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
    chat_template: str | None = None,
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

    aligned: by default the counterpart that the registry knows. chat_template: a file with one, in
    place of the aligned model's own. answers: given ones, by id, in
    place of those that the aligned model would write. Raises as `generate` does.
    """
    setup = set_up(
        ShiftOptions(
            base=base,
            aligned=(aligned,) if isinstance(aligned, str) else tuple(aligned),
            base_prompts=tuple(contexts),
            aligned_prompt=aligned_prompt,
            chat_template=chat_template,
            sampling=Sampling(temperature=temperature, seed=seed),
            max_tokens=max_tokens,
            runtime=RuntimeOptions(ctx_size=ctx_size, parallel=parallel, threads=threads),
        )
    )
    with _source(questions) as source:
        items = list(iterate(source, selection=Selection(limit=limit)))
    folder = Folder(output)
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
    rows = rows_of(name, wording)
    options = JudgeOptions(
        name=by,
        parallel=parallel,
        local=LocalOptions(
            expected=expected,
            exact=exact,
            reason_tokens=reason_tokens,
            runtime=RuntimeOptions(ctx_size=ctx_size, threads=threads),
        ),
    )
    folder = Folder(output)
    with open_fitting(options, rows) as local:
        config = judging.run_config(local, wording, rows)
        with RunLog(folder.path, config, JUDGED_KEY, JudgedRow.read) as log:
            work = judging.Evaluation(local)
            for row in work.rows(judging.todo(log, rows)):
                log.append(row)
    return JudgeRun(folder)


def _chosen(settings: Settings) -> dict[str, Any]:
    """Settings, as a run's options name them."""
    return {
        "sampling": dict(settings.sampling),
        "max_tokens": settings.max_tokens,
        "markers": settings.markers,
        "stop": settings.stop,
        "prefill": settings.prefill,
    }


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
