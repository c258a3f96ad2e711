"""`urial-local fit` over the embedded demo pair."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.command import urial
from tests.fit_runs import (
    ANIMALS,
    ONE_SHOT,
    fit,
    known_answers,
    known_probes,
    rows,
    summary,
    write_probes,
    write_rows,
)
from urial_local.base.paths import user_prompts_dir
from urial_local.prompting.library import load_prompt
from urial_local.tasks.fit import job, result
from urial_local.tasks.fitted import defaults_path, keep_default
from urial_local.tasks.model_file import model_file


@pytest.fixture(autouse=True)
def few_candidates(monkeypatch):
    monkeypatch.setattr(job, "START", 4)


@pytest.fixture(autouse=True)
def easily_sure(monkeypatch):
    """Five held-out questions can make nobody sure; here any difference above 0 counts."""
    monkeypatch.setattr(result, "SURE", 1.1)


@pytest.fixture
def probes(tmp_path) -> Path:
    return known_probes(tmp_path)


@pytest.fixture
def unknown(tmp_path) -> Path:
    """Questions that the demo model does not know; under its own prompt it says so."""
    queries = [f"Where is the house number {n}?" for n in range(10)]
    return write_probes(tmp_path / "unknown.toml", queries, 'any = ["house", "is"]')


@pytest.fixture
def answers(tmp_path) -> Path:
    return known_answers(tmp_path)


def test_what_may_be_chance_does_not_become_the_default(unknown, tmp_path, monkeypatch):
    monkeypatch.setattr(result, "SURE", 0.05)
    done = fit("--probes", unknown, "-o", tmp_path / "r")
    assert "may be better" in done.stdout
    assert "The default stays." in done.stderr
    assert "run the same command again" in done.stderr
    assert not defaults_path().exists()
    assert load_prompt(str(tmp_path / "r" / "prompt.toml")).evidence["held_out_questions"] == 5


def test_a_fit_by_probes_becomes_the_default(unknown, tmp_path):
    done = fit("--probes", unknown, "-o", tmp_path / "r")
    found = summary(tmp_path / "r")
    assert found["held_out"] == 5
    assert found["default"] == "urial-demo"
    assert "the best compared on 5 others" in done.stdout
    assert f"p = {found['p']:.3f}" in done.stdout
    assert found["difference"] > 0
    assert "prompts default demo --clear" in done.stderr
    listed = json.loads(urial("prompts", "list", "-m", "demo", "--json").stdout)
    assert [row["name"] for row in listed if row["default"]] == ["fit-demo"]
    own, kept = (load_prompt(str(p)) for p in (tmp_path / "r/prompt.toml",
                                               user_prompts_dir() / "fit-demo.toml"))  # fmt: skip
    assert own == kept
    assert kept.evidence["fingerprint"] == model_file("demo").fingerprint
    assert kept.evidence["held_out_questions"] == 5
    assert kept.evidence["score"] == pytest.approx(found["mean"], abs=1e-4)
    assert kept.evidence["default_score"] == pytest.approx(found["default_mean"], abs=1e-4)
    assert "fit-demo" in urial("ask", "-m", "demo", "-n", "1", "Hi").stderr
    assert "urial-demo" in urial("prompts", "default", "demo", "--clear").stdout


def test_no_default_and_json(unknown, tmp_path):
    done = fit("--probes", unknown, "-o", tmp_path / "r", "--no-default", "--json")
    found = json.loads(done.stdout)
    assert found == {**summary(tmp_path / "r"), "made_default": False}
    assert not defaults_path().exists()
    assert not user_prompts_dir().exists()
    assert str(tmp_path / "r" / "prompt.toml") in done.stderr


def test_a_fit_that_is_not_better_says_so(probes, tmp_path, monkeypatch):
    """Where the default is best, and where what was chosen is worse on held-out questions."""
    right = write_probes(
        tmp_path / "right.toml", [f"Where does a {a} live?" for a in ANIMALS], 'never = ["zebra"]'
    )
    done = fit("--probes", right, "-o", tmp_path / "same")
    assert "No other prompt was better" in done.stdout or "not better" in done.stdout
    monkeypatch.setattr(job.Outcome, "same", False)
    scores = {"held_out": ("p1", "p3"), "default_scores": (1.0, 1.0), "best_scores": (0.0, 1.0)}
    whole = job.Outcome.__init__

    def worse(self, *args):
        whole(self, *args[:3], *scores.values())

    monkeypatch.setattr(job.Outcome, "__init__", worse)
    done = fit("--probes", probes, "-o", tmp_path / "worse")
    assert "difference -50.0 %" in done.stdout
    assert "not better" in done.stdout
    assert "The default stays." in done.stderr
    assert not defaults_path().exists()


def test_answers_that_are_made_likely(answers, tmp_path):
    done = fit("--answers", answers, "-o", tmp_path / "r")
    found = summary(tmp_path / "r")
    assert found["objective"] == "likelihood"
    assert found["mean"] > found["default_mean"]
    assert found["mean"] < 0
    assert found["held_out"] == 5
    assert "nats a token" in done.stdout
    assert load_prompt("fit-demo").evidence["objective"] == "nats a token of given answers"
    default = {r["id"]: r["score"] for r in rows(tmp_path / "r") if r["name"] == "urial-demo"}
    held_out = set(default) - {str(i) for i in range(10)}
    assert not held_out
    assert len(default) == 10, "the default is scored on both halves"


@pytest.mark.parametrize(
    ("goal", "lines"),
    [
        ("answers", 23),
        *(pytest.param(*a, marks=pytest.mark.slow) for a in (("answers", 1), ("probes", 17))),
    ],
)
def test_a_run_that_was_cut_comes_to_the_same(goal, lines, probes, answers, tmp_path):
    args = (f"--{goal}", {"probes": probes, "answers": answers}[goal], "--no-default")
    whole = fit(*args, "-o", tmp_path / "whole")
    fit(*args, "-o", tmp_path / "cut")
    path = tmp_path / "cut" / "rows.jsonl"
    there = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(there[:lines]) + there[lines][:20])  # the last one torn
    (tmp_path / "cut" / "prompt.toml").unlink()
    again = fit(*args, "-o", tmp_path / "cut")
    assert f"{lines} score" in again.stderr
    assert again.stdout == whole.stdout
    assert summary(tmp_path / "cut") == summary(tmp_path / "whole")
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")
    for name in ("whole", "cut"):
        assert (tmp_path / name / "prompt.toml").read_text().startswith('name = "fit-demo"')


def test_the_same_command_again_asks_nothing_new_once_it_is_the_default(answers, tmp_path):
    first = fit("--answers", answers, "-o", tmp_path / "r")
    assert defaults_path().exists()
    before = (tmp_path / "r" / "rows.jsonl").read_bytes()
    again = fit("--answers", answers, "-o", tmp_path / "r")
    assert again.stdout == first.stdout
    assert (tmp_path / "r" / "rows.jsonl").read_bytes() == before


def test_an_aligned_models_answers(probes, tmp_path):
    args = ("--probes", probes, "--aligned", "demo-aligned", "-o", tmp_path / "r", "--no-default")
    first = fit(*args)
    assert summary(tmp_path / "r")["objective"] == "likelihood"
    made = rows(tmp_path / "r" / "answers")
    assert {row["id"] for row in made} == {f"p{i}" for i in range(10)}
    assert fit(*args).stdout == first.stdout
    assert rows(tmp_path / "r" / "answers") == made, "they are made once"


def test_a_pools_examples_are_tried(answers, tmp_path):
    """The pool holds what the answers look like, and one of the scored questions."""
    pool = write_rows(
        tmp_path / "pool.json",
        [
            ("1", "Where does a wolf live?", "A wolf lives in forests. It eats mice."),
            ("2", "where does a FOX live", "A fox lives in forests. It eats mice."),
            ("3", "Why?", "Short."),
        ],
    )
    done = urial(
        "fit", "demo", *ONE_SHOT, "--answers", answers, "--pool", pool, "-o", tmp_path / "r"
    )
    assert done.returncode == 0, done.stderr
    assert "1 of the pool's 3 examples can be used" in done.stderr
    prompt = load_prompt(str(tmp_path / "r" / "prompt.toml"))
    assert len(prompt.examples) <= 1
    assert "fox" not in prompt.prefix()


def test_a_scored_question_is_no_example(tmp_path):
    """A prompt of the user's own has one probe as an example: that probe is not asked."""
    queries = [f"Where does a {a} live?" for a in ANIMALS]
    user_prompts_dir().mkdir(parents=True)
    own = user_prompts_dir() / "mine.toml"
    own.write_text("name = 'mine'\n[[examples]]\nquery = 'Where does a FOX live'\nanswer = 'Here.'")
    found = write_probes(tmp_path / "p.toml", queries)
    done = urial("fit", "demo", *ONE_SHOT, "--probes", found, "-o", tmp_path / "r",
                 "--no-default")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "1 probe is left out" in done.stderr
    assert "p0" not in {row["id"] for row in rows(tmp_path / "r")}


def test_a_chosen_default_is_what_a_fit_is_held_against(probes, tmp_path):
    keep_default(model_file("demo").fingerprint, "zero-shot")
    fit("--probes", probes, "-o", tmp_path / "r", "--no-default")
    assert summary(tmp_path / "r")["default"] == "zero-shot"


@pytest.mark.slow
def test_malformed_prompts_of_the_users_own_are_passed_over(probes, tmp_path):
    folder = user_prompts_dir()
    folder.mkdir(parents=True)
    (folder / "a.toml").write_text("[[")
    (folder / "b.toml").write_text("frame = 'gone.jinja'")
    (folder / "c.toml").write_text("[sampling]\ntemperature = -3.0")
    (folder / "frame.jinja").write_text(
        "{#-\nfence = '```'\n-#}\n{% block turn %}{% endblock %}{% block request %}{% endblock %}"
    )
    (folder / "d.toml").write_text(
        "frame = 'frame.jinja'\n[[examples]]\nquery = 'Q'\nanswer = 'An answer.'"
    )
    done = urial("fit", "demo", *ONE_SHOT, "--probes", probes, "-o", tmp_path / "r",
                 "--no-default")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert {"a", "b", "c", "d"}.isdisjoint({row["name"] for row in rows(tmp_path / "r")})
