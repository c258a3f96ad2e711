"""What a shift run writes beside its page: positions as CSV, figures as files."""

from __future__ import annotations

import csv
import shutil

import pytest

from tests.test_cli import urial
from tests.test_shift_run import rows_of, run

__all__ = ["run"]  # a fixture


def test_positions_as_csv(run):
    with (run / "run" / "positions.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    rows = rows_of(run / "run")
    assert len(lines) == 2 * sum(len(r["answer_ids"]) for r in rows.values())
    line = next(x for x in lines if x["id"] == "q3" and x["context"] == "urial-demo")
    row = rows["q3"]
    assert int(line["token_id"]) == row["answer_ids"][0]
    assert int(line["base_rank"]) == row["contexts"]["urial-demo"]["base_rank"][0]
    assert sum(int(x["is_end"]) for x in lines) == 12
    theirs = set(row["aligned_top_ids"][0])
    ours = set(row["contexts"]["urial-demo"]["base_top_ids"][0])
    assert float(line["jaccard"]) == pytest.approx(
        len(theirs & ours) / len(theirs | ours), rel=1e-5
    )


def test_figures_as_files(run, tmp_path):
    pytest.importorskip("matplotlib")
    shutil.copytree(run / "run", tmp_path / "run")
    assert urial("report", tmp_path / "run", "--figures").returncode == 0
    figures = {p.name: p.read_text() for p in (tmp_path / "run" / "figures").iterdir()}
    assert set(figures) == {"shares.svg", "kl.svg", "probability.svg", "rank.svg", "shifted.svg"}
    assert all("</svg>" in text for text in figures.values())


def test_figures_without_their_extra(monkeypatch):
    from urial_local.base.errors import UsageError
    from urial_local.cli.shift import require_matplotlib

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="needs matplotlib") as caught:
        require_matplotlib()
    assert "[report]" in caught.value.hint
