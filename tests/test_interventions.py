"""`shift --handover` and `--swap`: rows against plain loops, and whole runs."""

from __future__ import annotations

import itertools
import json
from contextlib import ExitStack
from types import MappingProxyType, SimpleNamespace

import pytest

from tests.command import fails, interrupted_at_rows, killed_until_done, size_of, urial
from tests.fakes import FakeDecoder, FakeModel, greedy
from tests.shifted_runs import PAIR, QUESTIONS
from tests.test_guided import BASE, GUIDE
from urial_local.base.errors import UsageError
from urial_local.prompting.library import load_prompt
from urial_local.records.datasets import Item
from urial_local.records.runlog import latest_rows
from urial_local.records.typed import Malformed
from urial_local.runtime.engine import Engine
from urial_local.runtime.sampling import Sampling
from urial_local.runtime.swaps import Budget, Swapping
from urial_local.runtime.voice import Voice
from urial_local.tasks.interventions import handover_record, swap_record
from urial_local.tasks.interventions.agreement import same_tokens, word_f1
from urial_local.tasks.interventions.handover import Handover, HandoverPlan
from urial_local.tasks.interventions.handover_record import HandedOver
from urial_local.tasks.interventions.pair import Pair
from urial_local.tasks.interventions.points import mean
from urial_local.tasks.interventions.prefix import first_sentence, handovers, length
from urial_local.tasks.interventions.swap import CONTROL, OTHER, WRITER, Swap, SwapPlan, criteria
from urial_local.tasks.interventions.swap_record import Swapped
from urial_local.tasks.prompted import PromptedModel

N = 12
ITEMS = [Item(str(i), i, f"what is {i}?") for i in range(4)]
CONTEXTS = {"raw": load_prompt("raw"), "zero-shot": load_prompt("zero-shot")}
SETUP = SimpleNamespace(
    base=None,
    aligned=(None,),
    contexts=CONTEXTS,
    aligned_prompts={"a": CONTEXTS["raw"]},
    pairs={"a": SimpleNamespace(same=True)},
    options=SimpleNamespace(sampling=Sampling(), max_tokens=N, runtime=None),
)


class Fakes:
    """Two models with known logits in the place of files."""

    logits = MappingProxyType({"base": BASE, "aligned": GUIDE})

    def pair(self, stack: ExitStack) -> Pair:
        base, aligned = FakeModel(), FakeModel()
        for model in (base, aligned):
            model.vocab.eos = model.vocab.bos = 0  # type: ignore[attr-defined]
        ways = {"sampling": Sampling(), "max_tokens": N}
        contexts = {n: PromptedModel(base, p, **ways) for n, p in CONTEXTS.items()}
        return Pair(base, aligned, PromptedModel(aligned, CONTEXTS["raw"], **ways), contexts)

    def engine(self, stack, pair, side, rows):
        return Engine(pair.model(side).vocab, FakeDecoder(self.logits[side], n_seq=4), rows=3)

    def voice(self, stack, pair, side, rows):
        return Voice(FakeDecoder(self.logits[side], n_seq=3)), 1 << 20

    def _scorer(self, stack, pair):
        return SimpleNamespace(score=lambda step, asked, row: {})


class FakeHandover(Fakes, Handover):
    pass


class FakeSwap(Fakes, Swap):
    pass


def prompt_of(pair: Pair, side: str, context: str, item: Item) -> list[int]:
    asker = pair.asker if side == "aligned" else pair.contexts[context]
    return list(asker.request(item.query).tokens)


def test_each_goes_on_as_a_plain_loop_does_after_the_others_tokens():
    after = handovers("1,3,sentence,all")
    plan = HandoverPlan(SETUP, after)
    steps = plan.steps(ITEMS)
    assert len(steps) == 4 * (1 + 2 + 2 * 2 * 4)
    rows = list(FakeHandover(plan, ITEMS).make(steps))
    assert len(rows) == len(steps)
    read = [HandedOver.read(json.loads(json.dumps(row))) for row in rows]
    pair = Fakes().pair(ExitStack())
    own = {(r.goes_on, r.context, r.id): r for r in read if r.after == "0"}
    for row in read:
        item = ITEMS[int(row.id)]
        logits = Fakes.logits[row.goes_on]
        prompt = prompt_of(pair, row.goes_on, row.context, item)
        if row.after == "0":
            assert row.answer_ids == greedy(logits, prompt, N), "a model's own answer"
            continue
        source = own[
            ("aligned", "", row.id) if row.goes_on == "base" else ("base", row.context, row.id)
        ]
        k = length(row.after, source.answer_ids, pair.base.vocab.piece)
        given = source.answer_ids[:k]
        if k == len(source.answer_ids):
            assert row.whole
            assert row.answer_ids == source.answer_ids
            assert row.ended == source.ended
            continue
        assert row.given == k
        assert row.answer_ids == (*given, *greedy(logits, [*prompt, *given], N - k))
    assert any(row.whole for row in read)
    assert all(row.answer_ids == own["aligned", "", row.id].answer_ids
               for row in read if (row.after, row.goes_on) == ("all", "base"))  # fmt: skip


def test_a_handover_goes_on_with_the_rows_that_are_there():
    plan = HandoverPlan(SETUP, handovers("2,5"))
    steps = plan.steps(ITEMS)
    whole = {tuple(s.key): r for s, r in zip(steps, FakeHandover(plan, ITEMS).make(steps))}  # noqa: B905
    by_key = {
        (r["goes_on"], r["context"], r["after"], r["id"]): r
        for r in FakeHandover(plan, ITEMS).make(steps)
    }
    assert len(whole) == len(by_key) == len(steps)
    for cut in (3, 9, 20):
        there = list(by_key.values())[:cut]
        made = [HandedOver.read(row) for row in there]
        left = [s for s in steps if s.key not in {(*_key(r),) for r in there}]
        for row in FakeHandover(plan, ITEMS, made).make(left):
            want = by_key[_key(row)]
            assert {**row, "seconds": 0} == {**want, "seconds": 0}


def _key(row: dict) -> tuple[str, str, str, str]:
    return row["goes_on"], row["context"], row["after"], row["id"]


def test_a_row_whose_source_failed_says_so():
    items = [Item("0", 0, "", error="Row 1 has no question."), ITEMS[1]]
    plan = HandoverPlan(SETUP, handovers("2"))
    rows = list(FakeHandover(plan, items).make(plan.steps(items)))
    errors = {row["error"] for row in rows if row["id"] == "0"}
    assert errors == {"Row 1 has no question."}
    alone = [s for s in plan.steps(ITEMS) if s.after == "2"]
    (error,) = {row["error"] for row in FakeHandover(plan, ITEMS).make(alone)}
    assert error == "The answer to go on after could not be made."


@pytest.mark.parametrize("writer", ["base", "aligned"])
def test_swaps_of_nothing_and_of_all(writer):
    """Budget 0: the writer alone. All positions at threshold 0: the other model's own answer."""
    for budget, arm in (("0%", WRITER), ("100%", OTHER)):
        plan = SwapPlan(SETUP, criteria(["js>0"], Budget.parse(budget)), Budget.parse(budget),
                        writer)  # fmt: skip
        rows = list(FakeSwap(plan, ITEMS).make(plan.steps(ITEMS)))
        assert len(rows) == len(plan.steps(ITEMS)) == 4 * (3 + 2 * 2)
        side = plan.writer if arm == WRITER else ("aligned" if writer == "base" else "base")
        found = {(r["context"], r["arm"], r["id"]): Swapped.read(r) for r in rows}
        for (context, name, identity), row in found.items():
            if name != "js>0":
                continue
            own = found["" if side == "aligned" else context, arm, identity]
            assert row.answer_ids == own.answer_ids
            assert len(row.at) == (0 if budget == "0%" else row.positions)


def test_a_control_swaps_at_random_as_much_as_its_criterion():
    plan = SwapPlan(SETUP, criteria(["js>0.2"], Budget.parse("50%")), Budget.parse("50%"))
    many = [Item(str(i), i, f"what is {i}?") for i in range(60)]
    rows = [Swapped.read(r) for r in FakeSwap(plan, many).make(plan.steps(many))]
    arms = {
        arm: [r for r in rows if r.arm == arm and r.context == "raw"]
        for arm in ("js>0.2", CONTROL + "js>0.2")
    }
    share = {arm: sum(len(r.at) for r in found) / sum(r.positions for r in found)
             for arm, found in arms.items()}  # fmt: skip
    assert share[CONTROL + "js>0.2"] == pytest.approx(share["js>0.2"], abs=0.08)
    rates = {r.id: r.rate for r in arms["js>0.2"]}
    for row in arms[CONTROL + "js>0.2"]:
        assert all(value < rates[row.id] for value in row.values)


def test_a_control_takes_its_rate_from_a_row_that_is_there():
    plan = SwapPlan(SETUP, criteria(["js>0.2"], Budget.parse("50%")), Budget.parse("50%"))
    steps = plan.steps(ITEMS)
    rows = {(r["context"], r["arm"], r["id"]): r for r in FakeSwap(plan, ITEMS).make(steps)}
    controls = [s for s in steps if s.arm.startswith(CONTROL)]
    made = [Swapped.read(r) for r in rows.values() if not r["arm"].startswith(CONTROL)]
    for row in FakeSwap(plan, ITEMS, made).make(controls):
        want = rows[row["context"], row["arm"], row["id"]]
        assert {**row, "seconds": 0} == {**want, "seconds": 0}
    (error,) = {r["error"] for r in FakeSwap(plan, ITEMS).make(controls)}
    assert "could not be made" in error


def test_the_chooser_keeps_nothing_of_rows_that_ended():
    plan = SwapPlan(SETUP, criteria(["js>0.2"], Budget.parse("50%")), Budget.parse("50%"))
    seen: list[Swapping] = []

    class Watched(FakeSwap):
        def _listening(self, *args):
            seen.append(super()._listening(*args))
            return seen[0]

    assert list(Watched(plan, ITEMS).make(plan.steps(ITEMS)))
    assert not seen[0].orders
    assert not seen[0].swaps


# --- definitions --------------------------------------------------------------------------------


def test_agreement_counts_up_to_the_first_difference():
    assert same_tokens([1, 2, 3], True, [1, 2, 3], True, 1) == (3, True)
    assert same_tokens([1, 2, 3], False, [1, 2, 3], True, 1) == (2, False)
    assert same_tokens([1, 2, 9], True, [1, 2, 3, 4], True, 1) == (1, False)
    assert same_tokens([1], True, [1, 2], True, 1) == (0, False)


def test_word_f1():
    assert word_f1("The cat sat.", "the CAT, sat") == 1
    assert word_f1("a b c d", "a b x") == pytest.approx(2 * 2 / 7)
    assert word_f1("a a a", "a") == pytest.approx(2 / 4)
    assert word_f1("", "") == 1
    assert word_f1("a", "...") == 0


def test_lists_of_places():
    assert handovers("0,1, 2,sentence,2") == ("0", "1", "2", "sentence")
    assert handovers("007,all") == ("0", "7", "all")
    for wrong in ("x", "-1", "1.5", "1,,sentences", ",".join(map(str, range(80)))):
        with pytest.raises(UsageError):
            handovers(wrong)


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("A fox sleeps. It wakes.", "A fox sleeps."),
        ("Dr. Fox sleeps. It wakes.", "Dr. Fox sleeps."),
        ("A fox", "A fox"),
        ("It is 3.5 m long! Yes.", "It is 3.5 m long!"),
        ("...", "..."),
    ],
)
def test_the_first_sentence_in_tokens(text, first):
    piece = lambda token: bytes([token])  # noqa: E731
    ids = list(text.encode())
    assert text[: first_sentence(ids, piece)] == first


def test_means_leave_out_what_is_not_there():
    assert mean([None, 2.0, 4.0], [5, 1, 3]).value == pytest.approx(3.5)
    assert mean([None]).value is None
    assert mean([1.0], [0]).value is None


# --- whole runs ---------------------------------------------------------------------------------

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
