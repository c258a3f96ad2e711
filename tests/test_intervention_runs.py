"""Whole runs of `shift --handover` and `--swap`: rows, figures, stops, shards, refusals."""

from __future__ import annotations

import itertools
import json

import pytest

from tests.command import fails, interrupted_at_rows, killed_until_done, size_of, urial
from tests.shifted_runs import PAIR, QUESTIONS
from urial_local.records.runlog import latest_rows
from urial_local.records.typed import Malformed
from urial_local.tasks.interventions import handover_record, swap_record
from urial_local.tasks.interventions.handover_record import HandedOver
from urial_local.tasks.interventions.swap_record import OTHER, WRITER, Swapped

# One row at a time: in quantised models the last digits depend on what shares a batch.
HANDOVER = ("-np", "1", "--handover", "2,sentence,all", "-n", "40")
SWAP = ("-np", "1", "--swap", "js>0.1", "--swap", "random", "--budget", "20%", "-n", "40")
KINDS = {
    "handover": (HANDOVER, handover_record.KEY, HandedOver),
    "swap": (SWAP, swap_record.KEY, Swapped),
}


def rows_of(folder, key) -> dict:
    found = {}
    for row in latest_rows(folder, key):
        row.pop("seconds", None)
        row.pop("number")
        found[tuple(row[name] for name in key)] = row
    return found


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    path = tmp_path_factory.mktemp("asked") / "q.json"
    path.write_text(json.dumps([{"id": f"q{i}", "query": q} for i, q in enumerate(QUESTIONS[:4])]))
    return path


@pytest.fixture(scope="module")
def runs(asked, tmp_path_factory):
    """One of each kind, over the demo pair."""
    folder = tmp_path_factory.mktemp("runs")
    for kind, (args, _, _) in KINDS.items():
        done = urial("shift", asked, *PAIR, *args, "-o", folder / kind)
        assert done.returncode == 0, done.stderr
    return folder


def test_ends_of_handovers_are_each_models_own_answers(runs, asked, tmp_path):
    """0 is what `generate` writes; all of it is the other's answer."""
    rows = rows_of(runs / "handover", handover_record.KEY)
    for model, prompt, side, context in (
        ("demo", "zero-shot", "base", "zero-shot"),
        ("demo", "urial-demo", "base", "urial-demo"),
        ("demo-aligned", "chat", "aligned", ""),
    ):
        out = tmp_path / f"{model}-{prompt}"
        args = ("-m", model, "-p", prompt, "-n", "40", "-np", "1", "-o", out)
        args = (*args, "--repeat-penalty", "1")  # whatever the prompt recommends
        assert urial("generate", asked, *args).returncode == 0
        for row in latest_rows(out, ("id",)):
            own = rows[side, context, "0", row["id"]]
            assert (own["answer"], own["ended"]) == (
                row["answer"],
                row["finish_reason"] != "length",
            )
    for (side, context, after, identity), row in rows.items():
        if after == "all":
            whose = ("aligned", "") if side == "base" else ("base", context)
            assert row["answer_ids"] == rows[(*whose, "0", identity)]["answer_ids"]
            assert row["whole"]
        elif after != "0" and not row["whole"]:
            whose = ("aligned", "") if side == "base" else ("base", context)
            given = rows[(*whose, "0", identity)]["answer_ids"][: row["given"]]
            assert row["answer_ids"][: row["given"]] == given
            assert set(row["divergences"]) == {context}
            found = row["divergences"][context]
            assert found["tokens"] == len(row["answer_ids"]) - row["given"]
            assert found["tokens"] == 0 or found["kl_base_aligned"] >= 0


def test_divergences_are_those_of_a_plain_run(runs, asked, tmp_path):
    """Of the aligned model's own answers: the columns of `shift`, without the end."""
    assert urial("shift", asked, *PAIR, "-n", "40", "-o", tmp_path / "s").returncode == 0
    handed = rows_of(runs / "handover", handover_record.KEY)
    for row in latest_rows(tmp_path / "s", ("aligned", "id")):
        own = handed["aligned", "", "0", row["id"]]
        n = len(own["answer_ids"])
        assert row["answer_ids"][:n] == own["answer_ids"]
        for name, columns in row["contexts"].items():
            for kl in ("kl_base_aligned", "kl_aligned_base"):
                want = sum(columns[kl][:n]) / n
                assert own["divergences"][name][kl] == pytest.approx(want, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_summary_page_and_report(runs, kind):
    folder = runs / kind
    before = (folder / "summary.json").read_text()
    again = urial("report", folder)
    assert again.returncode == 0, again.stderr
    assert (folder / "summary.json").read_text() == before
    assert (folder / "report.html").stat().st_size > 10_000
    assert "demo-aligned" in (folder / "report.html").read_text()


def test_the_summary_of_a_handover_follows_from_its_rows(runs):
    rows = rows_of(runs / "handover", handover_record.KEY)
    found = json.loads((runs / "handover" / "summary.json").read_text())
    for curve in found["curves"]:
        side, context = curve["goes_on"], curve["context"]
        for after, told in curve["points"].items():
            there = [r for (s, c, a, _), r in rows.items() if (s, a) == (side, after)
                     and c in ((context, "") if after == "0" else (context,))]  # fmt: skip
            assert told["answers"] == len(there) == 4
            assert told["ended"]["value"] == sum(r["ended"] for r in there) / 4
            assert told["refused"]["value"] == sum("refusal" in r["flags"] for r in there) / 4
            same = []
            for r in there:
                if r["whole"]:
                    continue
                whose = ("aligned", "") if side == "base" else ("base", context)
                goal = rows[(*whose, "0", r["id"])]
                pairs = itertools.zip_longest(
                    [*r["answer_ids"][r["given"] :], *[-1] * r["ended"]],
                    [*goal["answer_ids"][r["given"] :], *[-1] * goal["ended"]],
                )
                same.append(len(list(itertools.takewhile(lambda p: p[0] == p[1], pairs))))
            if same:
                assert told["same"]["value"] == pytest.approx(sum(same) / len(same), rel=1e-6)


def test_the_summary_of_swaps_follows_from_their_rows(runs):
    rows = rows_of(runs / "swap", swap_record.KEY)
    found = json.loads((runs / "swap" / "summary.json").read_text())
    names = [arm["arm"] for arm in found["arms"]]
    assert names == ["writer", "js>0.1", "random as js>0.1", "random", "other"] * 2
    for arm in found["arms"]:
        if arm["arm"] in ("writer", "other"):
            continue
        there = [r for (c, a, _), r in rows.items() if (c, a) == (arm["context"], arm["arm"])]
        positions = sum(r["positions"] for r in there)
        at = sum(len(r["at"]) for r in there)
        assert arm["swapped"]["value"] == pytest.approx(at / positions, rel=1e-6)
        assert all(len(r["at"]) <= 0.2 * r["positions"] + 1 for r in there if r["arm"] == "js>0.1")
        changed = sum(a != b for r in there for a, b in zip(r["put"], r["instead"], strict=True))
        assert arm["changed"]["value"] == pytest.approx(changed / positions, abs=1e-6)


@pytest.mark.parametrize("writer", ["base", "aligned"])
def test_ends_of_swaps_are_each_models_own_answers(asked, tmp_path, writer):
    args = ("-np", "1", "--swap", "js>0", "--writer", writer, "-n", "40")
    for budget, own in (("0%", WRITER), ("100%", OTHER)):
        out = tmp_path / own
        done = urial("shift", asked, *PAIR, *args, "--budget", budget, "-o", out)
        assert done.returncode == 0, done.stderr
        rows = rows_of(out, swap_record.KEY)
        side = writer if own == WRITER else {"base": "aligned", "aligned": "base"}[writer]
        there = [key for key in rows if key[1] == "js>0"]
        assert len(there) == 8
        for context, _, identity in there:
            row = rows[context, "js>0", identity]
            want = rows["" if side == "aligned" else context, own, identity]
            # The base's frame closes what it writes with a fence; nobody's but the writer's frame
            # ends a swapped answer, and the text before its end is the same.
            n = min(len(row["answer_ids"]), len(want["answer_ids"]))
            assert row["answer_ids"][:n] == want["answer_ids"][:n]
            if own == WRITER or side == "aligned":
                assert row["answer_ids"] == want["answer_ids"]
            assert len(row["at"]) == (0 if own == WRITER else row["positions"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_killed_again_and_again_it_comes_to_the_same_rows(runs, asked, tmp_path, kind):
    args, key, _ = KINDS[kind]
    whole = rows_of(runs / kind, key)
    row = size_of(runs / kind / "rows.jsonl") // len(whole)
    again = ("shift", asked, *PAIR, *args, "-o", tmp_path / "run")
    assert killed_until_done(tmp_path / "run" / "rows.jsonl", 24 * row, *again) >= 1
    assert rows_of(tmp_path / "run", key) == whole


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_shards_come_together(runs, asked, tmp_path, kind):
    args, key, _ = KINDS[kind]
    parts = [tmp_path / str(i) for i in (1, 2)]
    for i, part in enumerate(parts, 1):
        done = urial("shift", asked, *PAIR, *args, "-o", part, "--shard", f"{i}/2")
        assert done.returncode == 0, done.stderr
    done = urial("merge", *parts, "-o", tmp_path / "merged")
    assert done.returncode == 0, done.stderr
    assert rows_of(tmp_path / "merged", key) == rows_of(runs / kind, key)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_strangers_are_refused(runs, kind):
    _, key, record = KINDS[kind]
    row = next(r for r in rows_of(runs / kind, key).values() if len(r["answer_ids"]) > 2)
    good = {**row, "number": 0}
    record.read(good)
    wrong = [{"answer_ids": ["x"]}, {"answer_ids": None}, {"query": 3}, {"flags": 1}]
    wrong += {
        "handover": [{"given": 10**6}, {"given_characters": 10**6}, {"goes_on": "x"}],
        "swap": [{"at": [1]}, {"positions": -1}, {"spans": [[1]]}],
    }[kind]
    for change in wrong:
        with pytest.raises(Malformed):
            record.read({**good, **change})


def test_ctrl_c_keeps_the_rows_that_are_done(tiny_aligned, tiny_llama, tmp_path):
    (tmp_path / "q.txt").write_text("".join(f"the rain {i}\n" for i in range(400)))
    args = ("shift", tmp_path / "q.txt", "--base", tiny_llama, "--aligned", tiny_aligned)
    args = (*args, "-o", tmp_path / "r", "-t", "1", "--base-prompt", "zero-shot", "-n", "30")
    code, said = interrupted_at_rows(tmp_path / "r" / "rows.jsonl", *args, "--swap", "js>0.1")
    assert code == 130, said
    assert "Run the same command again" in said


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--handover", "1,x"), "neither a number of tokens"),
        (("--swap", "kl>1"), "is not a criterion"),
        (("--swap", "js>0.1", "--budget", "many"), "neither a share nor a number"),
        (("--swap", "random", "--budget", "3"), "Give --budget in %"),
        (("--swap", "js>.1", "--swap", "js>0.1"), "was given twice"),
        (("--budget", "5%"), "--budget needs --swap"),
        (("--handover", "1", "--writer", "aligned"), "--writer needs --swap"),
        (("--handover", "1", "--swap", "js>0.1"), "runs of their own"),
        (("--handover", "1", "--csv"), "--csv has no meaning with --handover"),
    ],
)
def test_what_does_not_go_together_is_refused(args, said, asked, tmp_path):
    assert said in fails(2, "shift", asked, *PAIR, *args, "-o", tmp_path / "r")
