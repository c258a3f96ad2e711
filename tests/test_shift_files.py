"""What a shift run writes beside its page: positions as CSV, figures as files."""

from __future__ import annotations

import csv
import shutil
import warnings

import numpy as np
import pytest

from tests.command import urial
from tests.shifted_runs import rows_of
from tests.tiny_gguf import write_llama


def test_positions_as_csv(shifted):
    with (shifted / "run" / "positions.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    rows = rows_of(shifted / "run")
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


def test_figures_as_files(shifted, tmp_path):
    pytest.importorskip("matplotlib")
    shutil.copytree(shifted / "run", tmp_path / "run")
    assert urial("report", tmp_path / "run", "--figures").returncode == 0
    figures = {p.name: p.read_text() for p in (tmp_path / "run" / "figures").iterdir()}
    assert set(figures) == {"shares.svg", "kl.svg", "probability.svg", "rank.svg", "shifted.svg"}
    assert all("</svg>" in text for text in figures.values())


NAMES = ("b$\\q{$", "$x^$", "_hidden", "a\nb\x1b[2J", "\ud800", "日本", "x" * 400, "zero-shot")


def made_summary(names=NAMES, lost=(), rows: int = 2):
    """A summary as shift makes it, of random logits; the base has none in the contexts `lost`."""
    from urial_local.runtime.shift_rows import shift_rows_numpy
    from urial_local.tasks.shift.record import ALIGNED_COLUMNS, CONTEXT_COLUMNS, Answer, to_json
    from urial_local.tasks.shift.scoring import columns
    from urial_local.tasks.shift.summary import summarise

    rng = np.random.default_rng(0)
    answers = []
    for i in range(rows):
        base = rng.normal(size=(7, 20)).astype(np.float32)
        aligned = base + rng.normal(size=base.shape).astype(np.float32)
        ids = rng.integers(0, 20, 7).astype(np.int32)
        row = {"id": str(i), "number": i, "aligned": "m", "query": "q", "answer_ids": ids.tolist()}
        row |= {"ended": True, "end_token": False, "contexts": {}}
        for name in names:
            found = columns(shift_rows_numpy(base * np.nan if name in lost else base, aligned, ids))
            row["contexts"][name] = to_json(found, CONTEXT_COLUMNS)
        answers.append(Answer.read({**row, **to_json(found, ALIGNED_COLUMNS)}))
    return summarise(answers, {"m": [str(i) for i in range(20)]})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lost", "rows", "drawn"),
    [((), 2, 5), (NAMES[:3], 2, 5), (NAMES, 2, 0), ((), 1, 5), ((), 0, 0)],
)
def test_figures_of_any_names_and_of_what_was_not_measured(tmp_path, lost, rows, drawn):
    pytest.importorskip("matplotlib")
    from xml.etree import ElementTree

    from urial_local.report.figures import write_figures

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        paths = write_figures(tmp_path / "figures", made_summary(lost=lost, rows=rows))
    assert len(paths) == drawn
    for path in paths:
        ElementTree.parse(path)


def test_names_are_no_formulas_and_none_is_hidden(tmp_path):
    pytest.importorskip("matplotlib")
    import matplotlib as mpl

    from urial_local.report.figures import write_figures

    with mpl.rc_context({"svg.fonttype": "none"}):  # text as text
        write_figures(tmp_path, made_summary())
    for name in ("shares.svg", "kl.svg"):
        text = (tmp_path / name).read_text("utf-8")
        for shown in ("b$\\q{$", "$x^$", "_hidden", "a b[2J", "日本"):
            assert shown in text, (name, shown)
        assert "x" * 61 not in text


def test_a_run_that_measured_nothing_says_so(tmp_path):
    """A base model whose logits are no numbers: the answers are there, and nothing is known."""
    pytest.importorskip("matplotlib")
    import gguf

    from tests.tiny_gguf import PLAIN_CHAT

    base = write_llama(tmp_path / "base.gguf")
    aligned = write_llama(tmp_path / "aligned.gguf", seed=1, chat_template=PLAIN_CHAT)
    norm = next(t for t in gguf.GGUFReader(base, "r+").tensors if t.name == "output_norm.weight")
    norm.data[:] = np.nan
    norm.data.flush()
    (tmp_path / "q.txt").write_text("Hi\nHello\n")
    args = ("shift", tmp_path / "q.txt", "--base", base, "--aligned", aligned, "-n", "4")
    args += ("--base-prompt", "zero-shot", "-o", tmp_path / "run", "--figures")
    done = urial(*args)
    assert (done.returncode, "Traceback" in done.stderr) == (3, False), done.stderr
    assert "Nothing was measured in zero-shot: a model's logits are not finite" in done.stderr
    assert "base not finite" in done.stdout
    assert urial(*args).returncode == 3, "as often as it is asked"


def test_figures_without_their_extra(monkeypatch):
    from urial_local.base.errors import UsageError
    from urial_local.cli.plumbing.shift_results import require_matplotlib

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="needs matplotlib") as caught:
        require_matplotlib()
    assert "[report]" in caught.value.hint
