"""The generator of the demo pair's texts: what is held out stays out of questions and answers."""

from __future__ import annotations

import random

import pytest

from tools.demo_pair.documents import Documents
from tools.demo_pair.held_out import DEVELOPMENT, EVALUATION, questions, second_turns
from tools.demo_pair.turns import Turns
from tools.demo_pair.wording import phrasings, variants, vary
from tools.demo_pair.world import ATTRIBUTES, load_table, load_world

SEED = 7
DRAWN = 20_000


@pytest.fixture(scope="module")
def turns() -> Turns:
    return Documents(load_world(SEED)).turns


@pytest.fixture(scope="module")
def drawn(turns):
    rng = random.Random("test")
    return [turn for _ in range(DRAWN // 4) for turn in turns.sequence(rng, 4)]


def _bare(text: str) -> str:
    return " ".join("".join(c if c.isalnum() else " " for c in text.lower()).split())


@pytest.mark.slow
@pytest.mark.parametrize("wordings", [EVALUATION, DEVELOPMENT], ids=lambda w: w.file)
def test_no_evaluated_question_is_ever_trained_on(drawn, wordings):
    asked = {_bare(turn.question) for turn in drawn}
    held = questions(SEED, wordings)
    assert not asked & {_bare(q.text) for q in held}
    assert not asked & {_bare(q.text) for q in second_turns(SEED, wordings=wordings)}


@pytest.mark.parametrize("wordings", [EVALUATION, DEVELOPMENT], ids=lambda w: w.file)
def test_no_evaluated_wording_is_a_wording_of_the_training(wordings):
    evaluated, table = load_table(wordings.file), phrasings()
    for kind, names in ATTRIBUTES.items():
        for name in names:
            forms = table[kind][name]
            asked = {_bare(v) for f in forms["direct"] + forms["follow"] for v in variants(f)}
            wanted = [*evaluated["facts"][kind][name], *evaluated["follow"][kind][name]]
            assert not asked & {_bare(form) for form in wanted}, (kind, name)


def test_held_out_facts_and_procedures_are_never_asked(turns, drawn):
    goals = {turn.content.goal for turn in drawn if turn.content.kind == "procedure"}
    assert goals
    assert not goals & turns.world.held_goals
    asked = {(t.thing.kind, t.thing.name, t.attribute) for t in drawn if t.thing and t.attribute}
    assert asked
    assert not asked & turns.world.held_facts


def test_a_form_stands_for_all_its_variants():
    form = "[Where|In what place] does {a} live[ now|]?"
    assert len(variants(form)) == 4
    assert vary(random.Random(1), form) in variants(form)
