"""Who makes which row: the schedule alone, and a thousand workers on paper."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.crew_simulation import Simulation
from urial_local.tasks.crew.schedule import TRIES, Schedule


def key(task: int) -> tuple[str, ...]:
    return (str(task),)


def orders(schedule: Schedule) -> dict:
    found: dict = {}
    for name, tasks in schedule.orders():
        found.setdefault(name, []).extend(tasks)
    return found


def test_a_worker_holds_twice_its_batch_and_is_fed_before_it_is_empty():
    schedule = Schedule(range(100), key)
    schedule.join("a", 4)
    assert orders(schedule) == {"a": [0, 1, 2, 3, 4, 5, 6, 7]}
    assert schedule.made("a", key(0))
    assert orders(schedule) == {}, "seven are enough"
    assert schedule.made("a", key(2))
    assert orders(schedule) == {"a": [8, 9]}, "a chunk"


def test_no_more_is_read_from_the_source_than_workers_can_hold():
    read = []
    schedule = Schedule((read.append(i) or i for i in range(10**9)), key)
    schedule.join("a", 3)
    orders(schedule)
    assert len(read) == 6


def test_only_what_a_lost_worker_held_is_made_again():
    schedule = Schedule(range(8), key)
    schedule.join("a", 2)
    schedule.join("b", 2)
    assert orders(schedule) == {"a": [0, 1, 2, 3], "b": [4, 5, 6, 7]}
    schedule.made("a", key(1))
    assert schedule.lost("a") == []
    assert not schedule.made("a", key(0)), "a message from a worker that is gone does not count"
    for task in (4, 5, 6, 7):
        schedule.made("b", key(task))
    again = orders(schedule)["b"]
    assert sorted(again) == [0, 3] or again[:1] == [0], "the first may have been what killed it"
    assert 1 not in again


def test_a_row_that_kills_is_given_up_and_no_other():
    """It takes its neighbours' workers with it, but these rows are made."""
    outcome = Simulation(6, 4, 300, lambda r: r.uniform(5, 15), poison=frozenset({17, 200})).run()
    assert sorted(outcome.given_up) == [17, 200]
    assert outcome.deaths == 2 * TRIES
    assert outcome.made == Counter(set(range(300)) - {17, 200})


def test_an_idle_worker_gets_what_another_has_not_begun():
    schedule = Schedule(range(8), key)
    schedule.join("a", 4)
    assert orders(schedule) == {"a": list(range(8))}
    schedule.join("b", 4)
    assert orders(schedule) == {}
    assert schedule.recall() == ("a", 2), "half of what it has not begun"
    assert schedule.recall() is None, "once"
    schedule.returned("a", [key(6), key(7)])
    assert orders(schedule) == {"b": [6, 7]}
    assert schedule.recall() is None, "nobody is idle"


def test_after_a_stop_nothing_is_handed_out_and_what_is_in_flight_is_waited_for():
    schedule = Schedule(range(100), key)
    schedule.join("a", 2)
    orders(schedule)
    schedule.stop()
    schedule.returned("a", [key(2), key(3)])
    assert orders(schedule) == {}
    assert not schedule.done
    schedule.made("a", key(0))
    schedule.lost("a")
    assert schedule.done


@given(
    workers=st.integers(1, 6), slots=st.integers(1, 5), rows=st.integers(0, 60),
    mtbf=st.sampled_from([5.0, 30.0, 1e9]), latency=st.sampled_from([0.0, 0.5, 30.0]),
    seed=st.integers(0, 10**6),
)  # fmt: skip
@settings(max_examples=150)
def test_whatever_happens_no_row_is_lost_or_doubled(workers, slots, rows, mtbf, latency, seed):
    outcome = Simulation(
        workers, slots, rows, lambda r: r.expovariate(0.1), latency, mtbf, seed=seed
    ).run()
    assert outcome.made + Counter(outcome.given_up) == Counter(range(rows))


@pytest.mark.slow
def test_a_thousand_workers_keep_their_batches_full():
    """Rows of 20 seconds on average, messages of 0.2 s: no place is ever empty before the end, and
    nothing but the last rows costs anything."""
    outcome = Simulation(1000, 8, 40_000, lambda r: r.lognormvariate(2.87, 0.5)).run()
    assert outcome.made == Counter(range(40_000))
    assert outcome.drained == 0


@pytest.mark.slow
def test_workers_that_die_cost_their_starts_and_what_they_had_begun():
    """Each dies about every 1,000 s and is back after 60: 60/1060 of the time is lost to starts,
    and 13/1000 to rows that were begun (their mean age, E[x²]/2E[x]); together 7 %."""
    with_deaths, without = (
        Simulation(100, 4, 20_000, lambda r: r.lognormvariate(2.87, 0.5), mtbf=mtbf).run()
        for mtbf in (1000.0, float("inf"))
    )
    assert with_deaths.made == Counter(range(20_000))
    assert with_deaths.deaths > 30
    lost = 1 - with_deaths.share(100, 4) / without.share(100, 4)
    assert 0.03 < lost < 0.12
