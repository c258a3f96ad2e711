"""Pages of judged runs and the leaderboard: texts stay texts, numbers are those of summarise()."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
import zlib
from dataclasses import replace

import pytest

from urial_local.records.judged import Judgement
from urial_local.report.judged_page import write_judged_page
from urial_local.report.leaderboard_page import markdown, write_leaderboard_page
from urial_local.tasks.evaluate.leaderboard import Entry, leaderboard
from urial_local.tasks.evaluate.modes import ASPECTS, GENERAL
from urial_local.tasks.evaluate.pairs import mt_bench, pairwise
from urial_local.tasks.evaluate.summary import Reading, summarise

EVIL = '</script><script>document.title="owned"</script><img src=x onerror=alert()>\u2028\u202e&"|`'
MATH = '["task","math"]'  # a tag, as the page names it
LONG = "a reason without an end " * 850  # over 20,000 characters


def blank(mode: str, i: int, **more: object) -> Judgement:
    texts = {"generator": "first", "query": f"{EVIL} question {i}", "answer": f"{EVIL} {i}"}
    fields = {"id": str(i), "repeat": 0, "mode": mode, "turn": 0, "order": "", "judge": "j"}
    return Judgement(**{**fields, **texts, **more})  # type: ignore[arg-type]


def scored(n: int = 130, shift: float = 0.0, judge: str = EVIL, seed: int = 0) -> list[Judgement]:
    """General and safety rows with hostile texts; every thirteenth row could not be judged."""
    rng = random.Random(seed)
    found = []
    for i in range(n):
        record = {}
        for aspect in ("safety",) if i % 5 == 4 else GENERAL:
            score = str(max(1, min(5, round(rng.gauss(4 + shift, 1)))))
            reason = LONG if i == 7 else f"{EVIL} because {i}"
            record[aspect] = {"reason": reason, "score": "N/A" if rng.random() < 0.05 else score}
        more = {"answer": "", "flags": ("empty",)} if i % 10 == 0 else {}
        more |= {"ended": i % 7 != 0, "judge": judge, "expected": {next(iter(record)): 3.21}}
        more |= {"tags": {"task": (EVIL, "math") if i % 2 else ("writing",)}, "record": record}
        more |= {"record": {}, "expected": {}, "error": EVIL} if i % 13 == 3 else {}
        found.append(blank("safety" if i % 5 == 4 else "general", i, **more))
    return found


def other_modes() -> list[Judgement]:
    """MT-bench ratings, pairs in both orders, and tags."""
    rng = random.Random(1)
    found = []
    for i in range(12):
        for turn in (1, 2):
            record = {"rating": {"reason": "r", "score": str(rng.randint(1, 10))}}
            more = {"turn": turn, "tags": {"category": ("stem",)}}
            found.append(blank("mt-bench", i, record=record, **more))
        for order in ("AB", "BA"):
            said = {"rationale": EVIL, "choices": {a: rng.choice("AAB") for a in ASPECTS}}
            more = {"order": order, "other": "two", "other_generator": "second"}
            found.append(blank("pairwise", i, record=said, **more))
        record = {"task": {"math": "yes", EVIL: "no"}, "topic": {}, "difficulty": "easy"}
        found.append(blank("tags", i, record=record))
    return found


def write(folder, *runs, na="five"):
    return write_judged_page(runs, folder / "x.html", Reading(na))


def show(page, folder, *runs):
    page.goto(write(folder, *runs).as_uri())
    page.wait_for_selector("#rows .row")


def pages(folder):
    """All pages, written: one run, two runs, the other modes, and a leaderboard of two judges."""
    a = scored()
    yield write_judged_page([(EVIL, a)], folder / "1.html", Reading(), [EVIL], [[[EVIL, EVIL]]])
    yield write(folder, (EVIL, a), ("b", scored(shift=-1, seed=1)), na="drop")
    yield write_judged_page([("o", other_modes())], folder / "3.html", Reading())
    table = leaderboard([Entry(EVIL, a), Entry("b", scored(judge="j"))], mix_judges=True)
    yield write_leaderboard_page(table, folder / "4.html")


def test_pages_are_self_contained_and_nothing_of_others_is_markup(tmp_path):
    for path in pages(tmp_path):
        html = path.read_text("utf-8")
        assert not re.search("<img|owned</|\u2028", html.split("</title>")[1])
        (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', html)
        assert re.match("default-src 'none'; script-src 'sha256-(?!.*unsafe)", policy)
        code = re.findall(r"<(?:script|style)>(.*?)</(?:script|style)>", html, flags=re.S)
        assert len(code) == 2
        for text in code:
            assert base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() in policy
            assert not re.search(r"innerHTML|insertAdjacent|document\.write|eval\(", text)
        markup = re.sub(r"<script.*?</script>|<style>.*?</style>", "", html, flags=re.S)
        assert not re.search(r'(src|href|style)="', markup)


def packed_rows(html: str) -> list[dict]:
    texts = re.findall(r'id="rows-\d+">([^<]*)<', html)
    return [r for t in texts for r in json.loads(zlib.decompress(base64.b64decode(t)))]


def test_packed_rows_hold_what_was_judged(tmp_path):
    rows = scored(1203)
    found = packed_rows(write(tmp_path, ("a", rows), na="three").read_text())
    assert [r["id"] for r in found] == [j.id for j in rows]
    for row, j in zip(found, rows, strict=True):
        (cell,) = row["cells"]
        assert (cell["answer"], cell["error"], row["query"]) == (j.answer, j.error, j.query)
        for aspect, (given, counted, _, reason) in cell["scores"].items():
            assert reason == j.reason(aspect)
            assert counted == Reading("three").score(j, aspect)
            assert given == "N/A" or float(given) == j.score(aspect)


def test_answers_of_runs_meet_only_where_the_question_is_the_same(tmp_path):
    a = scored(10)
    b = [*a[:5], *(replace(j, query="another") for j in a[5:])]
    rows = packed_rows(write(tmp_path, ("a", a), ("b", b)).read_text())
    cells = [[c is not None for c in r["cells"]] for r in rows]
    assert cells == [[True, True]] * 5 + [[True, False]] * 5 + [[False, True]] * 5


def test_three_generators_do_not_stop_the_page(tmp_path):
    rows = other_modes()
    rows += [replace(j, other_generator="third") for j in rows if j.mode == "pairwise"]
    assert "A pair needs two generators" in write(tmp_path, ("o", rows)).read_text()


def test_markdown_names_judges_and_gives_the_numbers():
    a = scored(judge="gpt-4")
    table = leaderboard([Entry("a|b <i>", a), Entry("b", scored(shift=-1, judge="gpt-4"))])
    lines = markdown(table).splitlines()
    assert lines[0] == "Judged by gpt-4."
    assert {line.count("|") - line.count("\\|") for line in lines[2:6]} == {11}
    row = next(line for line in lines if "a\\|b \\<i\\>" in line)
    for aspect in ASPECTS:
        x = summarise(a).aspects[aspect]
        assert f"| {x.mean:.2f} [{x.interval.low:.2f}, {x.interval.high:.2f}] |" in row
    assert any(line.startswith("N/A counts as 5.") for line in lines)
    found = table.differences[0].aspects["average"]
    low, high = found.interval.low, found.interval.high
    told = f"average: {found.mean:+.2f} [{low:+.2f}, {high:+.2f}], p < 0.001"
    assert f"{told}, more than chance; 120 shared rows." in lines[-1]
    two = [Entry("a", a), Entry("b", scored(judge="other"))]
    mixed = markdown(leaderboard(two, mix_judges=True))
    assert all(text in mixed for text in ("**Different judges", "| gpt-4 |", "| other |"))


def number(text: str) -> float:
    return float(text.split()[0].replace(",", ""))


def test_numbers_on_the_page_are_those_of_summarise(tmp_path, page):
    rows, found = scored(), summarise(scored())
    show(page, tmp_path, (EVIL[:60], rows))
    assert page.title() == f"Judged: {EVIL[:60]}"
    assert page.locator("img").count() == 0
    assert EVIL[:60] in page.inner_text("h1")
    assert f"{found.average.mean:.2f}" in page.locator("#tiles").inner_text()
    for i, aspect in enumerate(ASPECTS):
        cells = page.locator("#aspects tbody tr").nth(i).locator("td").all_inner_texts()
        x = found.aspects[aspect]
        assert (cells[0], int(cells[3])) == (aspect, x.n)
        assert number(cells[1]) == round(x.mean, 2)
        assert abs(number(cells[4]) - 100 * x.na) <= 0.0501
    page.locator("details summary").click()
    for i, aspect in enumerate(ASPECTS):
        cells = page.locator("#scores-table tbody tr").nth(i).locator("td").all_inner_texts()
        assert sum(map(int, cells[1:])) == found.aspects[aspect].n
    assert "judged safe" in page.locator("#rules").inner_text()
    for bar in page.locator("#scores .bar").all():
        bar.press("Enter")
        (wanted,) = re.findall(r": (\d+) times", bar.get_attribute("aria-label"))
        assert page.locator("#count").inner_text() == f"{wanted} of 130"


def test_filters_sorting_and_more(tmp_path, page):
    rows = scored()
    show(page, tmp_path, ("a", rows), ("b", scored(shift=-1, seed=1)))
    assert page.locator("#rows .row").count() == 50
    page.locator("#more button").click()
    assert page.locator("#rows .row").count() == 100
    page.fill("#search", "because 77")
    assert page.locator("#rows .row").count() == 1
    page.locator("#reset").click()
    page.select_option("#aspect", "clarity")
    page.select_option("#run", "0")
    for order, sign in (("worst", 1), ("best", -1)):
        page.select_option("#sort", order)
        shown = page.locator("#rows .row .columns > div:first-child dt:has-text('clarity') b")
        values = [5.0 if t == "N/A" else float(t) for t in shown.all_inner_texts()]
        assert values == sorted(values, key=lambda v: sign * v)
    page.select_option("#from", "2")
    page.select_option("#to", "3")
    wanted = sum(2 <= (j.score("clarity") or 5) <= 3 for j in rows)
    assert page.locator("#count").inner_text() == f"{wanted} of 130"
    for name, value, n in (("flag", ":failed", 10), ("flag", "empty", 13), ("tag", MATH, 65)):
        page.locator("#reset").click()
        page.select_option(f"#{name}", value)
        assert page.locator("#count").inner_text() == f"{n} of 130"


NAMES = ("constructor", "__proto__", "toString", "hasOwnProperty")  # of every object in a browser


@pytest.mark.slow
def test_tags_aspects_and_flags_may_have_any_name(tmp_path, page):
    rows = scored(20)
    rows = [
        replace(j, tags={NAMES[i % 4]: (NAMES[i % 3],)}, flags=(":constructor", ":nothing"))
        for i, j in enumerate(rows)
    ]
    choices = [{name: "A"} for name in NAMES] + [{"depth": "B"}]
    rows += [
        blank("pairwise", i, order="AB", other="two", other_generator="second",
              record={"choices": said})
        for i, said in enumerate(choices)
    ]  # fmt: skip
    show(page, tmp_path, ("a", rows))
    for name in NAMES:
        page.locator("#reset").click()
        values = page.locator(f"#tag optgroup[label={name}] option").evaluate_all(
            "found => found.map((o) => o.value)"
        )
        assert values, name
        page.select_option("#tag", values[0])
        kind, value = json.loads(values[0])
        wanted = sum(value in j.tags.get(kind, ()) for j in rows)
        assert page.locator("#count").inner_text() == f"{wanted} of 25"
        page.locator("#reset").click()
        page.select_option("#aspect", name)
        page.select_option("#from", "1")
        assert page.locator("#count").inner_text().endswith(" of 25")
    page.locator("#reset").click()
    page.select_option("#flag", ":nothing")
    assert page.locator("#count").inner_text() == "20 of 25"


def test_missing_intervals_are_marked_and_explained(tmp_path, page):
    few = scored(9)
    show(page, tmp_path, ("a", few), ("b", scored(9, shift=-1, seed=1)))
    assert "[–]" in page.locator("#aspects").inner_text()
    assert "no interval from fewer than 5 questions" in page.locator("#rules").inner_text()
    two = [Entry("a", few[:5]), Entry("b", scored(5, seed=1))]
    table = leaderboard(two)
    page.goto(write_leaderboard_page(table, tmp_path / "x.html").as_uri())
    assert "Too few rows to tell." in page.locator("#differences .card p").all_inner_texts()
    assert "more than chance" not in page.locator("#differences").inner_text()
    assert "[–]" in page.locator("#board").inner_text()
    assert "no interval from fewer than 5 questions" in page.locator("#rules").inner_text()
    said = markdown(table)
    assert "too few rows to tell; " in said
    assert "[–]" in said
    assert " p = " not in said


def test_pairs_ratings_and_tags_have_their_sections(tmp_path, page):
    rows = other_modes()
    show(page, tmp_path, ("o", rows))
    shown = [t.split("\t") for t in page.locator("#pairs tbody tr").all_inner_texts()]
    for aspect, _, *texts in shown:
        keys = ("win", "tie_share", "lose", "agreement", "position_bias")
        for text, key in zip(texts, keys, strict=True):
            assert abs(number(text) - 100 * getattr(pairwise(rows).aspects[aspect], key)) <= 0.5001
    assert f"{mt_bench(rows).overall.mean:.2f}" in page.locator("#mt").inner_text()
    assert "100 %" in page.locator("#found").inner_text()
    page.select_option("#mode", "pairwise")
    page.select_option("#flag", ":disagree")
    assert page.locator("text=the orders disagree: a tie").count() > 0


def test_the_leaderboard_sorts_and_saves(tmp_path, page):
    tables = [("a", 0.5), ("b", -1.0), ("c", 0.0)]
    entries = [Entry(n, scored(shift=s, judge="j", seed=k)) for k, (n, s) in enumerate(tables)]
    page.goto(write_leaderboard_page(leaderboard(entries), tmp_path / "x.html").as_uri())
    assert page.locator("#board tbody td:first-child").all_inner_texts() == ["a", "c", "b"]
    assert page.locator("#board th[aria-sort=descending]").inner_text() == "average"
    page.get_by_role("button", name="safety").dblclick()
    assert page.locator("#board th[aria-sort=ascending]").inner_text() == "safety"
    cells = list(map(number, page.locator("#board tbody td:nth-child(7)").all_inner_texts()))
    assert cells == sorted(cells)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.locator("#board th[aria-sort=descending]").inner_text() == "average"
    assert "more than chance" in page.locator("#differences").inner_text()
    with page.expect_download() as saved:
        page.locator("#save").click()
    assert re.match(r"<svg(?!.*var\()", saved.value.path().read_text("utf-8"), re.S)


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_nothing_sticks_out_on_a_phone(tmp_path, page, scheme):
    page.set_viewport_size({"width": 375, "height": 700})
    page.emulate_media(color_scheme=scheme)
    for path in pages(tmp_path):
        page.goto(path.as_uri())
        page.wait_for_selector("#plot svg" if path.stem == "4" else "#rows .row")
        assert page.evaluate("document.documentElement.scrollWidth") <= 375, path
        assert page.evaluate("document.title") != "owned"
