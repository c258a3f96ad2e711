"""What a fit refuses, and what is left where something goes wrong."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
from pathlib import Path

import pytest

from tests.command import COMMAND, fails, interrupted_at_rows, size_of, until, urial
from tests.fit_runs import (
    ANIMALS,
    ONE_SHOT,
    QUICK,
    fit,
    known_answers,
    known_probes,
    rows,
    summary,
    write_probes,
    write_rows,
)
from urial_local.prompting.library import load_prompt
from urial_local.records import runlog
from urial_local.records.runlog import RunLog
from urial_local.tasks.fit import job, plan, result
from urial_local.tasks.fitted import defaults_path, keep_default
from urial_local.tasks.model_file import model_file


@pytest.fixture(autouse=True)
def few_candidates(monkeypatch):
    monkeypatch.setattr(job, "START", 4)


@pytest.fixture(autouse=True)
def easily_sure(monkeypatch):
    """Five held-out questions can make nobody sure; here any difference above 0 counts."""
    monkeypatch.setattr(result, "SURE", 1.1)


@pytest.fixture
def probes(tmp_path) -> Path:
    return known_probes(tmp_path)


@pytest.fixture
def answers(tmp_path) -> Path:
    return known_answers(tmp_path)


def test_what_changes_the_scores_is_refused(probes, answers, tmp_path):
    fit("--probes", probes, "-o", tmp_path / "r", "--no-default")
    args = ("fit", "demo", *QUICK, "-o", tmp_path / "r")
    assert "objective" in fails(2, *args, "--answers", answers)
    assert "seed" in fails(2, *args, "--probes", probes, "-s", "1")
    write_probes(probes, [f"Where is a {a}?" for a in ANIMALS])
    assert "questions" in fails(2, *args, "--probes", probes)


@pytest.mark.slow
def test_another_pool_is_refused(answers, tmp_path):
    pool = write_rows(tmp_path / "pool.json", [("1", "Where is it?", "It is in the green forest.")])
    args = ("demo", *ONE_SHOT, "--answers", answers, "--pool", pool, "-o", tmp_path / "r")
    assert urial("fit", *args, "--no-default").returncode == 0
    write_rows(pool, [("1", "Where is it?", "It is in the cold forest.")])
    assert "examples" in fails(2, "fit", *args)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--aligned", "demo-aligned", "--answers", "x.json"), "exclude each other"),
        (("--probes", "x.toml", "--answers", "x.json"), "not be used"),
        (("--answers", "few.json"), "needs 8 answers at least"),
        (("--answers", "bare.json"), "needs 8 answers at least"),
        (("--pool", "bare.json"), "none can be an example"),
        (("--probes", "few.toml"), "needs 8 probes at least"),
        (("--budget", "0"), "0"),
        (("-k", "9"), "9"),
    ],
)
def test_too_little_or_too_much(args, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_rows(Path("few.json"), [(str(i), f"Why {i}?", "So.") for i in range(7)])
    Path("bare.json").write_text('[{"query": "Why?"}]')
    write_probes(Path("few.toml"), ["One?", "Two?", "Three?"])
    assert said in fails(2, "fit", "demo", "-o", "r", *args)
    assert not Path("r", "run.json").exists()


def test_a_folder_of_another_run_is_refused_before_anything_is_made(generated, probes):
    args = ("demo", "--probes", probes, "--aligned", "demo-aligned", "-o", generated / "run")
    assert "holds a run of generate" in fails(2, "fit", *args)
    assert not (generated / "run" / "answers").exists()


def test_an_aligned_model_without_a_template(tiny_llama, probes, tmp_path):
    args = ("demo", "--probes", probes, "--aligned", tiny_llama, "-o", tmp_path / "r")
    assert "carries no chat template" in fails(2, "fit", *args)


def test_two_processes(probes, tmp_path):
    with RunLog(tmp_path / "r", {"task": "fit"}, job.KEY):
        said = fails(1, "fit", "demo", *QUICK, "--probes", probes, "-o", tmp_path / "r")
    assert "Another process is writing" in said


def test_a_damaged_row_is_named(probes, tmp_path):
    fit("--probes", probes, "-o", tmp_path / "r", "--no-default")
    path = tmp_path / "r" / "rows.jsonl"
    path.write_text(path.read_text().replace('"score":', '"scare":', 1))
    said = fails(1, "fit", "demo", *QUICK, "--probes", probes, "-o", tmp_path / "r")
    assert "line 1: score is missing" in said


def test_a_result_that_cannot_be_kept_is_shown_all_the_same(answers, tmp_path, own_folders):
    (own_folders / "config").write_text("")  # no folder can be made there
    done = urial("fit", "demo", *QUICK, "--answers", answers, "-o", tmp_path / "r", "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["made_default"] is False
    assert "cannot be written" in done.stderr
    assert "prompt.toml" in done.stderr


def test_malformed_settings_are_not_written_over(answers, tmp_path):
    defaults_path().parent.mkdir(parents=True)
    defaults_path().write_text("{")
    done = urial("fit", "demo", *QUICK, "--answers", answers, "-o", tmp_path / "r")
    assert done.returncode == 2
    assert "malformed" in done.stderr
    assert defaults_path().read_text() == "{"


def test_a_full_disk_at_the_end(answers, tmp_path, monkeypatch):
    whole = runlog.write_json

    def full(path, value):
        if path.name == "summary.json":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        whole(path, value)

    monkeypatch.setattr(runlog, "write_json", full)
    said = fails(1, "fit", "demo", *QUICK, "--answers", answers, "-o", tmp_path / "r")
    assert "No space left" in said
    monkeypatch.undo()
    assert not defaults_path().exists()


def test_a_file_of_an_odd_name(answers, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "my $model 'x'.gguf"
    path.write_bytes(model_file("demo").path.read_bytes())
    keep_default(model_file("demo").fingerprint, "urial-demo")
    done = fit("--answers", answers, model=path.name)
    name = "fit-my__model__x_"
    assert load_prompt(name).name == name
    assert Path(name, "prompt.toml").exists()
    listed = json.loads(urial("prompts", "list", "-m", path.name, "--json").stdout)
    assert [row["name"] for row in listed if row["default"]] == [name]
    assert r"""prompts default 'my $model '"'"'x'"'"'.gguf' --clear""" in done.stderr


@pytest.mark.parametrize("kind", ["tiny_llama", "tiny_mamba", "tiny_windowed"])
def test_models_of_all_kinds(kind, answers, probes, tmp_path, request):
    path = request.getfixturevalue(kind)
    for goal, data in (("answers", answers), ("probes", probes)):
        out = tmp_path / goal
        done = urial("fit", path, *QUICK, f"--{goal}", data, "-o", out, "--no-default")
        assert done.returncode == 0, done.stderr
        assert summary(out)["held_out"] == 5


def test_a_budget_of_next_to_nothing(probes, tmp_path):
    fit("--probes", probes, "-o", tmp_path / "r", "--budget", "1e-9")
    found = summary(tmp_path / "r")
    assert found["held_out"] == 5
    assert len(rows(tmp_path / "r")) == 10, "the default, on both halves"
    assert found["verdict"] == "not better"
    assert not defaults_path().exists()


def test_the_shipped_probes_have_two_halves():
    from urial_local.tasks.benchmark.probes import load_probes

    probes = load_probes()
    found = plan.plan(model_file("demo"), plan.FitOptions(), probes)
    tuning, held_out = found.halves()
    assert sorted(tuning + held_out) == sorted(p.id for p in probes), "none is an example"
    assert not set(tuning) & set(held_out)
    kinds = {p.id: p.kind for p in probes}
    for half in (tuning, held_out):
        assert {kinds[name] for name in half[:12]} == set(kinds.values())


@pytest.mark.slow
def test_ctrl_c_keeps_the_scores(probes, tmp_path):
    args = ("fit", "demo", "-k", "3", "-np", "2", "--probes", probes, "-o", tmp_path / "r")
    code, said = interrupted_at_rows(tmp_path / "r" / "rows.jsonl", *args)
    assert code == 130
    assert "Run the same command again" in said
    assert rows(tmp_path / "r")
    assert not (tmp_path / "r" / "summary.json").exists()
    assert not defaults_path().exists()


@pytest.mark.slow
def test_ctrl_c_while_the_aligned_model_answers(probes, tmp_path):
    folder = tmp_path / "r"
    args = ("fit", "demo", *QUICK, "--probes", probes, "--aligned", "demo-aligned", "-o", folder)
    code, said = interrupted_at_rows(folder / "answers" / "rows.jsonl", *args)
    assert code == 130
    assert "Run the same command again" in said
    assert not (folder / "run.json").exists()
    done = urial(*args, "--no-default")
    assert done.returncode == 0, done.stderr
    assert len(rows(folder / "answers")) == 10


@pytest.mark.slow
def test_a_second_ctrl_c_stops_at_once(answers, tmp_path):
    path = tmp_path / "r" / "rows.jsonl"
    child = subprocess.Popen(
        [*COMMAND, "fit", "demo", "-k", "3", "--answers", str(answers), "-o", str(path.parent)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        until(lambda: size_of(path), child)
        child.send_signal(signal.SIGINT)
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=60)
    finally:
        child.kill()
        child.communicate()
    assert child.returncode == 130
    assert b"Traceback" not in said
