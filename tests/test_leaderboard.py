"""Models side by side, and which of their differences are more than chance."""

from __future__ import annotations

from itertools import pairwise as neighbours

import numpy as np
import pytest

from tests.judgements import judgement, whole_table
from urial_local.base.errors import UsageError
from urial_local.records.judged import Judgement
from urial_local.tasks.evaluate.differences import difference
from urial_local.tasks.evaluate.leaderboard import Entry, leaderboard
from urial_local.tasks.evaluate.modes import ASPECTS


def test_leaderboard_sorts_and_never_mixes_judges_silently():
    one = Entry("one", whole_table(1, generator="one"))
    two = Entry("two", whole_table(2, generator="two"))
    rows = leaderboard([one, two]).rows
    averages = [row.scores.average.mean for row in rows]
    assert averages == sorted(averages, reverse=True)
    by_name = leaderboard([two, one], sort="name").rows
    assert [row.name for row in by_name] == ["one", "two"]
    for a, b in neighbours(leaderboard([one, two], sort="depth").rows):
        assert a.scores.mean["depth"] >= b.scores.mean["depth"]
    with pytest.raises(UsageError, match="no column 'x'"):
        leaderboard([one], sort="x")
    other = Entry("other", whole_table(3, judge="k", generator="other"))
    with pytest.raises(UsageError, match="different judges"):
        leaderboard([one, other])
    mixed = leaderboard([one, other], mix_judges=True)
    assert mixed.mixed
    assert {str(row.scores.judges) for row in mixed.rows} == {
        "{'general': ['j'], 'safety': ['j']}",
        "{'general': ['k'], 'safety': ['k']}",
    }


def raised(rows: list[Judgement]) -> list[Judgement]:
    """The same rows one point better, where there is room."""
    return [
        judgement(
            int(j.id), j.mode, **{k: min(5, int(v["score"]) + 1) for k, v in j.record.items()}
        )
        for j in rows
    ]


def test_paired_differences():
    a = whole_table(1)
    same = difference(a, a)
    assert all(f.mean == 0 and f.p == 1.0 for f in same.values())
    assert {f.verdict for f in same.values()} == {"no row differs"}
    better = raised(a)
    found = difference(better, a)
    assert set(found) == {*ASPECTS, "average"}
    assert all(f.interval.low > 0 and f.p < 0.01 for f in found.values())
    assert {f.verdict for f in found.values()} == {"more than chance"}
    back = difference(a, better)
    assert back["average"].mean == pytest.approx(-found["average"].mean)
    assert back["average"].p == found["average"].p
    by_hand = np.mean([found[a].mean for a in ASPECTS])
    assert found["average"].mean == pytest.approx(by_hand)
    # Pairing matters: rows that differ alike have no spread, whatever the spread of the rows.
    shifted = [judgement(i, depth=i % 4 + 2) for i in range(40)]
    base = [judgement(i, depth=i % 4 + 1) for i in range(40)]
    alike = difference(shifted, base)["depth"]
    assert (alike.mean, alike.interval, alike.verdict) == (1.0, None, "more than chance")
    assert alike.p == pytest.approx(2.0**-39)
    few = difference(a[:1], better[:1])["depth"]
    assert (few.n, few.p) == (1, None)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 7])
def test_few_rows_carry_no_claim(n):
    """One point better in every row: that is more than chance from six rows on."""
    a = [judgement(i, depth=i % 4 + 1) for i in range(n)]
    found = difference(raised(a), a)["depth"]
    assert found.p in (None, pytest.approx(2.0 ** (1 - n)))
    assert found.verdict == ("more than chance" if n > 5 else "too few rows to tell")
    both = [*a, *(judgement(100 + i, depth=3) for i in range(50))]  # rows that do not differ
    more = [*raised(a), *(judgement(100 + i, depth=3) for i in range(50))]
    found = difference(more, both)["depth"]
    assert (found.interval is None) == (n < 6)
    assert found.verdict == ("more than chance" if n > 5 else "too few rows to tell")


def test_repeats_do_not_make_few_questions_many():
    from dataclasses import replace

    a = [judgement(i, depth=3) for i in range(3)]
    many = [replace(j, repeat=r) for j in a for r in range(20)]
    better = [replace(j, repeat=r) for j in raised(a) for r in range(20)]
    found = difference(better, many)["depth"]
    assert (found.n, found.p, found.interval) == (60, 0.25, None)
    assert found.verdict == "too few rows to tell"
