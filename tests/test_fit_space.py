"""The prompts that a fit chooses among, and what it is made of."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from urial_local.base.errors import TokenizeError
from urial_local.prompting.frames import load_frame
from urial_local.prompting.library import load_prompt, parse_prompt, prompt_toml
from urial_local.prompting.prompts import Prompt, Turn
from urial_local.records.datasets import Item
from urial_local.tasks.fit import material
from urial_local.tasks.fit.plan import FRAMES
from urial_local.tasks.fit.space import Candidate, key_of, space_of, with_markers

NAMES = ("urial", "zero-shot", "urial-1", "zero-shot-paper", "vanilla")
POOL = [Turn(f"What is thing {i}?", f"It is thing number {i}, as you know.") for i in range(4)]


def made(most: int = 3, pool=POOL):
    library = tuple(load_prompt(name) for name in NAMES)
    return library, space_of(library, [load_frame(name) for name in FRAMES], pool, most)


def words(text: str) -> int:
    return len(text.split())


def test_parts_are_the_librarys_and_the_pools():
    library, space = made()
    assert space.frames[: len(FRAMES)] == tuple(map(load_frame, FRAMES))
    assert load_frame("zero-shot") in space.frames, "a frame that only a prompt has"
    assert space.systems[0] == ""
    assert len(space.systems) == 2
    assert space.examples[-4:] == tuple(POOL)
    assert set(library[0].examples) <= set(space.examples)


def test_a_prompt_of_the_library_is_itself():
    library, space = made()
    for prompt in library:
        assert space.prompt(space.place(prompt), library) is prompt


def test_the_same_parts_make_the_same_prompt():
    """Where a prompt lies says what it is made of, so its neighbours differ in one part."""
    library, space = made()
    for prompt in library:
        built = space.prompt(replace(space.place(prompt), prompt=""))
        assert built.prefix() == prompt.prefix()
        assert key_of(built) == key_of(prompt)


def test_keys_tell_what_is_sampled_but_not_what_is_neutral():
    prompt = replace(load_prompt("urial"), sampling={})
    assert key_of(prompt) == key_of(replace(prompt, sampling={"repeat_penalty": 1.0}))
    assert key_of(prompt) == key_of(replace(prompt, name="other", evidence={"p": 1}))
    assert key_of(prompt) != key_of(replace(prompt, sampling={"repeat_penalty": 1.1}))
    assert key_of(prompt) != key_of(prompt.shots(2))


@given(st.integers(0, 8), st.integers(0, 2**32))
def test_drawn_prompts_hold_to_the_space(most, seed):
    _, space = made(most)
    candidate = space.drawn(random.Random(seed))
    assert len(candidate.examples) <= most
    assert len(set(candidate.examples)) == len(candidate.examples)
    assert len(space.prompt(candidate).examples) == len(candidate.examples)


@given(st.integers(0, 4), st.integers(0, 2**32), st.sampled_from(NAMES))
def test_a_neighbour_differs_in_one_part(most, seed, name):
    library, space = made(most)
    start = space.place(next(p for p in library if p.name == name))
    other = space.neighbour(start, random.Random(seed))
    assert other.prompt == ""
    assert len(other.examples) <= most
    assert len(set(other.examples)) == len(other.examples)
    kept = replace(start, prompt="", examples=start.examples[:most])
    parts = ("frame", "system", "examples", "penalty")
    assert sum(getattr(kept, p) != getattr(other, p) for p in parts) == 1


def test_a_space_without_anything_to_change():
    only = load_prompt("zero-shot")
    space = replace(space_of([only], [only.frame], [], 0), penalties=(1.1,))
    place = space.place(only)
    assert space.neighbour(place, random.Random(0)) == Candidate(0, 0, (), 1.1)


def test_markers_follow_the_frame():
    fenced, other = load_frame("fenced"), load_frame("user-assistant")
    text = 'People write under "# Query:", the assistant under "# Answer:".'
    turned = with_markers(text, fenced, other)
    assert turned == 'People write under "# User:", the assistant under "# Assistant:".'
    assert with_markers(turned, other, fenced) == text
    assert with_markers(text, fenced, load_frame("raw")) == text, "there are none to speak of"


@given(st.text("aB ?!\n", max_size=12))
def test_questions_are_the_same_but_for_case_blanks_and_marks(text):
    assert material.same(f"  {text.upper()}…") == material.same(text) or not text.strip("?! \n")


def test_what_of_a_pool_is_of_use():
    def count(text: str) -> int:
        if "ж" in text:
            raise TokenizeError("It has no ж.")
        return len(text.split())

    long_enough = "An answer of some length."
    pool = [
        Turn("Good?", long_enough),
        Turn("Short?", "Yes."),
        Turn("Ж", "ж" * 30),
        Turn("Endless?", "word " * 500),
        Turn("Marked?", f"{long_enough}\n# Query:\nAnd?"),
        Turn("Code?", f"{long_enough}\n```\nx = 1\n```"),
        Turn("  what is ASKED", long_enough),
        Turn("Half?", f"{long_enough} \ud800"),
    ]
    frames = [load_frame(name) for name in FRAMES]
    scored = {material.same("What is asked?")}
    found = material.usable(pool, frames, scored, count, 100)
    assert [turn.query for turn in found] == ["Good?"]


def test_answers_that_can_be_scored():
    items = [
        Item("a", 0, "What is a hat?", "A hat."),
        Item("b", 1, "what is a HAT", "The same question."),
        Item("c", 2, "Known?", "An example of the library."),
        Item("d", 3, "Nothing?", " "),
        Item("e", 4, "Two?", "One.", later=("And?",)),
        Item("f", 5, "Broken?", "One.", error="Row 6 is none."),
        Item("g", 6, "Long?" * 1, "word " * 900),
        Item("h", 7, "word " * 900, "Short."),
    ]
    given_ = material.given(items)
    assert list(given_) == ["a", "b", "c", "g", "h"]
    kept = material.readable(given_, {material.same("Known?")}, words, 768)
    assert list(kept) == ["a", "g"], "of a long answer the beginning is scored"


def test_a_prompt_keeps_its_evidence_in_its_file(tmp_path):
    evidence = {"model": 'a "name"\n', "p": 1e-05, "held_out_questions": 12}
    prompt = replace(load_prompt("urial"), evidence=evidence)
    again = parse_prompt(prompt_toml(prompt), tmp_path / "urial.toml")
    assert again == prompt
    assert isinstance(again, Prompt)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("evidence = 1", "must be a table"),
        ("[evidence]\np = nan", "text or a number"),
        ("[evidence]\nsure = true", "text or a number"),
        ('[evidence]\n"a b" = 1', "letters, digits"),
    ],
)
def test_evidence_that_is_none(tmp_path, text, wrong):
    with pytest.raises(Exception, match=wrong):
        parse_prompt(text, tmp_path / "x.toml")
