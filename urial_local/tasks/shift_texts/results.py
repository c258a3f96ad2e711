"""Reads the folder of a run over texts back, and makes its summary."""

from __future__ import annotations

from pathlib import Path

from urial_local.base.errors import RunError
from urial_local.records.runlog import write_json
from urial_local.records.runs import RunRows, read_run, read_token_texts
from urial_local.records.typed import Malformed
from urial_local.tasks.shift_texts.record import KEY, ScoredText, TextsConfig
from urial_local.tasks.shift_texts.setup import TextSetup
from urial_local.tasks.shift_texts.summary import TextsSummary, summarise


def write_tokens(folder: Path, setup: TextSetup) -> None:
    """`tokens-NAME.json`: what each token id of the aligned model stands for."""
    path = folder / f"tokens-{setup.aligned.name}.json"
    if not path.exists():
        with setup.aligned.vocabulary() as vocab:
            write_json(path, [vocab.label(t) for t in range(vocab.size)])


class TextsRun:
    """A run folder as it stands at one moment."""

    def __init__(self, folder: Path) -> None:
        """Raises UsageError for another kind of run, RunError for damaged rows."""
        self.folder = folder
        self.info = read_run(folder)
        self.config = TextsConfig.of(self.info)
        # The name is only looked for among the files that are there: it may have come from anywhere
        wanted = f"tokens-{self.config.aligned.name}.json"
        path = next((p for p in folder.glob("tokens-*.json") if p.name == wanted), folder / "none")
        self.texts = read_token_texts(path)
        self.rows = RunRows(folder, KEY, ScoredText.read)

    def summary(self) -> TextsSummary:
        """Raises RunError for a row of another vocabulary."""
        try:
            return summarise(self.rows, self.texts, self.rows.errors())
        except Malformed as error:
            raise RunError(
                f"{self.folder / 'rows.jsonl'} holds a row that is not of this run: {error}."
            ) from None


def write_summary(run: TextsRun) -> TextsSummary:
    """Make `summary.json` from the rows; returns what it says."""
    summary = run.summary()
    write_json(run.folder / "summary.json", {**summary.as_json(), "config": dict(run.info.config)})
    return summary
