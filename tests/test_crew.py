"""Several workers for one run: driver and worker over fakes, then processes with a real model."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.command import COMMAND, fails, size_of, until, urial
from tests.fake_plans import FakePlan
from tests.generated_runs import THINGS, rows_of
from urial_local.base.errors import UrialError
from urial_local.records.datasets import Item
from urial_local.runtime.sequences import Aborted
from urial_local.tasks.crew.driver import Crew
from urial_local.tasks.crew.messages import Lost, Made, Ready, Refused, Returned
from urial_local.tasks.crew.worker import Inbox, work
from urial_local.tasks.generate.crew import GenerateSpec, Maker, spec_of
from urial_local.tasks.generate.job import error_row
from urial_local.tasks.generate.setup import GenerateOptions, plan
from urial_local.tasks.model_file import model_file


@dataclass(frozen=True)
class FakeSpec:
    """Rows by a fake engine, through the real job."""

    slots: int = 2
    refuse: str = ""

    @contextlib.contextmanager
    def open(self):
        if self.refuse:
            raise UrialError(self.refuse, "and a hint")
        with FakePlan(self.slots).open(99, None) as opened:
            yield Maker(opened, GenerateOptions())

    def key(self, task):
        return task[0].id, str(task[1])

    def key_of(self, row):
        return row["id"], str(row["repeat"])

    def failed(self, task, message):
        return error_row(*task, message)


def todo(n: int):
    for i in range(n):
        yield Item(str(i), i, f"question {i}" if i % 7 else "", error="" if i % 7 else "Bad."), 0


class Threads:
    """Hands that are threads of this process. `plan` says how often, and after how many rows, each
    dies: its messages are lost from then on."""

    def __init__(self, count: int, deaths: dict[int, list[int]] | None = None) -> None:
        self.count, self.deaths = count, deaths or {}
        self.queue: queue.SimpleQueue = queue.SimpleQueue()
        self.inboxes: dict[int, Inbox] = {}
        self.sent: list[tuple[int, int]] = []
        self.started = 0

    def start(self, number, spec):
        self.started += 1
        limit = self.deaths[number].pop(0) if self.deaths.get(number) else None
        made = [0]

        def emit(event):
            if limit is not None and made[0] >= limit:
                if made[0] == limit:
                    made[0] += 1
                    self.queue.put((number, Lost("a test")))
                return
            made[0] += isinstance(event, Made)
            self.queue.put((number, event))

        inbox = self.inboxes[number] = Inbox(spec, emit)
        thread = threading.Thread(target=work, args=(spec, inbox, emit, "fake"), daemon=True)
        thread.start()

    def events(self):
        found = [self.queue.get()]
        return [one for one in found if one is not None]

    def send(self, number, tasks):
        self.sent.append((number, len(tasks)))
        self.inboxes[number].put(tasks)

    def recall(self, number, count):
        self.inboxes[number].give_back(count)

    def stop(self, number):
        self.inboxes[number].stop()

    def wake(self):
        self.queue.put(None)

    def close(self):
        for inbox in self.inboxes.values():
            inbox.stop()


def rows_by(hands: Threads, n: int, spec=None) -> dict:
    rows = list(Crew(spec or FakeSpec(), hands).rows(todo(n)))
    found = {row["id"]: row for row in rows}
    assert len(found) == len(rows), "no row comes twice"
    return found


def single(n: int) -> dict:
    with FakeSpec(1).open() as maker:
        return {row["id"]: row for row in maker.rows(todo(n))}


def plain(rows: dict) -> dict:
    left = ("seconds", "cached_tokens", "node")
    return {id: {k: v for k, v in row.items() if k not in left} for id, row in rows.items()}


# --- the driver and workers over a fake engine ---------------------------------------------------


@pytest.mark.parametrize("workers", [1, 3])
def test_several_workers_make_the_rows_of_one(workers):
    found = rows_by(Threads(workers), 60)
    assert plain(found) == plain(single(60))
    assert {row["node"].split("/")[1] for row in found.values()} == {"fake"}
    assert found["0"]["error"] == "Bad."


def test_workers_that_die_cost_only_what_they_held():
    hands = Threads(3, deaths={0: [3, 0], 2: [5]})
    assert plain(rows_by(hands, 80)) == plain(single(80))
    assert hands.started == 3 + 3


def test_workers_that_die_without_a_row_end_the_run():
    hands = Threads(2, deaths={0: [0] * 9, 1: [0] * 9})
    with pytest.raises(UrialError, match=r"died 6 times without making a row\. The last: a test"):
        rows_by(hands, 10)


def test_a_worker_that_cannot_make_these_rows_is_named():
    with pytest.raises(UrialError, match=r"/fake: It is another model") as caught:
        rows_by(Threads(2), 10, FakeSpec(refuse="It is another model."))
    assert caught.value.hint == "and a hint"


def test_what_no_row_can_be_made_with_ends_the_run_by_name():
    """As a model that cannot be loaded, of several that a worker opens one after another."""

    class Failing(FakeSpec):
        @contextlib.contextmanager
        def open(self):
            with super().open() as maker:
                rows = maker.rows

                def some(todo):
                    yield from itertools.islice(rows(todo), 3)
                    raise UrialError("The second model is damaged.", "and a hint")

                maker.rows = some
                yield maker

    with pytest.raises(UrialError, match=r"/fake: The second model is damaged") as caught:
        rows_by(Threads(2), 20, Failing())
    assert caught.value.hint == "and a hint"


def test_a_stop_finishes_rows_in_flight_and_begins_no_new_ones():
    hands = Threads(2)
    crew = Crew(FakeSpec(), hands)
    rows = crew.rows(todo(10**6))
    first = [next(rows) for _ in range(5)]
    crew.stop()
    rest = list(rows)
    ids = [row["id"] for row in [*first, *rest]]
    assert len(set(ids)) == len(ids)
    assert len(ids) <= sum(n for _, n in hands.sent), "what was sent at most"
    assert all("answer" in row or row["error"] == "Bad." for row in rest)


def test_an_abort_ends_it_at_once():
    crew = Crew(FakeSpec(), Threads(1))
    rows = crew.rows(todo(10**6))
    next(rows)
    crew.abort()
    with pytest.raises(Aborted):
        list(rows)


def test_what_is_not_begun_is_given_back_from_the_end():
    said = []
    inbox = Inbox(FakeSpec(), said.append)
    inbox.put(list(todo(5)))
    inbox.give_back(2)
    inbox.stop()
    inbox.put(list(todo(1)))
    assert said == [
        Returned((("3", "0"), ("4", "0"))),
        Returned((("0", "0"), ("1", "0"), ("2", "0"))),
        Returned((("0", "0"),)),
    ]
    assert not inbox.wait()


def test_a_worker_says_that_it_is_ready_or_why_not():
    said = []
    inbox = Inbox(FakeSpec(3), said.append)
    inbox.stop()
    work(FakeSpec(3), inbox, said.append, "gpu")
    assert [type(event) for event in said] == [Returned, Ready]
    assert said[1].slots == 3
    work(FakeSpec(refuse="No."), inbox, said.append, "gpu")
    assert isinstance(said[-1], Refused)


# --- processes -----------------------------------------------------------------------------------


def asked(tmp_path: Path, n: int = 4) -> tuple:
    path = tmp_path / "q.txt"
    path.write_text("".join(f"Where can I find a {t} {i}?\n" for i in range(n) for t in THINGS))
    return ("generate", path, "-m", "demo", "--exact", "-n", "12")


def without_node(folder: Path) -> dict:
    rows = rows_of(folder)
    for row in rows.values():
        row.pop("node", None)
    return rows


@pytest.mark.slow
def test_a_process_for_each_device_makes_the_single_run(tmp_path):
    args = asked(tmp_path, 2)
    assert urial(*args, "-o", tmp_path / "single").returncode == 0
    done = urial(*args, "-o", tmp_path / "two", "--devices", "cpu,cpu")
    assert done.returncode == 0, done.stderr
    assert without_node(tmp_path / "two") == without_node(tmp_path / "single")
    assert all(row["node"].endswith("/cpu") for row in rows_of(tmp_path / "two").values())
    info = json.loads((tmp_path / "two" / "run.json").read_text())
    assert info["sessions"][-1]["finished"]
    # A run goes on with another number of devices, or with none.
    assert urial(*args, "-o", tmp_path / "two").returncode == 0


@pytest.mark.slow
def test_under_exact_a_row_does_not_hang_on_a_wait_before_it():
    """A worker that has nothing to do for a moment keeps the last row's cells. The next row must
    begin as if they were not there: its last digits once told."""
    options = GenerateOptions(exact=True, max_tokens=12)
    spec = spec_of(plan(model_file("demo"), options), None, 1, threads=1, on_cpu=True)
    questions = [f"Where can I find a {t} {i}?" for i in range(4) for t in THINGS]
    tasks = [(Item(str(n), n, text), 0) for n, text in enumerate(questions)]
    with spec.open() as maker:
        together = {row["id"]: row for row in maker.rows(iter(tasks))}
    with spec.open() as maker:
        apart = {row["id"]: row for task in tasks for row in maker.rows(iter([task]))}
    assert plain(apart) == plain(together)


def children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # that thread has ended
            found += map(int, (task / "children").read_text().split())
    return found


def workers_of(pid: int) -> list[int]:
    """A driver's workers; it may have other children, which lay out chat templates."""
    found = []
    for child in children(pid):
        with contextlib.suppress(OSError):
            if b"tasks.crew.process" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(child)
    return found


def alive(pid: int) -> bool:
    """Whether a process is there, and more than what nobody has asked after yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are found in /proc")
def test_a_killed_process_and_a_killed_driver_cost_no_row(tmp_path):
    args = asked(tmp_path, 8)
    assert urial(*args, "-o", tmp_path / "single").returncode == 0
    rows = tmp_path / "two" / "rows.jsonl"
    command = [*COMMAND, *map(str, args), "-o", str(tmp_path / "two"), "--devices", "cpu,cpu"]
    driver = subprocess.Popen(command, stderr=subprocess.PIPE)
    until(lambda: size_of(rows), driver)
    workers = children(driver.pid)
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    until(lambda: any(pid not in workers for pid in children(driver.pid)), driver)  # another one
    before = size_of(rows)
    until(lambda: size_of(rows) > before, driver)
    orphans = children(driver.pid)
    driver.kill()
    said = driver.communicate()[1].decode()  # its end is also that of all workers' stderr
    assert "A worker died (cpu: signal 9)" in said
    patience = time.monotonic() + 60
    while any(map(alive, orphans)):  # they end with it, a moment after they have closed its pipe
        assert time.monotonic() < patience
        time.sleep(0.01)
    done = urial(*args, "-o", tmp_path / "two", "--devices", "cpu,cpu")
    assert done.returncode == 0, done.stderr
    assert without_node(tmp_path / "two") == without_node(tmp_path / "single")
    assert len(rows.read_text().splitlines()) == 80, "no row was written twice"


def test_another_model_is_refused_by_name(tmp_path, tiny_llama):
    options = GenerateOptions(prompt="zero-shot", parallel=1)
    spec = spec_of(plan(model_file(str(tiny_llama)), options), None, 1)
    with spec.open() as maker:
        assert maker.slots == 1
    config = {**spec.config, "model": {**spec.config["model"], "fingerprint": "0" * 32}}
    for other in ({"config": config}, {"build": "llama-cpp-python 0.0.0"}):
        changed = {name: getattr(spec, name) for name in GenerateSpec.__slots__} | other
        with pytest.raises(UrialError) as caught, GenerateSpec(**changed).open():
            pass
        assert "would make other rows" in caught.value.message
        name = "model.fingerprint" if "config" in other else "llama.cpp"
        assert f"{name}: " in caught.value.hint


@pytest.mark.parametrize("devices", ["", "gpu", "0,0", "0,x", "-1"])
def test_devices_that_make_no_sense(devices):
    assert "--devices" in fails(2, "generate", "q", "-o", "r", "--devices", devices)
