"""`demo`: what it shows, and which folders it empties."""

from __future__ import annotations

import json

import filelock
import pytest

from tests.command import urial
from urial_local.base.errors import RunError, UsageError
from urial_local.cli.demo import emptied

DEMO = {"format": 1, "config": {"task": "shift"}, "sessions": [{"command": "urial-local demo"}]}


def test_demo_with_a_model_of_ones_own(tiny_llama):
    """Without a counterpart there is nothing to analyse; the questions are asked all the same."""
    done = urial("demo", "-m", tiny_llama, "-p", "vanilla")
    assert done.returncode == 0, done.stderr
    assert "the same under a URIAL prompt:" in done.stdout
    assert "its aligned counterpart:" not in done.stdout
    assert "How far" not in done.stdout
    assert f"urial-local chat -m {tiny_llama}" in done.stdout


@pytest.fixture
def demo_folder(tmp_path):
    folder = tmp_path / "demo"
    (folder / "notes").mkdir(parents=True)
    for name in ("thesis.txt", "notes/report.html"):
        (folder / name).write_text("mine")
    return folder


def test_demo_empties_its_own_folder_only(demo_folder):
    assert emptied(demo_folder) == demo_folder, "nothing of ours there"
    for name in ("rows.jsonl", "report.html", "tokens-x.json", "run.lock"):
        (demo_folder / name).write_text("{}")
    (demo_folder / "run.json").write_text(json.dumps(DEMO))
    with filelock.FileLock(demo_folder / "run.lock"), pytest.raises(RunError, match="Another"):
        emptied(demo_folder)
    emptied(demo_folder)
    left = {p.name: p.read_text() for p in demo_folder.rglob("*") if p.is_file()}
    left.pop("run.lock", None)
    assert left == {"thesis.txt": "mine", "report.html": "mine"}


@pytest.mark.parametrize(
    "info",
    [
        "",
        "[" * 100_000,
        "[]",
        json.dumps(DEMO | {"sessions": []}),
        json.dumps(DEMO | {"sessions": [{"command": 3}]}),
        json.dumps(DEMO | {"sessions": [*DEMO["sessions"], {"command": "urial-local shift q"}]}),
    ],
)
def test_demo_leaves_other_runs_alone(demo_folder, info):
    (demo_folder / "run.json").write_text(info)
    before = sorted(demo_folder.rglob("*"))
    with pytest.raises(UsageError, match="left as it is"):
        emptied(demo_folder)
    assert sorted(demo_folder.rglob("*")) == before
    (demo_folder / "run.json").unlink()
    (demo_folder / "report.html").write_text("mine, too")
    with pytest.raises(UsageError, match="left as it is"):
        emptied(demo_folder)


@pytest.mark.slow
def test_demo_twice(tmp_path):
    """The second makes the first one's run again, in a folder that nobody else can read."""
    state = tmp_path / "state"
    args = ("-m", "demo", "--aligned", "demo-aligned")
    for _ in range(2):
        done = urial("demo", *args, URIAL_STATE_DIR=str(state))
        assert done.returncode == 0, done.stderr
        assert "How far" in done.stdout
        (state / "demo" / "notes.txt").write_text("mine")
    assert (state / "demo" / "notes.txt").exists()
    assert len(json.loads((state / "demo" / "run.json").read_text())["sessions"]) == 1
    assert [p.stat().st_mode & 0o777 for p in (state, state / "demo")] == [0o700, 0o700]
