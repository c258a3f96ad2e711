"""What is said of an answer: copied from its prompt, empty but for a fence, a refusal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from urial_local.prompting.library import load_prompt, prompt_files
from urial_local.prompting.prompts import Turn
from urial_local.tasks.generate.copied import COPIED, GRAM, Shown
from urial_local.tasks.generate.flags import FAULTS, FLAGS, flags_of
from urial_local.tasks.generate.job import picked

EXAMPLE = Turn(
    "How do I make tea?", "Boil the water and pour it over the leaves, then wait a while."
)


def share_by_hand(answer: str, texts: list[str]) -> float:
    """The definition, spelled out over plain words."""
    words = answer.lower().split()
    grams = [words[i : i + 8] for i in range(len(words) - 7)]
    there = [
        any(gram == text.lower().split()[i : i + 8] for text in texts for i in range(len(text)))
        for gram in grams
    ]
    return sum(there) / len(there) if there else 0.0


WORDS = st.lists(st.sampled_from(["a", "b", "the", "water", "is"]), max_size=24).map(" ".join)


@given(WORDS, st.lists(WORDS, max_size=3))
def test_the_share_is_as_defined(answer, texts):
    assert Shown(texts).share(answer) == pytest.approx(share_by_hand(answer, texts))


@pytest.mark.parametrize(
    ("answer", "copied"),
    [
        (EXAMPLE.answer, True),
        (EXAMPLE.answer.upper().replace(",", " –"), True),
        ("Sure! " + EXAMPLE.answer, True),
        ("Boil the water and pour.", False),  # too short to say
        (" ".join(f"word{i}" for i in range(60)) + " " + EXAMPLE.answer, False),
        ("", False),
        ("Put it on the stove for an hour and stir it from time to time.", False),
    ],
)
def test_copied(answer, copied):
    shown = Shown.of("You help.", [EXAMPLE])
    assert ("copied" in flags_of(answer, "eos", shown)) == copied
    assert "copied" not in flags_of(answer, "eos"), "nothing is known of the prompt"


@pytest.mark.parametrize("name", sorted(prompt_files()))
def test_each_example_of_a_shipped_prompt_would_be_found(name):
    prompt = load_prompt(name)
    shown = Shown.of(prompt.system, prompt.examples)
    for example in prompt.examples:
        if len(example.answer.split()) > GRAM + 4:
            assert shown.share(example.answer) > COPIED


@pytest.mark.parametrize("text", ["", " \n", "```", "```\n```", "~~~", "``` \n\n"])
def test_fences_alone_are_empty(text):
    assert flags_of(text, "eos") == ["empty"]


def test_a_refusal_is_no_fault():
    """So that the longest clean answer may be one."""
    refusal = "I'm sorry, but I can't help with that. Please ask somebody who can."
    assert flags_of(refusal, "eos") == ["refusal"]
    assert {*FAULTS, "refusal"} == set(FLAGS)
    short = {"candidate": 0, "answer": "Yes.", "flags": [], "finish_reason": "eos"}
    long = {"candidate": 1, "answer": refusal, "flags": ["refusal"], "finish_reason": "eos"}
    loop = {"candidate": 2, "answer": "no " * 99, "flags": ["repetitive"], "finish_reason": "eos"}
    assert picked([short, long, loop], "longest-clean") == long
