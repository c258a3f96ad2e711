"""Pages of `shift --texts`, `--handover` and `--swap`: hostile texts in a real browser, a phone."""

from __future__ import annotations

import json
import re

import pytest

from tests.command import urial
from tests.experiment_runs import MAKERS
from tests.test_shift_page import EVIL
from urial_local.report import sections


@pytest.fixture(params=list(MAKERS))
def kind(request):
    return request.param


def written(kind, folder):
    MAKERS[kind](folder, EVIL)
    done = urial("report", folder)
    assert done.returncode == 0, done.stderr
    assert "1 row failed" in done.stderr
    return folder / "report.html"


def test_hostile_texts_in_a_browser(kind, tmp_path, page):
    path = written(kind, tmp_path)
    html = path.read_text("utf-8")
    shown = re.sub(r'<script type="application/json".*?</script>', "", html, flags=re.S)
    assert "onerror" not in shown
    page.goto(path.as_uri())
    assert page.locator("img").count() == 0
    assert page.locator("#sections table").count() >= 1
    assert page.locator("#provenance dd").count() > 2
    if kind == "shift-texts":
        assert page.locator(".token-list li").count() > 10
        return
    assert page.locator(".answer-row").count() == 3
    assert page.locator("mark.other").count() == (6 if kind == "shift-swap" else 0)
    page.fill("#search", "question 1")
    assert page.locator(".answer-row").count() == 1
    page.fill("#search", "no such text")
    assert page.locator(".answer-row").count() == 0


def test_a_page_holds_the_first_questions_and_says_so(monkeypatch):
    by_id = {f"q{i}": [i] * 4 for i in range(5)}
    assert sections.first_questions(by_id) == (list(by_id.values()), "")
    monkeypatch.setattr(sections, "SHOWN", 11)
    kept, said = sections.first_questions(by_id)
    assert kept == [[0] * 4, [1] * 4]
    assert "The first 2 questions" in said
    monkeypatch.setattr(sections, "SHOWN", 1)
    assert sections.first_questions(by_id)[0] == [[0] * 4]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_sticks_out_on_a_phone(kind, scheme, tmp_path, page):
    page.set_viewport_size({"width": 390, "height": 800})
    page.emulate_media(color_scheme=scheme)
    page.goto(written(kind, tmp_path).as_uri())
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_figures_of_the_page_are_those_of_the_summary(kind, tmp_path, page):
    page.goto(written(kind, tmp_path).as_uri())
    found = json.loads((tmp_path / "summary.json").read_text())
    text = page.locator("#sections").inner_text()
    if kind == "shift-texts":
        assert f"{found['figures']['ppl_base']['value']:.4f}" in text
        assert f"{100 * found['figures']['same_top']['value']:.3f} %" in text
    elif kind == "shift-handover":
        assert [c["whole"]["all"] for c in found["curves"]] == [3, 3]
        assert "0.500" in text
        assert page.locator("#sections svg.chart").count() >= 8
    else:
        arm = next(a for a in found["arms"] if a["arm"] == "js>0.1")
        assert arm["swapped"]["value"] == pytest.approx(1 / 5)
        assert "20.0 %" in text
