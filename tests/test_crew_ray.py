"""Ray's actors as workers. Skipped without the [ray] extra."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from tests import test_crew_evaluate, test_crew_shift
from tests.command import COMMAND, fails, process, size_of, until, urial
from tests.judged_runs import JUDGE, write_answers
from tests.test_crew import FakeSpec, asked, plain, rows_by, single, without_node
from tests.test_storm import storm
from urial_local.records.generated import Generated
from urial_local.records.runlog import RunLog
from urial_local.tasks.crew.driver import Crew
from urial_local.tasks.crew.ray_actors import Actors, RayChoice
from urial_local.tasks.generate.crew import spec_of
from urial_local.tasks.generate.job import KEY, todo
from urial_local.tasks.generate.setup import GenerateOptions, plan
from urial_local.tasks.model_file import model_file

HALVES = RayChoice("auto", actors=2, cpus=0.5)
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def cluster(session_folders):
    """A cluster of two cores on this machine; its address."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray = pytest.importorskip("ray")
        before = signal.getsignal(signal.SIGTERM)
        found = ray.init(
            num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False
        )
    signal.signal(signal.SIGTERM, before)
    yield found.address_info["gcs_address"]
    ray.shutdown()


def test_actors_make_the_rows_of_one(cluster):
    assert plain(rows_by(Actors(HALVES), 40)) == plain(single(40))


def test_an_actor_that_is_not_fit_is_named(cluster):
    with pytest.raises(Exception, match=r"/cpu: It is another model"):
        rows_by(Actors(HALVES), 5, FakeSpec(refuse="It is another model."))


def test_more_actors_than_there_is_room_for_begin_as_it_grows(cluster):
    said = []
    hands = Actors(RayChoice("auto", actors=3, cpus=1), said.append)
    hands.close()
    assert "has room for 2 such actors now" in said[0]


def test_a_run_with_a_killed_actor_is_the_single_run(cluster, tmp_path):
    args = asked(tmp_path, 4)
    assert urial(*args, "-o", tmp_path / "single").returncode == 0
    import ray

    options = GenerateOptions(exact=True, max_tokens=12)
    planned = plan(model_file("demo"), options)
    hands = Actors(HALVES)
    said = []
    crew = Crew(spec_of(planned, None, 1, threads=1, on_cpu=True), hands, said.append)
    from urial_local.records.datasets import read_items

    items = read_items(tmp_path / "q.txt")
    killed = False
    with RunLog(tmp_path / "two", planned.config(), KEY, Generated.read) as log:
        for row in crew.rows(todo(log, items, 1)):
            log.append(row)
            if not killed:
                killed = True
                ray.kill(hands._actors[0])
    assert any("A worker died" in text for text in said)
    assert without_node(tmp_path / "two") == without_node(tmp_path / "single")
    assert len((tmp_path / "two" / "rows.jsonl").read_text().splitlines()) == 40


def test_a_run_with_a_killed_driver_is_the_single_run(cluster, tmp_path):
    args = asked(tmp_path, 4)
    assert urial(*args, "-o", tmp_path / "single").returncode == 0
    more = ("-o", tmp_path / "two", "--ray", cluster, "--actors", "2", "--cpus-per-actor", "0.5")
    rows = tmp_path / "two" / "rows.jsonl"
    driver = subprocess.Popen([*COMMAND, *map(str, (*args, *more))], stderr=subprocess.DEVNULL)
    try:
        until(lambda: size_of(rows), driver, 120)
    finally:
        driver.kill()
        driver.wait()
    done = process(*args, *more, timeout=300)
    assert done.returncode == 0, done.stderr
    assert without_node(tmp_path / "two") == without_node(tmp_path / "single")
    assert len(rows.read_text().splitlines()) == 40, "no row was written twice"


def actors(driver: int) -> list[int]:
    """Processes of this machine that are actors, whoever's they are."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (folder / "cmdline").read_bytes().startswith(b"ray::Actor"):
                found.append(int(folder.name))
    return found


def test_a_storm_over_actors_loses_and_doubles_no_row(cluster, tmp_path):
    storm(tmp_path, ("--ray", cluster, "--actors", "2", "--cpus-per-actor", "0.5"), actors)


def test_judgements_and_shifts_by_actors_are_the_single_run(cluster, tmp_path):
    """Also the answers that one actor judges again alone, where several are judged together."""
    more = ("--ray", cluster, "--actors", "2", "--cpus-per-actor", "0.5")
    data = write_answers(tmp_path / "a.json", 12)
    for args, read, name in (
        (("evaluate", data, *JUDGE, "--exact"), test_crew_evaluate.judgements, "judged"),
        (test_crew_shift.asked(tmp_path / "s.json"), test_crew_shift.rows_of, "shift"),
    ):
        single, two = tmp_path / f"{name}-1", tmp_path / f"{name}-2"
        assert urial(*args, "-o", single).returncode == 0
        done = process(*args, "-o", two, *more, timeout=300)
        assert done.returncode == 0, done.stderr
        assert "2 actors." in done.stderr
        assert read(two) == read(single)
    done = process("evaluate", data, *JUDGE, "-o", tmp_path / "alone", *more, timeout=300)
    assert "Judged again alone, 1 answer:" in done.stdout, done.stderr


def test_sigterm_is_heard_beside_ray(cluster, tmp_path):
    args = asked(tmp_path, 40)
    more = ("-o", tmp_path / "run", "--ray", cluster, "--actors", "1", "--cpus-per-actor", "0.5")
    driver = subprocess.Popen([*COMMAND, *map(str, (*args, *more))], stderr=subprocess.PIPE)
    try:
        until(lambda: size_of(tmp_path / "run" / "rows.jsonl"), driver, 120)
        driver.send_signal(signal.SIGTERM)
        said = driver.communicate(timeout=120)[1].decode()
    finally:
        driver.kill()
        driver.communicate()
    assert driver.returncode == 75, said
    assert "Run the same command again" in said


def test_an_address_without_a_cluster_is_told(tmp_path):
    pytest.importorskip("ray")
    (tmp_path / "q.txt").write_text("hi\n")
    said = fails(
        *(2, "generate", tmp_path / "q.txt", "-m", "demo", "-o", tmp_path / "r"),
        *("--ray", "nonsense"),
        run=lambda *a, **env: process(*a, **env),
    )
    assert "cannot be reached" in said


def test_without_ray_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    (tmp_path / "q.txt").write_text("hi\n")
    assert "urial-local[ray]" in fails(
        2, "generate", tmp_path / "q.txt", "-o", tmp_path / "r", "--ray"
    )
    assert not os.path.exists(tmp_path / "r")
