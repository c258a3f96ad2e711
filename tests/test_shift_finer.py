"""The finer statistics, each against plain loops over rows or against figures made by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from tests.crafted_runs import shift_run
from urial_local.tasks.shift.concentration import FIRST, TOP, lorenz
from urial_local.tasks.shift.reach import MIN_P, TOP_K, TOP_P
from urial_local.tasks.shift.record import LATER_COLUMNS, Answer
from urial_local.tasks.shift.results import ShiftRun, write_summary
from urial_local.tasks.shift.samples import branching, distinct, openings, sampled
from urial_local.tasks.shift.sparsity import THRESHOLDS

N, LENGTH = 8, 40


@pytest.fixture(scope="module")
def crafted(tmp_path_factory):
    """A run's rows, as they stand in the file, and its summary in the reference context."""
    folder = tmp_path_factory.mktemp("crafted")
    shift_run(folder, N, LENGTH)
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    rows = [row for row in rows if "error" not in row]
    found = write_summary(ShiftRun(folder)).aligned["a"]
    json.dumps(found.as_json(), allow_nan=False)
    return rows, found["zero-shot"]


def positions(rows, sound=False, ends=True):
    """(row, position, its columns) at each position with two distributions."""
    for row in rows:
        n = len(row["answer_ids"])
        for t in range(n):
            at = {k: v[t] for k, v in row["contexts"]["zero-shot"].items()}
            at |= {k: v[t] for k, v in row.items() if k.startswith("aligned_")}
            at["id"] = row["answer_ids"][t]
            if at["status"] & 3 or (sound and at["status"] & 8):
                continue
            if ends or not (row["end_token"] and t == n - 1):
                yield row, t, at


def gain(at):
    if at["base_logprob"] is None:
        return None
    return at["aligned_logprob"] - at["base_logprob"]


def test_gains_and_totals(crafted):
    rows, context = crafted
    values = [g for *_, at in positions(rows, ends=False) if (g := gain(at)) is not None]
    found = context.finer.gains
    assert found.values.n == len(values)
    assert found.values.mean == pytest.approx(np.mean(values), rel=1e-5)
    assert found.values.median == pytest.approx(np.median(values), rel=1e-4, abs=1e-6)
    by_token: dict[int, list[float]] = {}
    for *_, at in positions(rows, ends=False):
        if (g := gain(at)) is not None:
            by_token.setdefault(at["id"], []).append(g)
    often = {i: v for i, v in by_token.items() if len(v) >= 5}
    up = sorted((i for i in often if sum(often[i]) > 0), key=lambda i: -sum(often[i]))
    down = sorted((i for i in often if sum(often[i]) < 0), key=lambda i: sum(often[i]))
    assert up
    assert down
    assert [t.id for t in found.promoted] == up[:40]
    assert [t.id for t in found.suppressed] == down[:40]
    assert found.promoted[0].mean == pytest.approx(np.mean(often[up[0]]), rel=1e-4)
    totals = context.finer.totals
    whole = {}
    for row in rows:
        own = list(positions([row], sound=True))
        if len(own) == len(row["answer_ids"]) and all(gain(at) is not None for *_, at in own):
            whole[row["id"]] = [
                sum(gain(at) for *_, at in own),
                sum(at["kl_aligned_base"] for *_, at in own),
                sum(at["kl_aligned_base"] for *_, at in positions([row], True, ends=False)),
            ]
    assert 0 < len(whole) < N
    assert totals.left_out == N - len(whole)
    means = np.mean(list(whole.values()), axis=0)
    assert totals.gain.mean == pytest.approx(means[0], rel=1e-5)
    assert totals.kl.mean == pytest.approx(means[1], rel=1e-5)
    assert totals.kl_without_end.mean == pytest.approx(means[2], rel=1e-5)
    bits = totals.as_json()["kl_aligned_base"]["mean_bits"]
    assert bits == pytest.approx(means[1] / math.log(2), rel=1e-4)


def test_concentration(crafted):
    rows, context = crafted
    values = [(t, at["kl_aligned_base"]) for _, t, at in positions(rows, True, ends=False)]
    total = sum(v for _, v in values)
    found = context.finer.concentration
    for k, share in zip(FIRST, found.first, strict=True):
        assert share == pytest.approx(sum(v for t, v in values if t < k) / total, rel=1e-4)
    ordered = sorted((v for _, v in values), reverse=True)
    for x, share in zip(TOP, found.top, strict=True):
        whole, part = divmod(x * len(ordered), 1)
        want = (sum(ordered[: int(whole)]) + part * ordered[int(whole)]) / total
        assert share == pytest.approx(want, rel=1e-4)
    assert lorenz(np.ones(200, np.float32)) == pytest.approx(TOP), "alike, no few carry more"
    assert lorenz(np.array([5.0] + [0.0] * 99, np.float32)) == [1.0] * 4
    assert lorenz(np.zeros(3, np.float32)) == [None] * 4


def test_forks_confidence_and_sparsity(crafted):
    rows, context = crafted
    at = [p for *_, p in positions(rows)]
    ours, theirs = (np.array([p[n] for p in at]) for n in ("base_entropy", "aligned_entropy"))
    f, g = ours > np.percentile(ours, 80), theirs > np.percentile(theirs, 80)
    shifted = np.array([p["base_rank"] > 3 or bool(p["status"] & 4) for p in at])
    found = context.finer.forks
    assert found.threshold == pytest.approx(np.percentile(ours, 80), rel=1e-5)
    assert found.inside.positions == f.sum()
    assert found.inside.share == pytest.approx(shifted[f].mean(), rel=1e-5)
    assert found.outside.share == pytest.approx(shifted[~f].mean(), rel=1e-5)
    assert found.overlap == pytest.approx((f & g).sum() / (f | g).sum(), rel=1e-5)
    assert found.base_entropy == pytest.approx(ours[f].mean(), rel=1e-5)
    assert found.aligned_entropy == pytest.approx(theirs[f].mean(), rel=1e-5)
    top = np.array([math.exp(p["base_top_logprobs"][0]) for p in at])
    differ = np.array([p["base_top_ids"][0] != p["aligned_top_ids"][0] for p in at])
    for b, one in enumerate(context.finer.confidence):
        inside = (top >= b / 10) & ((top < (b + 1) / 10) | (b == 9))
        assert one.positions == inside.sum()
        if inside.any():
            assert one.differ == pytest.approx(differ[inside].mean(), rel=1e-5)
            assert one.shifted == pytest.approx(shifted[inside].mean(), rel=1e-5)
    js = np.array([p["js"] for p in at])
    for x, share in zip(THRESHOLDS, context.finer.sparsity.shares, strict=True):
        assert share == pytest.approx((js > x).mean(), rel=1e-5)


def test_reach_and_overlap(crafted):
    rows, context = crafted
    at = [p for *_, p in positions(rows)]
    found = context.finer.reach
    for p, share in zip(TOP_P, found.top_p, strict=True):
        kept = [x["base_above"] is not None and x["base_above"] < p for x in at]
        assert share == pytest.approx(np.mean(kept), rel=1e-5)
    for k, share in zip(TOP_K, found.top_k, strict=True):
        assert share == pytest.approx(np.mean([1 <= x["base_rank"] <= k for x in at]), rel=1e-5)
    for m, share in zip(MIN_P, found.min_p, strict=True):
        kept = [
            x["base_logprob"] is not None
            and math.exp(x["base_logprob"] - x["base_top_logprobs"][0]) >= m
            for x in at
        ]
        assert share == pytest.approx(np.mean(kept), rel=1e-5)
    overlaps = [x["overlap"] for x in at]
    assert context.finer.overlap.mean == pytest.approx(np.mean(overlaps), rel=1e-5)
    curves = context.finer.curves
    first = {row["id"]: x for row, t, x in positions(rows) if t == 3}
    mean = np.mean([x["base_entropy"] for x in first.values()])
    assert curves.base_branching.mean[3] == pytest.approx(math.exp(mean), rel=1e-4)
    assert curves.overlap.mean[3] == pytest.approx(
        np.mean([x["overlap"] for x in first.values()]), rel=1e-4
    )


def test_a_run_of_an_earlier_release_is_read(tmp_path):
    """Without the later columns: what needs them is not measured, and all else is as it was."""
    shift_run(tmp_path, N, LENGTH)
    whole = write_summary(ShiftRun(tmp_path)).aligned["a"].as_json()
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    for row in rows:
        for columns in (row, *row.get("contexts", {}).values()):
            for name in LATER_COLUMNS:
                columns.pop(name, None)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = write_summary(ShiftRun(tmp_path)).aligned["a"].as_json()
    context, before = found["contexts"]["urial"], whole["contexts"]["urial"]
    assert context["overlap"]["mean"] is None
    assert {at["share"] for at in context["reach"]["top_p"]} == {None}
    for name in ("classes", "gain", "totals", "concentration", "forks", "confidence", "unsure"):
        assert context[name] == before[name], name
    assert context["reach"]["min_p"] == before["reach"]["min_p"]


def sample(rows, text="", **columns):
    """An answer with these columns of the aligned model."""
    n = len(next(iter(columns.values())))
    full = {f"aligned_{k}": np.array(v, np.float64) for k, v in columns.items()}
    return Answer("q", 0, "a", "Q", text, {}, np.zeros(n, np.int32), True, False, full, {}, None,
                  None, rows)  # fmt: skip


def test_the_branching_factor_of_short_and_of_long_samples():
    """exp of the mean entropy of nuclei; beyond 50 tokens, of the drawn tokens' -ln p there."""
    short = [
        sample(0, nucleus_entropy=[0.5, 1.5], nucleus_mass=[1, 1], above=[0, 0], logprob=[-1, -1]),
        sample(1, nucleus_entropy=[4.0], nucleus_mass=[1], above=[0], logprob=[-9]),
    ]
    assert branching(short) == pytest.approx(math.exp(2))
    n = 51
    one = sample(
        0,
        nucleus_entropy=[9.0] * n,
        nucleus_mass=[0.92] * n,
        above=[0.5] * (n - 1) + [0.95],  # the last was drawn from outside the nucleus
        logprob=[math.log(0.23)] * (n - 1) + [-40.0],
    )
    assert branching([one]) == pytest.approx(4.0), "0.23 of 0.92 is a quarter"
    unknown = sample(0, nucleus_entropy=[np.nan], nucleus_mass=[np.nan], above=[1], logprob=[-1])
    assert branching([unknown]) is None
    assert sampled([one]) is None, "one answer is no sample of several"


def test_distinct_words_and_openings():
    texts = ["The fox eats.", "the fox sleeps", "A fox eats."]
    assert distinct(texts, 1) == pytest.approx(5 / 9)  # the fox eats. sleeps a
    assert distinct(texts, 2) == pytest.approx(4 / 6)
    assert distinct(["one"], 2) is None
    assert openings(texts) == 1.0
    assert openings(["a b c d", "A b c e", "a b"]) == pytest.approx(2 / 3)
