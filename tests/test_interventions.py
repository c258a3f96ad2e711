"""`shift --handover` and `--swap`: rows against plain loops, and whole runs."""

from __future__ import annotations

import json
from contextlib import ExitStack
from types import MappingProxyType, SimpleNamespace

import pytest

from tests.fakes import FakeDecoder, FakeModel, greedy
from tests.test_guided import BASE, GUIDE
from urial_local.base.errors import UsageError
from urial_local.prompting.library import load_prompt
from urial_local.records.datasets import Item
from urial_local.runtime.engine import Engine
from urial_local.runtime.sampling import Sampling
from urial_local.runtime.swaps import Budget, Swapping
from urial_local.runtime.voice import Voice
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
    assert error == "The answer to continue from could not be made."


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
