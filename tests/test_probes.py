"""The shipped probes, each with a right and a wrong answer, and files of others."""

from __future__ import annotations

import dataclasses
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from urial_local.base.errors import UsageError
from urial_local.prompting.library import load_prompt, prompt_files
from urial_local.tasks.benchmark import probes as module
from urial_local.tasks.benchmark.probes import digest, load_probes, probe_kinds
from urial_local.tasks.benchmark.rules import verdict
from urial_local.tasks.phrases import folded, holds

SAMPLES = tomllib.loads((Path(__file__).parent / "probe_samples.toml").read_text("utf-8"))
SHIPPED = load_probes()
SOUND = """
kind = "mine"
description = "Two of my own"
max_tokens = 20

[[probes]]
id = "mine-sky"
query = "Is the sky green?"
rule = { any = ["no"], words = [1, 9] }

[[probes]]
id = "mine-cat"
turns = ["I have a cat.", "Which animal do I have?"]
max_tokens = 9
rule = { any = ["cat"] }
"""


@pytest.mark.parametrize("probe", SHIPPED, ids=lambda probe: probe.id)
def test_a_right_and_a_wrong_answer(probe):
    right = verdict(probe.rule, SAMPLES[probe.id]["right"])
    assert right.right, right.why
    wrong = verdict(probe.rule, SAMPLES[probe.id]["wrong"])
    assert not wrong.right
    assert wrong.why
    assert not verdict(probe.rule, "").right


def test_the_shipped_probes():
    assert len(SHIPPED) >= 200
    assert {probe.id for probe in SHIPPED} == set(SAMPLES), "a sample for each, and no other"
    assert all(probe.id.startswith(f"{probe.kind}-") for probe in SHIPPED)
    assert len({probe.turns for probe in SHIPPED}) == len(SHIPPED)
    single = Counter(turn.lower() for probe in SHIPPED for turn in probe.turns)
    assert max(single.values()) == 1
    kinds = list(dict.fromkeys(probe.kind for probe in SHIPPED))
    assert kinds == sorted(kinds), "in a fixed order"
    assert list(probe_kinds()) == kinds
    assert all(probe_kinds().values())


def test_halves_are_even_within_a_kind():
    for kind in probe_kinds():
        halves = [probe.half for probe in SHIPPED if probe.kind == kind]
        assert halves == [n % 2 for n in range(len(halves))]


def test_a_run_over_all_is_short():
    tokens = sum(probe.max_tokens * len(probe.turns) for probe in SHIPPED)
    assert tokens <= 15_000, "four prompts in minutes, on a CPU"


def test_no_prompt_tells_an_answer():
    """Neither a question of a probe, nor a name that is its answer, stands in an example."""
    turns = [turn for name in prompt_files() for turn in load_prompt(name).examples]
    asked = {turn.query.strip().lower() for turn in turns}
    told = folded("\n".join(f"{turn.query}\n{turn.answer}" for turn in turns))
    assert not asked & {turn.lower() for probe in SHIPPED for turn in probe.turns}
    for probe in SHIPPED:
        named = [phrase for phrase in probe.rule.any if phrase[0].isupper() and len(phrase) > 2]
        made = [probe.rule.defines] if probe.rule.code == "python" and probe.rule.defines else []
        assert not [name for name in (*named, *made) if holds(told, name)], probe.id


def test_which_kinds():
    some = load_probes(kinds=["sums", "facts"])
    assert {probe.kind for probe in some} == {"sums", "facts"}
    assert some == tuple(probe for probe in SHIPPED if probe.kind in ("sums", "facts"))
    with pytest.raises(UsageError, match="no probes of the kind 'sum'"):
        load_probes(kinds=["sum"])


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(SOUND)
    sky, cat = load_probes(path)
    assert (sky.id, sky.kind, sky.turns, sky.max_tokens, sky.half) == (
        *("mine-sky", "mine", ("Is the sky green?",), 20, 0),
    )
    assert (len(cat.turns), cat.max_tokens, cat.half) == (2, 9, 1)
    assert verdict(sky.rule, "No, it is blue.").right
    assert load_probes(path, ["mine"]) == (sky, cat)
    assert probe_kinds(path) == {"mine": "Two of my own"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('kind = "mine"', "", "`kind` must be"),
        ('kind = "mine"', 'kind = "my own"', "`kind` must be"),
        ('kind = "mine"', 'kind = "mine"\nrules = 1', "'rules' is not a known key"),
        ("max_tokens = 20", "max_tokens = 0", "`max_tokens` must be"),
        ("max_tokens = 20", "max_tokens = true", "`max_tokens` must be"),
        ("max_tokens = 20", "", "'mine-sky' is malformed: `max_tokens`"),
        ("max_tokens = 9", "max_tokens = 9999", "'mine-cat' is malformed: `max_tokens`"),
        ('id = "mine-cat"', 'id = "mine-sky"', "two probes have the id 'mine-sky'"),
        ('id = "mine-cat"', "", "the probe number 2 is malformed: `id`"),
        ('id = "mine-cat"', 'id = "a\\nb"', "malformed: `id`"),
        ('query = "Is the sky green?"', "", "'mine-sky' is malformed: it must have either"),
        ('query = "Is the sky green?"', 'query = " "', "and not empty"),
        ('query = "Is the sky green?"', 'query = "a"\nturns = ["b"]', "either `query` or `turns`"),
        ('turns = ["I have a cat.", "Which animal do I have?"]', "turns = []", "a list of 1 to 8"),
        ('turns = ["I have a cat.", "Which animal do I have?"]', "turns = [1]", "must be texts"),
        ('rule = { any = ["cat"] }', "", "'mine-cat' is malformed: it has no `rule`"),
        ('rule = { any = ["cat"] }', "rule = { anny = 1 }", "there is no check 'anny'"),
        ('rule = { any = ["cat"] }', 'rule = "cat"', "must be a table of checks"),
        ('rule = { any = ["cat"] }', "rule = { any = [", "are not TOML"),
        ('any = ["cat"]', "number = " + "9" * 5000, "are not TOML"),
        ('["cat"]', "[" * 99 + "]" * 99, "are not TOML"),
        ("[[probes]]", "[probes]", "TOML"),
        (SOUND, 'kind = "x"', r"there must be \[\[probes\]\]"),
        (SOUND, 'kind = "x"\nprobes = [1]', "the probe number 1 is malformed"),
        ("Is the sky green?", "\\ud800", "are not TOML"),
    ],
)
def test_files_that_are_none(tmp_path, old, new, message):
    path = tmp_path / "mine.toml"
    assert old in SOUND
    path.write_text(SOUND.replace(old, new))
    with pytest.raises(UsageError, match=message) as caught:
        load_probes(path)
    assert str(path) in caught.value.message


def test_the_same_question_twice(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(SOUND + SOUND.split("\n\n")[1].replace("mine-sky", "mine-air"))
    with pytest.raises(UsageError, match="two probes have the question 'Is the sky green"):
        load_probes(path)


def test_files_that_cannot_be_read(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="cannot be read"):
        load_probes(tmp_path / "none.toml")
    with pytest.raises(UsageError, match="The probes"):
        load_probes(tmp_path)
    path = tmp_path / "mine.toml"
    path.write_text(SOUND)
    monkeypatch.setattr(module, "MAX_BYTES", 100)
    with pytest.raises(UsageError, match="larger than 100 bytes"):
        load_probes(path)


def test_the_digest_tells_what_decides(monkeypatch):
    whole = digest(SHIPPED)
    assert len(whole) == 16
    assert whole == digest(load_probes())
    seen = {whole, digest(SHIPPED[1:]), digest(SHIPPED[::-1])}
    first = SHIPPED[0]
    rule = dataclasses.replace(first.rule, never=("x",))
    for change in ({"turns": ("x",)}, {"rule": rule}, {"max_tokens": 1}, {"half": 1}):
        seen.add(digest((dataclasses.replace(first, **change), *SHIPPED[1:])))
    monkeypatch.setattr(module, "RULES_VERSION", 99)
    seen.add(digest(SHIPPED))
    assert len(seen) == 8
