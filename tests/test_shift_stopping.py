"""`urial-local shift` that is stopped and goes on."""

from __future__ import annotations

import pytest

from tests.command import interrupted_at_rows, killed_until_done, size_of
from tests.shifted_runs import PAIR, QUESTIONS, rows_of, summary_of


@pytest.mark.slow
def test_killed_again_and_again_it_comes_to_the_same_rows(shifted, tmp_path):
    args = ("shift", shifted / "q.json", *PAIR, "-o", tmp_path / "run")
    row = size_of(shifted / "run" / "rows.jsonl") // len(QUESTIONS)
    assert killed_until_done(tmp_path / "run" / "rows.jsonl", 2 * row, *args) >= 2
    assert rows_of(tmp_path / "run") == rows_of(shifted / "run")
    assert summary_of(tmp_path / "run") == summary_of(shifted / "run")


def test_ctrl_c_keeps_the_rows_that_are_done(tiny_aligned, tiny_llama, tmp_path):
    (tmp_path / "q.txt").write_text("".join(f"the rain {i}\n" for i in range(400)))
    rows = tmp_path / "run" / "rows.jsonl"
    args = ("shift", tmp_path / "q.txt", "--base", tiny_llama, "--aligned", tiny_aligned)
    args = (*args, "-o", tmp_path / "run", "-t", "1", "--base-prompt", "zero-shot", "-n", "60")
    code, said = interrupted_at_rows(rows, *args)
    assert code == 130, said
    assert "Run the same command again" in said
    assert rows.read_bytes().endswith(b"\n")
    assert len(rows_of(tmp_path / "run")) < 400
