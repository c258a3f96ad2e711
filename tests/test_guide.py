"""Guides through the whole program: the embedded pair, and models of other vocabularies."""

from __future__ import annotations

import json

import pytest

import urial_local
from tests.command import urial
from tests.tiny_gguf import PLAIN_CHAT, write_llama
from urial_local.base.errors import UsageError
from urial_local.records.generated import AnsweredTurn, GuideFacts
from urial_local.report.answers_page import _guided
from urial_local.tasks.guide import guide_options

ASK = "What does Mira Tellow do?"


@pytest.fixture(scope="module")
def alone():
    """What each of the pair writes by itself."""
    with urial_local.load("demo", prompt="zero-shot", max_tokens=40) as base:
        first = base.complete(ASK)
        plain = base.using(repeat_penalty=1.0).complete(ASK)
    with urial_local.load("demo-aligned", max_tokens=40) as aligned:
        return first, aligned.complete(ASK), plain


@pytest.mark.parametrize("rule", ["nudge", "blend", "defer", "defer-whole", "bet"])
def test_a_guide_that_is_the_base_gives_the_bases_answer(alone, rule):
    with urial_local.load(
        "demo", prompt="zero-shot", max_tokens=40, guide="demo", guide_rule=rule,
        guide_prompt="zero-shot",
    ) as assistant:  # fmt: skip
        plain = assistant.using(repeat_penalty=1.0)
        assert plain.complete(ASK).tokens == alone[2].tokens
        if rule not in ("defer", "bet"):  # these sharpen, on which a penalty acts otherwise
            assert assistant.complete(ASK).tokens == alone[0].tokens


@pytest.mark.parametrize(("gamma", "who"), [(0.0, 0), (1.1, 1)])
def test_gamma_goes_from_the_base_alone_to_the_guide_alone(alone, gamma, who):
    with urial_local.load(
        "demo", prompt="zero-shot", max_tokens=40, guide="demo-aligned", gamma=gamma
    ) as assistant:
        done = assistant.complete(ASK)
    assert done.text == alone[who].text
    assert done.guidance.rate == who


def test_every_rule_runs_and_one_model_may_be_both():
    for rule in ("amplify", "contrast", "proxy"):
        more = {} if rule == "contrast" else {"guide": "demo-aligned"}
        more |= {"guide_base": "demo"} if rule == "proxy" else {}
        with urial_local.load("demo", max_tokens=12, guide_rule=rule, **more) as assistant:
            done = assistant.complete(ASK)
            assert done.text
            assert done.guidance.decoded > 0
            assert assistant.about()["guide_model"]["rule"] == rule


def test_contrast_opens_the_weights_once(monkeypatch):
    from urial_local.runtime import model

    opened = []
    load = model.lib.llama_model_load_from_file
    monkeypatch.setattr(
        model.lib, "llama_model_load_from_file", lambda *all: opened.append(all) or load(*all)
    )
    with urial_local.load("demo", max_tokens=4, guide_rule="contrast") as assistant:
        assistant.complete(ASK)
        alone = len(opened)
    with urial_local.load("demo", max_tokens=4) as assistant:
        assistant.complete(ASK)
    assert len(opened) - alone == alone, "no more than without it"


def test_a_conversation_and_other_settings_keep_the_guide():
    with urial_local.load("demo", max_tokens=24, guide="demo-aligned", gamma=0.9) as assistant:
        talk = assistant.chat()
        for question in (ASK, "Who are you?"):
            assert "".join(talk.ask(question))
            assert talk.last.guidance is not None
        other = assistant.using(prompt="zero-shot", prefill="Well,")
        done = other.complete(ASK)
        assert done.text.startswith("Well,")
        assert done.guidance is not None


def test_a_run_records_the_guide_and_batches_equal_one_by_one(tmp_path):
    questions = [ASK, "Who are you?", "How do I make soup?", "What is 2 plus 3?"]
    (tmp_path / "q.txt").write_text("\n".join(questions))
    found = []
    for rows in (1, 4):
        folder = tmp_path / f"run{rows}"
        done = urial(
            "generate", tmp_path / "q.txt", "-o", folder, "-n", 24, "-np", rows, "-p", "zero-shot",
            "--guide", "demo-aligned", "--gamma", "0.9",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "The guide wrote" in done.stderr
        lines = [json.loads(x) for x in (folder / "rows.jsonl").read_text().splitlines()]
        found.append({row["id"]: row for row in lines})
    config = json.loads((folder / "run.json").read_text())["config"]
    assert config["guide"]["rule"] == "nudge"
    assert config["guide"]["gamma"] == 0.9
    assert config["guide"]["model"]["fingerprint"]
    assert config["guide"]["prompt"]["name"] == "chat"
    same = sum(found[0][i]["answer_ids"] == found[1][i]["answer_ids"] for i in found[0])
    assert same >= 3, "the shape of a batch may turn a token"
    for row in found[1].values():
        guide = row["guide"]
        assert len(guide["at"]) == len(guide["base_top"])
        assert guide["rate"] == pytest.approx(len(guide["at"]) / row["completion_tokens"], abs=1e-5)
        for start, end in guide["spans"]:
            assert 0 <= start < end <= len(row["answer"])
    page = urial("report", folder, "-o", tmp_path / "page.html")
    assert page.returncode == 0, page.stderr
    assert '"parts"' in (tmp_path / "page.html").read_text()


def test_sweep_takes_a_guide(tmp_path):
    (tmp_path / "q.txt").write_text(ASK)
    done = urial(
        "sweep", tmp_path / "q.txt", "-m", "demo", "-p", "zero-shot", "-o", tmp_path / "runs",
        "-n", 8, "-np", 1, "--guide", "demo-aligned", "--prefill", "Well,",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (rows,) = (tmp_path / "runs").glob("*/rows.jsonl")
    row = json.loads(rows.read_text())
    assert row["guide"]["decoded_tokens"] >= 0
    assert row["answer"].startswith("Well,")


def test_ask_tells_the_rate_and_marks_only_terminals():
    args = ["ask", "-n", 24, "-p", "zero-shot", "--guide", "demo-aligned", "--gamma", "1.1", ASK]
    done = urial(*args, "--show-guide")
    assert "The guide wrote 100.0 % of the tokens" in done.stderr
    assert "Above a fifth" in done.stderr
    assert "\x1b" not in done.stdout
    found = json.loads(urial(*args, "--json").stdout)
    assert found["guide"]["rate"] == 1
    assert found["guide_model"]["gamma"] == 1.1


def test_other_vocabularies_exchange_words_and_refuse_tokens(tmp_path):
    base = write_llama(tmp_path / "base.gguf", endless=True)
    other = write_llama(tmp_path / "other.gguf", seed=1, byte_pairs=True, chat_template=PLAIN_CHAT)
    swapped = write_llama(tmp_path / "swapped.gguf", seed=2, swapped=(300, 310), endless=True)
    for guide in (other, swapped):
        with urial_local.load(
            str(base), prompt="zero-shot", max_tokens=20, guide=str(guide), gamma=1.1
        ) as assistant:
            done = assistant.complete("Hi")
            assert done.text
            assert done.guidance.rate == 1
            assert not done.logprobs, "no distribution over the base's tokens gave them"
    asked = urial(
        "ask", "-m", base, "-p", "zero-shot", "--guide", other, "--guide-rule", "bet", "Hi"
    )
    assert asked.returncode != 0
    assert "these vocabularies differ" in asked.stderr
    assert "--guide-rule nudge" in asked.stderr


def test_a_guide_that_thinks_is_refused_by_its_template(tmp_path):
    template = PLAIN_CHAT + "<think>"
    thinker = write_llama(tmp_path / "thinker.gguf", chat_template=template, endless=True)
    base = write_llama(tmp_path / "base.gguf", endless=True)
    args = ["ask", "-m", base, "-p", "zero-shot", "-n", 4, "--guide", thinker, "Hi"]
    refused = urial(*args)
    assert refused.returncode != 0
    assert "thinks before it answers" in refused.stderr
    assert urial(*args, "--guide-prompt", "zero-shot").returncode == 0


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"gamma": 0.3}, "`gamma` needs a guide"),
        ({"model": "demo", "beta": 1.0}, "has no `beta`"),
        ({"model": "demo", "gamma": -1.0}, "between 0 and 2"),
        ({"model": "demo", "guide_rule": "proxy"}, "needs `guide_base`"),
        ({"model": "demo", "guide_base": "demo"}, "needs `guide_base`"),
        ({"model": "demo", "guide_rule": "contrast"}, "takes no `guide`"),
        ({"model": "demo", "guide_rule": "mud"}, "no `guide_rule`"),
    ],
)
def test_choices_that_make_no_sense(chosen, said):
    with pytest.raises(UsageError, match=said):
        guide_options(**chosen)


def test_the_page_gets_the_guides_words_apart():
    turn = AnsweredTurn("q", "one two three", "eos", 3, guide=GuideFacts(0.5, ((0, 3), (8, 13))))
    assert _guided(turn)["parts"] == [("one", True), (" two ", False), ("three", True)]
    assert _guided(AnsweredTurn("q", "a", "eos", 1)) is None


def test_only_a_terminal_shows_underlines(monkeypatch, capsys):
    from urial_local.cli.plumbing import terminal

    terminal.emit(" two words\n", marked=True)
    assert capsys.readouterr().out == " two words\n"
    monkeypatch.setattr(terminal, "seen", lambda stream: True)
    monkeypatch.setattr(terminal, "steered", lambda stream: True)
    terminal.emit(" two words\nmore\x1b[31m", marked=True)
    shown = capsys.readouterr().out
    assert shown.startswith(" \x1b[4mtwo words\x1b[24m\n\x1b[4mmore")
    assert "\x1b[31m" not in shown, "the model's own escapes are harmless"
    terminal.emit("plain", marked=False)
    assert capsys.readouterr().out == "plain"
