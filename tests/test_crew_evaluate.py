"""Several workers for a run of `evaluate`: processes with the demo model as the judge."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.command import COMMAND, fails, size_of, until, urial
from tests.judged_runs import JUDGE, by_key, write_answers
from tests.test_crew import workers_of
from urial_local.base.errors import UrialError
from urial_local.records.datasets import Selection
from urial_local.tasks.evaluate.crew import EvaluateSpec, Judges, spec_of
from urial_local.tasks.evaluate.job import plan
from urial_local.tasks.evaluate.local_judge import LocalOptions
from urial_local.tasks.evaluate.neighbours import Effect
from urial_local.tasks.evaluate.setup import JudgeOptions, fitting, rows_of

TWO = ("--devices", "cpu,cpu")


def judgements(folder: Path) -> dict:
    rows = by_key(folder)
    for row in rows.values():
        row.pop("node", None)
    return rows


def prepared(path: Path, n: int) -> list:
    return rows_of(str(write_answers(path, n)), plan("auto"), selection=Selection())


def spec_for(rows: list, *, parallel: int = 4, exact: bool = False) -> EvaluateSpec:
    local = LocalOptions(expected=True, reason_tokens=8, exact=exact)
    options = JudgeOptions("demo-aligned", parallel=parallel, local=local)
    return spec_of(*fitting(options, rows), threads=1, on_cpu=True)


@pytest.mark.slow
def test_workers_judge_as_one_process_does(tmp_path):
    data = write_answers(tmp_path / "a.json", 12)
    args = ("evaluate", data, *JUDGE, "--expected", "--exact", "-o")
    assert urial(*args, tmp_path / "single").returncode == 0
    done = urial(*args, tmp_path / "two", *TWO)
    assert done.returncode == 0, done.stderr
    assert judgements(tmp_path / "two") == judgements(tmp_path / "single")
    assert "Judged again alone" not in done.stdout
    nodes = {key[0]: row.get("node") for key, row in by_key(tmp_path / "two").items()}
    assert all(node.endswith("/cpu") for node in nodes.values())
    # It goes on without workers, and with them where nothing is left to do.
    for more in ((), TWO):
        done = urial(*args, tmp_path / "two", *more)
        assert (done.returncode, "2 workers" in done.stderr) == (0, False), done.stderr
    info = json.loads((tmp_path / "two" / "run.json").read_text())
    assert all(session["finished"] for session in info["sessions"])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are found in /proc")
def test_a_killed_worker_and_a_killed_driver_cost_no_judgement(tmp_path):
    data = write_answers(tmp_path / "a.json", 60)
    args = ("evaluate", data, *JUDGE, "--exact", "-o")
    rows = tmp_path / "two" / "rows.jsonl"
    command = [*COMMAND, *map(str, (*args, tmp_path / "two", *TWO))]
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
    done = urial(*args, tmp_path / "two", *TWO)
    assert done.returncode == 0, done.stderr
    assert urial(*args, tmp_path / "single").returncode == 0
    assert judgements(tmp_path / "two") == judgements(tmp_path / "single")
    assert len(rows.read_text().splitlines()) == 60, "no row was written twice"


@pytest.mark.slow
def test_sigterm_finishes_what_workers_have_begun(tmp_path):
    data = write_answers(tmp_path / "a.json", 200)
    args = ("evaluate", data, *JUDGE, "-o", tmp_path / "two", *TWO)
    driver = subprocess.Popen(
        [*COMMAND, *map(str, args)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        until(lambda: size_of(tmp_path / "two" / "rows.jsonl"), driver)
        driver.send_signal(signal.SIGTERM)
        said = driver.communicate(timeout=120)[1].decode()
    finally:
        driver.kill()
        driver.communicate()
    assert driver.returncode == 75, said
    assert "Run the same command again" in said
    info = json.loads((tmp_path / "two" / "run.json").read_text())
    assert not any(name.startswith("alone_") for name in info["sessions"][-1])


@pytest.mark.slow
def test_one_worker_judges_a_few_again_alone(tmp_path):
    data = write_answers(tmp_path / "a.json", 40)
    done = urial("evaluate", data, *JUDGE, "-o", tmp_path / "two", *TWO)
    assert "Judged again alone, 2 answers" in done.stdout, done.stderr
    assert "2 workers." in done.stderr
    (session,) = json.loads((tmp_path / "two" / "run.json").read_text())["sessions"]
    assert (session["alone_answers"], session["rows"]) == (2, 40)
    assert len((tmp_path / "two" / "rows.jsonl").read_text().splitlines()) == 40


class Unequal:
    """Hands whose first rows have other scores than those that one judges again."""

    def __init__(self, count: int | None) -> None:
        self.count = count or 2
        self.waiting: list = []

    def start(self, number, spec):
        from urial_local.tasks.crew.messages import Ready

        self.spec = spec
        self.waiting.append((number, Ready(spec.together, "n")))

    def events(self):
        found, self.waiting = self.waiting, []
        return found

    def send(self, number, tasks):
        from urial_local.tasks.crew.messages import Made

        score = "2" if self.spec.alone else "5"
        for row, question in tasks:
            record = {p.path[0]: {"reason": "", "score": score} for p in question.mode.places}
            made = {**row, "parsed_result": record, "expected": {"safety": float(score)}}
            self.waiting.append((number, Made(self.spec.key_of(row), made)))

    def recall(self, number, count): ...
    def stop(self, number): ...
    def wake(self): ...
    def close(self): ...


def test_the_effect_of_neighbours_is_of_the_sampled_rows(tmp_path):
    """By hand: each of the sampled rows' scores goes from 5 to 2."""
    rows = prepared(tmp_path / "a.json", 80)
    begun: list = []
    judges = Judges(spec_for(rows), lambda n: begun.append(n) or Unequal(n))
    assert len(list(judges.rows(rows))) == 80
    found = sum(judges.alone(), Effect())
    assert begun == [None, 1], "one worker, once"
    assert found.answers == 3, "one in 32"
    assert found.differ == found.scores > 0
    assert found.total == 3.0 * found.scores
    assert found.expected == 3.0


def test_a_judge_with_room_for_several_judges_again_one_by_one(tmp_path):
    rows = prepared(tmp_path / "a.json", 6)
    spec = spec_for(rows)
    rows.insert(2, ({**rows[0][0], "id": "bad", "error": "No answer."}, None))
    assert spec.together == 4
    asked = []
    with replace(spec, alone=True).open() as maker:
        assert maker.slots == 1
        judge = maker._judge.judge
        maker._judge.judge = lambda questions: judge(asked.append(q) or q for q in questions)
        made = list(maker.rows(iter([*rows, None, rows[0]])))
    assert [row["id"] for row in made] == [row["id"] for row, _ in rows], "until it has to wait"
    assert made[2]["error"] == "No answer."
    assert [q.key[0] for q in asked] == [row["id"] for row in made if "error" not in row]


def test_under_exact_a_judgement_does_not_hang_on_a_wait_before_it(tmp_path):
    rows = prepared(tmp_path / "a.json", 8)
    spec = spec_for(rows, exact=True)

    def plain(row):
        return {k: v for k, v in row.items() if k not in ("seconds", "cached_tokens")}

    with spec.open() as maker:
        together = {row["id"]: plain(row) for row in maker.rows(iter(rows))}
    with spec.open() as maker:
        apart = {row["id"]: plain(row) for one in rows for row in maker.rows(iter([one]))}
    assert apart == together


def test_another_judge_is_refused_by_name(tmp_path):
    spec = spec_for(prepared(tmp_path / "a.json", 4))
    other = {**spec.config, "fingerprint": "0" * 32}
    changed = ((replace(spec, config=other), "fingerprint"),
               (replace(spec, build="llama-cpp-python 0.0.0"), "llama.cpp"))  # fmt: skip
    for one, name in changed:
        with pytest.raises(UrialError) as caught, one.open():
            pass
        assert "would make other rows" in caught.value.message
        assert f"{name}: " in caught.value.hint


@pytest.mark.parametrize("workers", [TWO, ("--ray", "local")])
def test_an_endpoint_has_no_workers(tmp_path, workers):
    data = write_answers(tmp_path / "a.json", 4)
    said = fails(2, "evaluate", data, "--judge", "openai:x", "-o", tmp_path / "x", *workers)
    assert f"{workers[0]} needs a judge on this machine" in said
    assert not (tmp_path / "x").exists()
