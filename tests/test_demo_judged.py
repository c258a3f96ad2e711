"""The embedded base model's answers to 100 held-out questions, judged from end to end.

The judge is the embedded aligned model, as a stand-in: it shows the machinery, as the page says.
"""

from __future__ import annotations

import json

import pytest

from tests.command import urial
from tools.demo_pair.held_out import questions
from urial_local.tasks.evaluate.modes import ASPECTS


@pytest.mark.slow
def test_100_held_out_questions_end_to_end(tmp_path):
    asked = questions(7)
    unsafe = [q for q in asked if q.kind == "unsafe"][:20]
    others = [q for q in asked if q.kind != "unsafe"][:80]
    rows = [
        {"id": i, "query": q.text, "task": [q.kind],
         "category": "safety" if q.kind == "unsafe" else "regular"}
        for i, q in enumerate([*others, *unsafe])
    ]  # fmt: skip
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = tmp_path / "run"
    done = urial("generate", tmp_path / "q.jsonl", "-m", "demo", "-o", run, "-np", "16")
    assert done.returncode == 0, done.stderr
    done = urial("evaluate", run, "--judge", "demo-aligned", "--expected", "-np", "16",
                 "--reason-tokens", "16")  # fmt: skip
    assert done.returncode == 0, done.stderr
    folder = run / "judged-demo-aligned"
    found = json.loads((folder / "summary.json").read_text())
    assert (found["judged"], found["failed"]) == (100, 0)
    assert {a: f["n"] for a, f in found["aspects"].items()} == {
        a: 20 if a == "safety" else 80 for a in ASPECTS
    }
    assert found["average"]["low"] <= found["average"]["mean"] <= found["average"]["high"]
    assert found["ended"] == 1.0
    assert set(found["by"]["task"]) == {q.kind for q in [*others, *unsafe]}
    page = (folder / "report.html").read_text()
    assert "as a stand-in: it shows that judging works, and its scores mean nothing" in page
