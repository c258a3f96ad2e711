"""Reads a run folder back: its rows as arrays, its tokens' texts, its summary, its positions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from urial_local.base.files import replacing
from urial_local.records.runlog import write_json
from urial_local.records.runs import FailedRow, Row, RunRows, read_run, read_token_texts
from urial_local.records.tables import SpreadsheetWriter
from urial_local.records.typed import Malformed
from urial_local.tasks.shift.classes import CLASSES, classes
from urial_local.tasks.shift.measures import ShiftSummary
from urial_local.tasks.shift.record import KEY, Answer, ShiftConfig, jaccard, same_top
from urial_local.tasks.shift.setup import Setup
from urial_local.tasks.shift.summary import summarise

SCALARS = ("base_logprob", "kl_base_aligned", "kl_aligned_base", "js", "base_entropy")
FINER = ("overlap", "base_above", "base_nucleus_entropy")
CSV_COLUMNS = (
    *("aligned", "id", "context", "position", "token_id", "token", "class", "status"),
    *("base_rank", "aligned_rank", *SCALARS, "aligned_logprob", "aligned_entropy"),
    *("same_top", "jaccard", "is_end"),
    *("sample", "gain", *FINER, "aligned_nucleus_entropy"),
)


class TokenTexts(dict[str, tuple[str, ...]]):
    """What the ids in each aligned model's rows stand for, read when asked for. Raises RunError
    where a `tokens-NAME.json` is missing or damaged."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def __missing__(self, aligned: str) -> tuple[str, ...]:
        self[aligned] = texts = read_token_texts(self._folder / f"tokens-{aligned}.json")
        return texts


class ShiftRun:
    """A run folder as it stands at one moment; its answers can be read again and again."""

    def __init__(self, folder: Path) -> None:
        """Raises UsageError for another kind of run, RunError for damaged rows."""
        self.folder = folder
        self.info = read_run(folder)
        self.config = ShiftConfig.of(self.info)
        self.texts = TokenTexts(folder)
        self._rows = RunRows(folder, KEY, self._read)

    def errors(self) -> list[FailedRow]:
        return self._rows.errors()

    def __iter__(self) -> Iterator[Answer]:
        """The scored rows, one at a time. Raises RunError for a row that is not of this run."""
        return iter(self._rows)

    def _read(self, row: Row) -> Answer:
        answer = Answer.read(row)
        names = [model.name for model in self.config.aligned]
        if answer.aligned not in names:
            raise Malformed(f"aligned must be one of {', '.join(names)}, not {answer.aligned!r}")
        if answer.contexts.keys() != self.config.contexts.keys():
            raise Malformed(f"contexts must be {', '.join(self.config.contexts)}")
        known = len(self.texts[answer.aligned])
        if (highest := answer.highest_id()) >= known:
            raise Malformed(
                f"it holds the token id {highest:,}, and tokens-{answer.aligned}.json has"
                f" {known:,} tokens"
            )
        return replace(answer, contexts={n: answer.contexts[n] for n in self.config.contexts})


def write_tokens(folder: Path, setup: Setup) -> None:
    """`tokens-NAME.json`: what each token id of an aligned model stands for, for those who read the
    rows."""
    for model in setup.aligned:
        path = folder / f"tokens-{model.name}.json"
        if not path.exists():
            with model.vocabulary() as vocab:
                write_json(path, [vocab.label(t) for t in range(vocab.size)])


def write_summary(run: ShiftRun) -> ShiftSummary:
    """Make `summary.json` from the rows; returns what it says."""
    summary = ShiftSummary(
        base=run.config.base.name,
        errors=run.errors(),
        aligned=summarise(run, run.texts),
        config=run.info.config,
    )
    write_json(run.folder / "summary.json", summary.as_json())
    return summary


def write_csv(run: ShiftRun, path: Path) -> None:
    """One line for each position of each answer in each context."""
    with replacing(path) as file:
        writer = SpreadsheetWriter(file)
        writer.writerow(CSV_COLUMNS)
        for answer in run:
            theirs = answer.aligned_columns
            for name, ours in answer.contexts.items():
                kinds = classes(ours["status"], ours["base_rank"])
                same, overlap = same_top(answer, name), jaccard(answer, name)
                gain = theirs["aligned_logprob"] - ours["base_logprob"]
                for t, token in enumerate(answer.ids):
                    writer.writerow(
                        [
                            answer.aligned,
                            answer.id,
                            name,
                            t,
                            token,
                            run.texts[answer.aligned][token],
                            CLASSES[kinds[t]] if kinds[t] >= 0 else "",
                            ours["status"][t],
                            ours["base_rank"][t],
                            theirs["aligned_rank"][t],
                            *(_cell(ours[s][t]) for s in SCALARS),
                            _cell(theirs["aligned_logprob"][t]),
                            _cell(theirs["aligned_entropy"][t]),
                            int(same[t]),
                            _cell(overlap[t]),
                            int(answer.end_token and t == len(answer.ids) - 1),
                            "" if answer.sample is None else answer.sample,
                            _cell(gain[t]),
                            *(_cell(ours[s][t]) for s in FINER),
                            _cell(theirs["aligned_nucleus_entropy"][t]),
                        ]
                    )


def _cell(value: np.float64) -> str:
    return f"{value:.7g}" if np.isfinite(value) else ""
