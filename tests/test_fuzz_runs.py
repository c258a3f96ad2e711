"""Run folders that were damaged or made by others: every command says so in a sentence.

Each round changes a folder of one kind in one place, with a fixed seed, and takes it through what
reads it. URIAL_FUZZ_ROUNDS says how many rounds a kind gets; `make fuzz` runs more.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
from pathlib import Path

import click
import pytest

from tests.crafted_runs import (
    GENERATE,
    JUDGED,
    SHIFT,
    generated_run,
    judged_run,
    just_eval_file,
    shift_run,
)
from tests.experiment_runs import KINDS as EXPERIMENTS
from tests.experiment_runs import MAKERS as EXPERIMENT_MAKERS
from tests.mutations import ROUNDS, changed, changed_bytes, written
from urial_local.base.errors import UrialError
from urial_local.cli.main import cli
from urial_local.records.answers import given_answers
from urial_local.records.datasets import Item
from urial_local.records.generated import Generated
from urial_local.records.judged import KEY as JUDGED_KEY
from urial_local.records.judged import JudgedRow
from urial_local.records.runlog import RunLog
from urial_local.tasks.generate.job import KEY as GENERATE_KEY
from urial_local.tasks.shift.record import KEY as SHIFT_KEY
from urial_local.tasks.shift.record import Answer

pytestmark = pytest.mark.fuzz
COMMANDS = {
    "generate": (
        *(("show", "RUN"), ("show", "RUN", "COPY"), ("show", "RUN", "--flag", "empty")),
        *(("export", "RUN", "--to", shape) for shape in
          ("just-eval", "alpaca-eval", "mt-bench", "fastchat", "csv", "text")),
        ("export", "RUN", "--to", "alpaca-eval", "--compat", "urial"),
        *(("report", "RUN", "--json"), ("report", "RUN", "COPY", "-o", "OUT.html")),
        *(("merge", "RUN", "COPY", "-o", "OUT"), ("leaderboard", "RUN")),
        ("evaluate", "RUN", "--judge", "demo-aligned", "--dry-run"),
        ("evaluate", "summarize", "RUN"),
    ),
    "shift": (
        *(("report", "RUN", "--csv"), ("merge", "RUN", "COPY", "-o", "OUT")),
        ("merge", "COPY", "RUN", "-o", "OUT"),
    ),
    "evaluate": (
        *(("evaluate", "summarize", "RUN", "--json"), ("report", "RUN", "--json")),
        ("evaluate", "summarize", "RUN", "--expected"),
        ("evaluate", "summarize", "RUN", "--compat", "just-eval"),
        ("evaluate", "summarize", "COPY", "--tags-from", "RUN"),
        *(("report", "RUN", "COPY", "-o", "OUT.html"), ("leaderboard", "RUN", "COPY")),
        *(("agreement", "RUN", "COPY"), ("export", "RUN", "--to", "just-eval-judged")),
        ("merge", "RUN", "COPY", "-o", "OUT"),
    ),
}  # fmt: skip
COMMANDS |= dict.fromkeys(
    EXPERIMENTS,
    (("report", "RUN", "--json"), ("merge", "RUN", "COPY", "-o", "OUT"), ("report", "RUN")),
)
MAKERS = {"generate": generated_run, "shift": shift_run, "evaluate": judged_run}
MAKERS |= EXPERIMENT_MAKERS
LOGS = {
    "generate": (GENERATE, GENERATE_KEY, Generated.read),
    "shift": (SHIFT, SHIFT_KEY, Answer.read),
    "evaluate": (JUDGED, JUDGED_KEY, JudgedRow.read),
    **EXPERIMENTS,
}


def change_json(path: Path, rng: random.Random) -> None:
    if path.suffix != ".jsonl":
        path.write_bytes(written(changed(json.loads(path.read_bytes()), rng)))
        return
    lines = path.read_bytes().splitlines()
    at = rng.randrange(len(lines))
    lines[at] = written(changed(json.loads(lines[at]), rng))
    path.write_bytes(b"\n".join(lines) + b"\n")


def change_bytes(path: Path, rng: random.Random) -> None:
    path.write_bytes(changed_bytes(path.read_bytes(), rng))


def change_file(path: Path, rng: random.Random) -> None:
    how = rng.choice(("empty", "gone", "link", "dangling", "device", "pipe", "folder"))
    data = path.read_bytes()
    path.unlink()
    if how == "empty":
        path.write_bytes(b"")
    elif how == "link":
        aside = path.with_name("aside")
        aside.write_bytes(data)
        path.symlink_to(aside)
    elif how == "dangling":
        path.symlink_to("nowhere")
    elif how == "device":
        path.symlink_to("/dev/zero")
    elif how == "pipe":
        os.mkfifo(path)
    elif how == "folder":
        path.mkdir()


def told(folder: Path, args: tuple[str, ...]) -> None:
    """Run a command in this process. What it says to its user may be anything but a traceback."""
    names = {n: str(folder / n.lower()) for n in ("RUN", "COPY", "OUT", "OUT.html")}
    shutil.rmtree(folder / "out", ignore_errors=True)
    out = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="backslashreplace")
    expected = (UrialError, click.ClickException, click.exceptions.Exit, OSError)
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(out),
        contextlib.suppress(*expected),
    ):
        cli.main([names.get(a, a) for a in args], "urial-local", standalone_mode=False)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A folder for each kind that is as it should be."""
    base = tmp_path_factory.mktemp("sound")
    for kind, make in MAKERS.items():
        make(base / kind)
        for name in ("run.lock", "run.owner"):
            (base / kind / name).unlink(missing_ok=True)
    return base


@pytest.mark.parametrize("kind", list(MAKERS))
def test_a_sound_run_goes_through(kind, sound, tmp_path):
    """Otherwise the rounds below would stop at the first check."""
    for name in ("run", "copy"):
        shutil.copytree(sound / kind, tmp_path / name)
    config, key, read = LOGS[kind]
    with RunLog(tmp_path / "run", config, key, read) as log:
        assert log.count_errors() == 1
    if kind == "shift":
        told(tmp_path, ("report", "RUN", "--csv"))
        assert (tmp_path / "run" / "positions.csv").exists()
    told(tmp_path, ("merge", "RUN", "COPY", "-o", "OUT"))
    assert (tmp_path / "out" / "report.html").exists()


@pytest.mark.parametrize("kind", list(MAKERS))
def test_changed_runs_are_told_in_a_sentence(kind, sound, tmp_path):
    rng = random.Random(f"{kind} 1")
    config, key, read = LOGS[kind]
    for number in range(ROUNDS):
        folder = tmp_path / str(number)
        for name in ("run", "copy"):
            shutil.copytree(sound / kind, folder / name)
        names = sorted(p.name for p in (folder / "run").glob("*.json*"))
        path = folder / "run" / rng.choice(names)
        change = rng.choices((change_json, change_bytes, change_file), (8, 2, 1))[0]
        for _ in range(rng.choice((1, 1, 3)) if change is change_json else 1):
            change(path, rng)
        again = folder / "again"
        shutil.copytree(folder / "run", again, symlinks=True, copy_function=copy_anything)
        try:
            for args in rng.sample(COMMANDS[kind], 3):
                told(folder, args)
            with contextlib.suppress(UrialError), RunLog(again, config, key, read):
                pass
            with contextlib.suppress(UrialError):
                given_answers(str(folder / "run"), [Item("q0", 0, "Question 0?")])
        except BaseException:
            print(f"round {number}: {change.__name__} of {path}")
            raise
        shutil.rmtree(folder)


def copy_anything(source: str, target: str) -> None:
    """Pipes too, which shutil would read."""
    if Path(source).is_fifo():
        os.mkfifo(target)
    else:
        shutil.copyfile(source, target, follow_symlinks=False)


def test_changed_files_of_just_eval_are_told_in_a_sentence(tmp_path):
    rng = random.Random("just-eval 1")
    just_eval_file(tmp_path / "sound.json")
    rows = json.loads((tmp_path / "sound.json").read_text())
    shutil.copy(tmp_path / "sound.json", tmp_path / "copy.json")
    commands = (
        *(("evaluate", "summarize", "X", "--json"), ("leaderboard", "X")),
        *(("agreement", "X", "Y"), ("report", "X", "-o", "OUT.html")),
        ("evaluate", "X", "--judge", "demo-aligned", "--dry-run"),
    )
    names = {"X": str(tmp_path / "x.json"), "Y": str(tmp_path / "copy.json")}
    for _ in range(ROUNDS):
        (tmp_path / "x.json").write_bytes(written(changed(json.loads(json.dumps(rows)), rng)))
        for args in rng.sample(commands, 2):
            told(tmp_path, tuple(names.get(a, a) for a in args))
