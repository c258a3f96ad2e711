"""The page of a benchmark: texts stay texts, figures are those of the results, filters find."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest

from urial_local.records.generated import Generated
from urial_local.records.runlog import RunLog
from urial_local.report.benchmark_page import write_benchmark_page
from urial_local.tasks.benchmark import kept
from urial_local.tasks.benchmark.probes import Probe
from urial_local.tasks.benchmark.results import Results, read_results
from urial_local.tasks.benchmark.rules import Rule
from urial_local.tasks.generate.job import KEY

EVIL = '</script><script>document.title="owned"</script><img src=x onerror=alert()>\u2028\u202e&"|`'
N = 60  # probes


def probes() -> list[Probe]:
    kinds = ("facts", "unsafe", "constructor")
    return [
        Probe(
            f"p{i}", kinds[i % 3], (f"{EVIL} {i}?", "And?")[: 1 + i % 2], Rule(any=("yes",)), 9, 0
        )
        for i in range(N)
    ]


def cell_row(probe: Probe, number: int, chance: float, rng: random.Random) -> dict:
    if number == 7:
        return {"id": probe.id, "repeat": 0, "number": 7, "query": "", "error": EVIL}
    said = "yes" if rng.random() < chance else "" if number % 11 == 0 else "no"
    turns = [
        {"query": q, "answer": f"{said} {EVIL}" if said else "", "finish_reason": "eos",
         "completion_tokens": 5, "flags": []}
        for q in probe.turns
    ]  # fmt: skip
    flags = ["repetitive"] if number % 10 == 0 else []
    row = {"id": probe.id, "repeat": 0, "number": number, **turns[0], "flags": flags}
    return row | ({"turns": turns} if len(turns) > 1 else {})


def written(folder: Path, models: tuple[str, ...] = ("base",), aligned: bool = True) -> Results:
    """A benchmark's folder, written as the command does."""
    prompts, rng = ("zero-shot", "urial", EVIL[:40]), random.Random(0)
    cells = [
        {"name": f"{m}__{i}", "model": {"name": m, "file": f"{m}.gguf", "title": EVIL},
         "prompt": {"name": p, "sha": "0"}, "aligned": False, "fence": "```"}
        for m in models for i, p in enumerate(prompts)
    ]  # fmt: skip
    if aligned:
        chat = {"name": "chat", "sha": "1"}
        cells.append({"name": "a", "model": {"name": "chatty"}, "prompt": chat, "aligned": True})
    asked = {"task": "benchmark", "cells": cells, "probes": {"whose": "own"}}
    with RunLog(folder, asked, kept.KEY, kept.placed) as log:
        for number, probe in enumerate(probes()):
            log.append(kept.row_of(probe, number))
    for nth, cell in enumerate(cells):
        config = {"task": "generate", "model": cell["model"], "prompt": cell["prompt"]}
        with RunLog(folder / cell["name"], config, KEY, Generated.read) as log:
            for number, probe in enumerate(probes()):
                if nth != 2 or number < N - 5:  # which is not finished
                    log.append(
                        cell_row(probe, number, 0.9 if cell["aligned"] else 0.2 + 0.15 * nth, rng)
                    )
            log.end_session(rows=N, tokens=300, seconds=2)
    return read_results(folder)


def show(page, folder: Path, **more) -> Results:
    found = written(folder, **more)
    write_benchmark_page(folder, found, folder / "report.html")
    page.goto((folder / "report.html").as_uri())
    page.wait_for_selector("#rows .row")
    return found


def test_nothing_of_others_is_markup(tmp_path):
    found = written(tmp_path)
    html = write_benchmark_page(tmp_path, found, tmp_path / "report.html").read_text("utf-8")
    assert not re.search("<img|owned</|\u2028", html.split("</title>")[1])
    code = re.findall(r"<script>(.*?)</script>", html, flags=re.S)
    assert len(code) == 1
    assert not re.search(r"innerHTML|insertAdjacent|document\.write|eval\(", code[0])
    markup = re.sub(r"<script.*?</script>|<style>.*?</style>", "", html, flags=re.S)
    assert not re.search(r'(src|href|style)="', markup)


def test_figures_on_the_page_are_those_of_the_results(tmp_path, page):
    found = show(page, tmp_path)
    assert page.title() == "Benchmark: base"
    rows = page.locator("#right tbody tr")
    for i, cell in enumerate(found.cells):
        cells = rows.nth(i).locator("td")
        shares = [cell.measures.right, *cell.measures.kinds.values()]
        for nth, share in enumerate(shares):
            text, told = cells.nth(nth).inner_text(), cells.nth(nth).get_attribute("aria-label")
            assert abs(float(text.split()[0]) - 100 * share.value) <= 0.5
            assert f"({share.k} of {share.n})" in told
            low = float(re.search(r"interval ([\d.]+) to", told)[1])
            assert abs(low - 100 * share.interval.low) <= 0.5
    zero = found.comparisons[1].zero_shot
    line = page.locator("#differences tbody tr").first.inner_text()
    assert f"+{100 * zero.value:.1f}" in line
    assert f"({zero.only_a} to {zero.only_b})" in line
    assert page.locator("#differences th", has_text="gap closed").count() == 1
    assert "Not finished" in page.inner_text("#notes")
    assert "could not be asked" in page.inner_text("#notes")
    assert page.locator("img").count() == 0
    assert page.locator("#curves-section").is_hidden()


def test_intervals_are_told_on_hover_and_by_arrow_keys(tmp_path, page):
    show(page, tmp_path)
    tip = page.locator("#tip")
    assert tip.is_hidden()
    page.locator("#right td").nth(1).hover()
    assert "zero-shot, facts:" in tip.inner_text()
    page.mouse.move(0, 0)
    assert tip.is_hidden()
    first = page.locator("#right td[tabindex='0']")
    assert first.count() == 1
    first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert "urial, facts:" in tip.inner_text()
    page.keyboard.press("Escape")
    assert tip.is_hidden()


def test_filters_find_what_decides(tmp_path, page):
    found = show(page, tmp_path)
    zero, urial = found.cells[0].answers, found.cells[1].answers

    def count() -> int:
        return int(page.inner_text("#count").split()[0])

    assert count() == N
    page.select_option("#right-in", "1")
    page.select_option("#wrong-in", "0")
    gains = [i for i in zero if urial[i].right and not zero[i].right]
    assert count() == len(gains)
    assert page.locator("#shown [aria-pressed=true]").all_inner_texts() == ["zero-shot", "urial"]
    heads = page.locator("#rows .row").first.locator(".verdict").all_inner_texts()
    assert heads == ["✗ wrong", "✓ right"]
    assert "lacks 'yes'" in page.locator("#rows .wrong .why").all_inner_texts()
    page.select_option("#kind", "constructor")
    assert count() == sum(zero[i].probe.kind == "constructor" for i in gains)
    page.locator("#reset").click()
    page.select_option("#flag", ":failed")
    assert (count(), page.locator("#rows .why").first.inner_text()[:7]) == (1, "failed:")
    page.select_option("#flag", "=repetitive")
    assert count() == N // 10
    page.locator("#reset").click()
    page.fill("#search", "p12")
    assert count() == 1
    page.locator("#reset").click()
    assert page.locator("#rows .row").count() == 30
    page.locator("#more button").click()
    assert page.locator("#rows .row").count() == N
    page.locator("#differences button").first.click()
    assert count() == len(gains)


def test_curves_of_checkpoints(tmp_path, page):
    found = show(page, tmp_path, models=("step2000", "step1000", "step500"), aligned=False)
    assert found.curves.axis.places == (2000, 1000, 500)
    page.wait_for_selector("#curves polyline")
    assert page.locator("#curves polyline").count() == 3
    assert page.locator("#curves h3").inner_text() == "right, by model"
    page.select_option("#curve-measure", "ended")
    assert page.locator("#curves h3").inner_text() == "ended, by model"
    page.select_option("#kinds-model", "step1000")
    page.wait_for_selector("#kinds svg.chart")
    assert page.locator("#right tr.model").all_inner_texts() == ["step2000", "step1000", "step500"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_sticks_out_on_a_phone(tmp_path, page, scheme):
    page.set_viewport_size({"width": 375, "height": 700})
    page.emulate_media(color_scheme=scheme)
    show(page, tmp_path, models=("step2000", "a-model-with-a-rather-long-name-step1000"))
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    assert page.evaluate("document.title") != "owned"
    page.locator("#right td").nth(3).focus()
    box = page.locator("#tip").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 375


def test_data_are_small_and_plain(tmp_path):
    """Nothing is NaN, and texts are there once."""
    found = written(tmp_path)
    html = write_benchmark_page(tmp_path, found, tmp_path / "report.html").read_text("utf-8")
    (text,) = re.findall(r'id="data">(.*?)</script>', html, flags=re.S)
    data = json.loads(text)
    assert len(data["rows"]) == N
    assert data["usage"].keys() == {"base"}
