"""The package as a program uses it: load, generate, shift, judge, on the embedded pair."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import urial_local as ul
from urial_local.base.errors import ContextOverflow, ModelError, PromptError, UsageError
from urial_local.runtime.choices import ENDED

ROOT = Path(__file__).parent.parent
QUESTIONS = ["Where can I find a fox?", "How do I make soup?", "Why do birds sing?"]


@pytest.fixture(scope="module")
def assistant():
    with ul.load(parallel=3, threads=1) as found:
        yield found


def test_importing_it_is_light_and_help_knows_its_names():
    code = "import sys, urial_local; print([m for m in ('numpy', 'llama_cpp') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert {"load", "generate", "shift", "judge"} <= set(dir(ul))
    with pytest.raises(AttributeError, match="nothing"):
        _ = ul.nothing


def test_an_answer_and_how_it_came_about(assistant):
    done = assistant.complete(QUESTIONS[0], top_logprobs=3)
    assert str(done) == done.text
    assert "fox" in done.text
    assert done.ended
    assert done.finish_reason in ENDED
    assert done.as_dict()["completion_tokens"] == len(done.tokens)
    assert all(len(top.ids) == 3 for top in done.top)
    assert "<div" in done._repr_html_()
    steps = list(assistant.stream(QUESTIONS[0]))
    assert "".join(step.text for step in steps) == done.text
    assert steps[-1].completion.text == done.text


def test_many_answers_come_in_order(assistant):
    found = list(assistant.map([QUESTIONS[0], "\ud800", *QUESTIONS[1:]]))
    assert found[1].error
    assert found[0].text == assistant.complete(QUESTIONS[0]).text
    assert [bool(one.text) for one in found] == [True, False, True, True]


def test_the_same_weights_under_another_prompt(assistant):
    plain = assistant.using("zero-shot", temperature=0.7, seed=1, max_tokens=5)
    assert plain.model is assistant.model
    assert plain.prompt.name == "zero-shot"
    assert (plain.asker.sampling.temperature, plain.asker.max_tokens) == (0.7, 5)
    assert len(plain.complete(QUESTIONS[0]).tokens) <= 5
    assert plain.using(temperature=0.1).asker.sampling.seed == 1, "other settings stay"
    assert assistant.asker.sampling.temperature == 0, "the first is as it was"
    rendered = assistant.render("Hi").text
    assert "Hi" in rendered
    assert len(rendered) > len(plain.render("Hi").text)


def test_a_conversation(assistant):
    talk = assistant.chat()
    first = "".join(talk.ask(QUESTIONS[0]))
    assert [turn.query for turn in talk.turns] == [QUESTIONS[0]]
    assert first == talk.turns[0].answer
    again = assistant.complete("And where does it sleep?", [ul.Turn(QUESTIONS[0], first)])
    assert "".join(talk.ask("And where does it sleep?")) == again.text


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: ul.load(temperature=-1), UsageError, "temperature"),
        (lambda: ul.load(tempreature=1), UsageError, "no setting 'tempreature'"),
        (lambda: ul.load(prompt="no-such-prompt"), PromptError, "no-such-prompt"),
        (lambda: ul.load("nowhere.gguf"), ModelError, "nowhere"),
        (lambda: ul.load(parallel=0), UsageError, "parallel"),
        (lambda: ul.generate("nowhere.json"), UsageError, "nowhere.json"),
        (lambda: ul.generate(["Hi"], repeat=3), UsageError, "repeat"),
        (lambda: ul.shift(["Hi"], base="demo", contexts=["x", "x"]), PromptError, "x"),
    ],
)
def test_what_cannot_be_done_is_said_in_the_callers_words(call, error, said):
    with pytest.raises(error, match=said) as raised:
        call()
    assert "--" not in raised.value.message


def test_a_question_that_does_not_fit(assistant):
    with pytest.raises(ContextOverflow, match="than the context"):
        assistant.complete("word " * 5000)


def test_generate_resumes_and_gives_records(tmp_path):
    data = [{"id": f"q{i}", "query": q} for i, q in enumerate(QUESTIONS)]
    run = ul.generate(data, output=tmp_path / "run", limit=2, parallel=2, threads=1)
    assert [row.id for row in run] == ["q0", "q1"] or {row.id for row in run} == {"q0", "q1"}
    before = (tmp_path / "run" / "rows.jsonl").read_text()
    (tmp_path / "q.json").write_text(json.dumps(data))
    again = ul.generate(tmp_path / "q.json", output=tmp_path / "run", parallel=2, threads=1)
    assert (tmp_path / "run" / "rows.jsonl").read_text().startswith(before)
    answers = {row.id: row.answer for row in again}
    assert len(answers) == 3
    assert all(answers.values())
    assert again.errors == {}
    assert "<table>" in again._repr_html_()
    with pytest.raises(UsageError, match=r"another configuration|differ|there"):
        ul.generate(data, output=tmp_path / "run", max_tokens=3)


def test_shift_by_context(tmp_path):
    result = ul.shift(QUESTIONS, output=tmp_path / "run", threads=1)
    plain, urial = result["zero-shot"], result["urial-demo"]
    assert 0 <= urial.shifted.share < plain.shifted.share <= 1
    assert 0 < urial.repaired.share <= 1
    assert plain.kl.mean > urial.kl.mean
    assert result.summary.as_json() == json.loads((tmp_path / "run" / "summary.json").read_text())
    row = next(iter(result))
    coloured = result.answer(row.id, "zero-shot")
    assert row.text.strip() in str(coloured)
    assert "background" in coloured._repr_html_()
    assert result.report(tmp_path / "page.html").read_text().startswith("<!doctype html>")
    assert "shifted" in result._repr_html_()
    with pytest.raises(KeyError, match="zero-shot"):
        result["no such context"]


@pytest.fixture(scope="module")
def answered():
    return ul.generate(QUESTIONS, parallel=3, threads=1)


@pytest.fixture(scope="module")
def scores(answered):
    return ul.judge(answered, by="demo-aligned", reason_tokens=6, threads=1)


def test_judgements_have_means_and_intervals(scores):
    assert set(scores.mean) >= {"helpfulness", "clarity"}
    assert 1 <= scores.mean["clarity"] <= 5
    assert scores.interval["clarity"] is None, "three answers carry no interval"
    assert {row.mode for row in scores} == {"general"}


def test_a_line_of_a_frame_has_scores_as_numbers_and_each_tag(answered, scores, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=list))
    for line in scores.to_pandas():
        assert all(1 <= line[aspect] <= 5 for aspect in ("helpfulness", "clarity", "depth"))
    tags, *_ = ul.judge(answered, by="demo-aligned", mode="tags", threads=1).to_pandas()
    assert tags["task coding"] in ("yes", "no")
    assert tags["difficulty"] in ("easy", "medium", "hard")


def test_frames_of_pandas(answered, scores):
    pandas = pytest.importorskip("pandas")
    frame = answered.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert sorted(frame["query"]) == sorted(QUESTIONS)
    assert scores.to_pandas()["clarity"].dtype.kind == "f"
    shifted = ul.shift(QUESTIONS[:2], threads=1, max_tokens=20).to_pandas()
    assert shifted["shifted_zero-shot"].between(0, 1).all()


@pytest.mark.slow
def test_the_page_on_python_and_the_example_run(tmp_path):
    """Every block of Python in docs/python.md, in order, in one program."""
    text = (ROOT / "docs" / "python.md").read_text("utf-8")
    blocks = [part.split("```", 1)[0] for part in text.split("```python\n")[1:]]
    (tmp_path / "page.py").write_text("\n".join(blocks))
    (tmp_path / "questions.txt").write_text("\n".join(QUESTIONS))
    for script in (tmp_path / "page.py", ROOT / "examples" / "notebook.py"):
        done = subprocess.run(
            [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        for shown in text.split("```text\n")[1:] if script.name == "page.py" else ():
            for line in shown.split("```", 1)[0].strip().splitlines():
                assert line in done.stdout
