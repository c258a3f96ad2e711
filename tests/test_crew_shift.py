"""Several workers for a run of `shift`: processes with the embedded pair."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.command import COMMAND, fails, size_of, until, urial
from tests.shifted_runs import PAIR, QUESTIONS
from tests.test_crew import workers_of
from urial_local.base.errors import UrialError
from urial_local.records.datasets import Item
from urial_local.records.runlog import latest_rows
from urial_local.runtime.open import RuntimeOptions
from urial_local.runtime.sampling import Sampling
from urial_local.tasks.crew import same
from urial_local.tasks.model_file import model_file
from urial_local.tasks.shift.analysis import Analysis, samples
from urial_local.tasks.shift.crew import ShiftSpec, spec_of
from urial_local.tasks.shift.record import KEY
from urial_local.tasks.shift.setup import Setup, ShiftOptions, set_up

TWO = ("--devices", "cpu,cpu")
LEFT = ("seconds", "node")


def plain(row: dict) -> dict:
    return {name: value for name, value in row.items() if name not in LEFT}


def rows_of(folder: Path) -> dict:
    """Whole rows by their keys, also the positions that were scored again."""
    found = list(latest_rows(folder, KEY))
    return {tuple(str(row.get(k, "")) for k in KEY): plain(row) for row in found}


def summary_of(folder: Path) -> dict:
    (found,) = json.loads((folder / "summary.json").read_text())["aligned"].values()
    return found


def asked(path: Path, n: int = 6) -> tuple:
    texts = [f"{QUESTIONS[i % 6][:-1]} {i}?" for i in range(n)]
    path.write_text(json.dumps([{"id": str(i), "question": t} for i, t in enumerate(texts)]))
    return ("shift", path, *PAIR, "--base-prompt", "zero-shot", "-np", "1", "-n", "12")


@pytest.mark.slow
def test_workers_make_the_rows_of_one_process(tmp_path):
    """Also the noise floor, and what is measured on the first rows, whoever makes those."""
    args = (*asked(tmp_path / "q.json"), "--noise-floor", "demo-aligned")
    assert urial(*args, "-o", tmp_path / "single").returncode == 0
    done = urial(*args, "-o", tmp_path / "two", *TWO)
    assert done.returncode == 0, done.stderr
    assert "2 workers." in done.stderr
    found = rows_of(tmp_path / "two")
    assert found == rows_of(tmp_path / "single")
    assert sum("batch_shape" in row for row in found.values()) == 4
    assert all("noise_floor" in row for row in found.values())
    nodes = [row["node"] for row in latest_rows(tmp_path / "two", KEY)]
    assert all(node.endswith("/cpu") for node in nodes)
    two, single = (summary_of(tmp_path / name) for name in ("two", "single"))
    assert two["batch_shape"]["answers"] == single["batch_shape"]["answers"] == 4
    for part, name in (("noise_floor", "kl_base_other"), ("batch_shape", "kl_base_aligned")):
        assert two[part]["positions"] == single[part]["positions"] > 0
        assert two[part][name]["mean"] == pytest.approx(single[part][name]["mean"], rel=1e-9)
    assert single["noise_floor"]["kl_base_other"]["mean"] > 0.01
    again = urial(*args, "-o", tmp_path / "two", *TWO)  # with nothing left to do
    assert (again.returncode, "2 workers" in again.stderr) == (0, False), again.stderr


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are found in /proc")
def test_a_killed_worker_and_a_killed_driver_cost_no_row(tmp_path):
    args = asked(tmp_path / "q.json", 40)
    rows = tmp_path / "two" / "rows.jsonl"
    command = [*COMMAND, *map(str, (*args, "-o", tmp_path / "two", *TWO))]
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        until(lambda: size_of(rows), driver)
        workers = workers_of(driver.pid)
        assert len(workers) == 2
        os.kill(workers[1], signal.SIGSTOP)  # so that rows are left, however fast it is
        os.kill(workers[0], signal.SIGKILL)
        until(lambda: any(pid not in workers for pid in workers_of(driver.pid)), driver)
        os.kill(workers[1], signal.SIGCONT)
        before = size_of(rows)
        until(lambda: size_of(rows) > before, driver)
    finally:
        driver.kill()
        said = driver.communicate()[1].decode()
    assert "A worker died (cpu: signal 9)" in said
    done = urial(*args, "-o", tmp_path / "two", *TWO)
    assert done.returncode == 0, done.stderr
    assert urial(*args, "-o", tmp_path / "single").returncode == 0
    assert rows_of(tmp_path / "two") == rows_of(tmp_path / "single")
    assert len(rows.read_text().splitlines()) == 40, "no row was written twice"


@pytest.mark.slow
def test_sigterm_finishes_what_workers_have_begun(tmp_path):
    args = asked(tmp_path / "q.json", 200)
    command = [*COMMAND, *map(str, (*args, "-o", tmp_path / "two", *TWO))]
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        until(lambda: size_of(tmp_path / "two" / "rows.jsonl"), driver)
        driver.send_signal(signal.SIGTERM)
        said = driver.communicate(timeout=120)[1].decode()
    finally:
        driver.kill()
        driver.communicate()
    assert driver.returncode == 75, said
    assert "Run the same command again" in said
    assert (tmp_path / "two" / "rows.jsonl").read_bytes().endswith(b"\n")


# --- the inside of a worker ----------------------------------------------------------------------


def two_aligned(tiny_llama: Path, tiny_aligned: Path) -> Setup:
    """The base model stands for a second aligned one."""
    names = (str(tiny_aligned), str(tiny_llama))
    return set_up(
        ShiftOptions(
            str(tiny_llama), names, ("zero-shot",), "zero-shot", max_tokens=8,
            runtime=RuntimeOptions(parallel=1, threads=1, disk_cache=False),
        )
    )  # fmt: skip


ITEMS = [Item(str(i), i, f"the rain {i}" + " falls" * (i % 3), fields={"x": i}) for i in range(8)]
ITEMS[5] = replace(ITEMS[5], query="", error="It is not a text.")


def made(spec: ShiftSpec, *pieces: list) -> dict:
    """By one worker, to whom the rows come in pieces, with waits between them."""
    with spec.open() as maker:
        found = []
        for piece in pieces:
            source = iter([*piece, None, None, None, None])
            found += [row for _ in range(2) for row in maker.rows(source)]
    assert len({spec.key_of(row) for row in found}) == len(found)
    return {spec.key_of(row): plain(row) for row in found}


@pytest.mark.parametrize("kind", ["greedy", "given", "sampled"])
def test_a_worker_makes_what_one_process_does_in_any_order(tiny_llama, tiny_aligned, kind):
    """With several aligned models, and whatever it waits for."""
    setup, given, n = two_aligned(tiny_llama, tiny_aligned), kind == "given", 1
    if kind == "sampled":
        n, warm = 2, Sampling(temperature=1.0, seed=3)
        setup = replace(setup, options=replace(setup.options, sampling=warm, samples=n))
    answers = {item.id: f"it is {item.id}" for item in ITEMS[:7]} if given else None
    todo = [(m.name, item, s) for m in setup.aligned for item in ITEMS for s in samples(setup)]
    spec = spec_of(setup, ITEMS, answers, todo)
    assert spec.items[0].fields == {}
    single = {spec.key_of(row): plain(row) for row in Analysis(setup, ITEMS, answers).rows(todo)}
    assert len(single) == 16 * n
    assert sum("error" in row for row in single.values()) == (4 if given else 2 * n)
    assert sum("batch_shape" in row for row in single.values()) == 8
    assert made(spec, todo) == single
    assert made(spec, todo[6:11], todo[:2], todo[11:], todo[2:6]) == single


def test_a_worker_that_is_told_to_stop_makes_what_it_has_drawn(tiny_llama, tiny_aligned):
    """Also the first row of another model, which it drew to see that there are no more of one."""
    setup = two_aligned(tiny_llama, tiny_aligned)
    one, two = (model.name for model in setup.aligned)
    todo = [(one, ITEMS[0], ""), (two, ITEMS[1], ""), (two, ITEMS[2], "")]
    spec = spec_of(setup, ITEMS, None, todo)
    drawn = []
    with spec.open() as maker:

        def source():
            for task in todo:
                drawn.append(spec.key(task))
                if task is todo[1]:
                    maker.stop()
                yield task

        found = [spec.key_of(row) for row in maker.rows(source())]
    assert found == drawn == [spec.key(task) for task in todo[:2]]


def test_another_model_is_refused_by_name(tiny_llama, tiny_aligned):
    setup = two_aligned(tiny_llama, tiny_aligned)
    spec = spec_of(setup, ITEMS, None, [(setup.aligned[0].name, ITEMS[0], "")])
    base = {**spec.config, "base": {**spec.config["base"], "fingerprint": "0" * 32}}
    changed = ((replace(spec, config=base), "base.fingerprint"),
               (replace(spec, build="llama-cpp-python 0.0.0"), "llama.cpp"))  # fmt: skip
    for one, name in changed:
        with pytest.raises(UrialError) as caught, one.open():
            pass
        assert "would make other rows" in caught.value.message
        assert f"{name}: " in caught.value.hint


def test_two_files_of_one_name_keep_their_names(tiny_llama, tiny_aligned, tmp_path):
    """They are told apart by a number; a link among them stays a link."""
    files = [tmp_path / name / "chat.gguf" for name in ("a", "b")]
    for file in files:
        file.parent.mkdir()
        file.symlink_to(tiny_aligned)
    options = ShiftOptions(
        str(tiny_llama), tuple(map(str, files)), ("zero-shot",), "zero-shot",
        runtime=RuntimeOptions(parallel=1, threads=1, disk_cache=False), max_tokens=4,
    )  # fmt: skip
    setup = set_up(options)
    assert [m.name for m in setup.aligned] == ["chat-1", "chat-2"]
    todo = [(m.name, ITEMS[0], "") for m in setup.aligned]
    assert list(made(spec_of(setup, ITEMS, None, todo), todo)) == [
        ("chat-1", "0", ""),
        ("chat-2", "0", ""),
    ]


def test_names_for_workers(tiny_llama, tmp_path, monkeypatch):
    monkeypatch.chdir(tiny_llama.parent)
    for asked_for, name in (("demo", "demo"), (f"./{tiny_llama.name}", str(tiny_llama))):
        found = same.name_for_workers(model_file(asked_for))
        assert found == name
        assert model_file(found).name == model_file(asked_for).name


@pytest.mark.parametrize(
    "mode",
    [("q.txt", "--handover", "1"), ("q.txt", "--swap", "js>0.1"), ("--texts", "t.txt")],
    ids=lambda mode: mode[-2],
)
@pytest.mark.parametrize("workers", [TWO, ("--ray",), ("--actors", "2")], ids=lambda w: w[0])
def test_modes_have_no_workers(tmp_path, mode, workers):
    said = fails(2, "shift", *mode, *PAIR, "-o", tmp_path / "run", *workers)
    name = next(word for word in mode if word.startswith("--"))
    assert f"{workers[0]} is for the plain run; {name} has no workers" in said
    assert not (tmp_path / "run").exists()
