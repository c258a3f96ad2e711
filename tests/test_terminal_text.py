"""What of others' text reaches a terminal, a pipe and JSON, and how wide it is there."""

from __future__ import annotations

import io
import json
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from urial_local.base.terminal import one_line, printable
from urial_local.cli.plumbing import terminal
from urial_local.cli.plumbing.cells import cut, padded, width_of, wrapped
from urial_local.cli.show import lines
from urial_local.records.generated import AnsweredTurn, Generated

HOSTILE = "\x1b]0;title\x07\x9b31m\u202eabc\ufeff\x7f\r\u2066"
KEPT = [
    "10\u202f000",
    "a\u2009b\u00a0c",
    "東京\u3000大阪",
    "می\u200cخواهم",
    "\U0001f468\u200d\U0001f469",
    "\U0001fae8",
    "soft\u00adhyphen",
    "\U0001f3f4\U000e0067\U000e0062\U000e007f",
    "\ue000\U000f0000\u0378",
    "a\tb\nc",
]


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("text", KEPT)
def test_blanks_joiners_and_new_characters_survive(text):
    assert printable(text) == text
    assert "".join(map(printable, text)) == text, "also where a stream brings them one by one"


@given(st.text())
def test_nothing_else_reaches_a_terminal(text):
    shown = printable(text)
    assert not any(unicodedata.category(c) in ("Cc", "Cs") for c in shown if c not in "\n\t")
    turning = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    assert not any(unicodedata.bidirectional(c) in turning for c in shown)
    assert len(one_line(text).splitlines()) <= 1


def test_a_terminal_gets_harmless_text_and_a_pipe_all_of_it(monkeypatch):
    for stream, expected in ((Screen(), "]0;title31mabc"), (io.StringIO(), HOSTILE)):
        monkeypatch.setattr(sys, "stdout", stream)
        terminal.emit(HOSTILE)
        terminal.say(HOSTILE, end="")
        assert stream.getvalue() == expected * 2


def test_json_spells_out_what_could_drive_a_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    terminal.say_json({HOSTILE: "é"}, indent=2)
    text = sys.stdout.getvalue()
    assert json.loads(text) == {HOSTILE: "é"}
    assert printable(text) == text
    assert "é" in text


@pytest.mark.parametrize(("term", "steered"), [("", False), ("dumb", False), ("xterm", True)])
def test_escapes_go_only_to_a_terminal_that_knows_them(monkeypatch, term, steered):
    monkeypatch.setenv("TERM", term)
    monkeypatch.delenv("NO_COLOR", raising=False)
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(terminal, "_PATIENCE", -1)
    status = terminal.StatusLine()
    status.prefill(1, 10)
    status.clear()
    terminal.note("a remark")
    assert ("\x1b" in screen.getvalue()) == steered
    assert "a remark\n" in screen.getvalue().replace("\x1b[0m", "")


def test_a_terminal_that_says_nothing_is_a_dumb_one(monkeypatch):
    monkeypatch.delenv("TERM", raising=False)
    terminal.prepare()
    assert not terminal.steered(Screen())
    from prompt_toolkit.utils import is_dumb_terminal

    assert is_dumb_terminal()


@given(st.text(st.sampled_from("ab 日本\u3000\u0301é\n\u200d👨")), st.integers(1, 12))
def test_wrapped_lines_keep_their_width_and_lose_no_text(text, width):
    found = wrapped(text, width)
    assert all(width_of(line) <= max(width, 2) for line in found)
    assert "".join(found).replace(" ", "") == text.replace(" ", "").replace("\n", "")


def test_wrapping_breaks_at_blanks_and_keeps_an_indentation():
    assert wrapped("  the quick brown fox", 9) == ["  the", "quick", "brown fox"]
    assert wrapped("a\n\nb", 9) == ["a", "", "b"]
    assert wrapped("日本語日本語", 5) == ["日本", "語日", "本語"]
    assert cut("日本語", 5) == "日本"
    assert padded("日本", 6) == "日本  "


def row(answer: str) -> Generated:
    query = "東京\u3000大阪"
    return Generated("1", 1, query, turns=(AnsweredTurn(query, answer, "eos", 1),))


def test_columns_of_show_have_their_cells():
    rows = [row("日本の都道府県" * 20 + "\x1b[2J"), row("e\u0301" * 90)]
    found = list(lines(["a\x1b[1m", "東京" * 30], rows, 100))
    assert max(map(width_of, found)) <= 100
    assert any("東京\u3000大阪" in line for line in found)
    assert any("─" in line for line in found)
    for width in (1, 2, 10, 75):
        assert list(lines(["a", "b"], rows, width))
