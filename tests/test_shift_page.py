"""The report page: nothing of a model's or a user's text is markup, and a real browser reads it."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import shutil
import zlib

import numpy as np
import pytest

from tests.command import urial
from urial_local.records.runlog import RunLog
from urial_local.report.page import embed, packed
from urial_local.report.shift_page import write_page
from urial_local.runtime.shift_rows import shift_rows_numpy
from urial_local.tasks.shift.record import ALIGNED_COLUMNS, CONTEXT_COLUMNS, KEY, to_json
from urial_local.tasks.shift.results import ShiftRun, write_summary
from urial_local.tasks.shift.scoring import NOT_IN_BASE, columns

EVIL = '</script><script>document.title="owned"</script><img src=x onerror=alert(1)>\u2028&amp;"'
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
MODEL = {"name": "b", "file": "b.gguf", "title": EVIL, "architecture": "llama"}
MODEL |= {"quantisation": "F32", "fingerprint": "0" * 32}


def hostile_run(folder, n: int = 3, length: int = 12):
    """A run folder whose every text is an attack, with known statistics."""
    config = {
        "task": "shift",
        "base": MODEL,
        "aligned": [{**MODEL, "name": "a", "prompt": EVIL, "prompt_sha": "0"}],
        "contexts": {
            "zero-shot": {"name": "zero-shot", "sha": "1"},
            EVIL: {"name": "x", "sha": "2"},
        },
        "noise_floor": None,
        "answers": "generated",
        "sampling": {"temperature": 0.0, "seed": 0},
        "max_tokens": 9,
        "kv_type": "f16",
        "shard": None,
    }
    rng = np.random.default_rng(0)
    with RunLog(folder, config, KEY) as log:
        for i in range(n):
            base = rng.normal(size=(length, 40)).astype(np.float32) * 3
            ids = rng.integers(0, 40, length).astype(np.int32)
            aligned = base + rng.normal(size=base.shape).astype(np.float32)
            aligned[np.arange(length), ids] = aligned.max() + 1
            contexts = {}
            for name, nearer in (("zero-shot", 0.0), (EVIL, 6.0)):
                seen = base.copy()
                seen[np.arange(length), ids] += nearer
                seen[2] = np.nan if i == 1 else seen[2]
                found = columns(shift_rows_numpy(seen, aligned, ids))
                found["status"][1] |= NOT_IN_BASE if i == 2 else 0
                contexts[name] = to_json(found, CONTEXT_COLUMNS)
            row = {"id": f"{i}{EVIL}", "number": i, "aligned": "a", "query": f"{EVIL} {i}"}
            row |= {"tags": {"task": [EVIL]}, "answer": EVIL, "answer_ids": ids.tolist()}
            row |= {"ended": True, "end_token": True, "finish_reason": "eos", "contexts": contexts}
            log.append({**row, **to_json(found, ALIGNED_COLUMNS)})
        log.append({"id": "e", "number": 9, "aligned": "a", "query": EVIL, "error": EVIL})
    texts = [f"{EVIL}{i}" if i % 2 else f" word{i}" for i in range(40)]
    (folder / "tokens-a.json").write_text(json.dumps(texts))
    run = ShiftRun(folder)
    return write_page(run, write_summary(run))


def test_data_can_not_leave_its_element():
    text = embed({"x": EVIL, "y": "\ud800"})
    assert "<" not in text
    assert "\u2028" not in text
    assert json.loads(text)["x"] == EVIL
    back = zlib.decompress(base64.b64decode(packed({"n": [1, None]})))
    assert json.loads(back) == {"n": [1, None]}


def test_the_page_is_self_contained_and_allows_only_its_own_script(tmp_path):
    html = hostile_run(tmp_path).read_text("utf-8")
    assert "onerror" not in re.sub(
        r'<script type="application/json".*?</script>', "", html, flags=re.S
    )
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy[1]
    assert "http:" not in policy[1] + html.split("<body>")[0]
    scripts = re.findall(r"<script>(.*?)</script>", html, flags=re.S)
    styles = re.findall(r"<style>(.*?)</style>", html, flags=re.S)
    assert len(scripts) == len(styles) == 1
    for text in (*scripts, *styles):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy[1]
    assert not re.search(r'(src|href)="', html.split('<script type="application/json"')[0])


def test_hostile_texts_in_a_browser(tmp_path, page):
    page.goto(hostile_run(tmp_path).as_uri())
    page.wait_for_selector("#answer .t")
    assert page.title() == "Shift: b → a"
    assert page.locator("img").count() == 0
    assert page.locator("#list li").count() == 3
    assert "1 row failed" in page.locator("#lead").inner_text()
    page.locator("#list button").nth(2).click()
    page.wait_for_selector("#answer .t.k3")
    page.locator("#answer .t.k3").click()
    assert "not in the base model's vocabulary" in page.locator("#answer").inner_text()
    page.locator("#list button").nth(1).click()
    page.wait_for_selector("#answer .t.kx")
    page.locator("#answer .t.kx").click()
    assert "logits are not finite" in page.locator("#answer").inner_text()


@pytest.fixture
def real_run(shifted):
    return shifted / "run"


def test_a_reader_clicks_tokens_and_switches_contexts(real_run, page):
    rows = [json.loads(line) for line in (real_run / "rows.jsonl").read_text().splitlines()]
    row = next(r for r in rows if r["id"] == "q1")
    zero = row["contexts"]["zero-shot"]
    page.goto((real_run / "report.html").as_uri())
    page.wait_for_selector("#answer .t")
    page.locator("#list button").nth(1).click()
    page.locator("#answer .query", has_text="soup").wait_for()
    tokens = page.locator("#answer .text .t")
    assert tokens.count() == len(row["answer_ids"])
    shifted = [i for i, r in enumerate(zero["base_rank"]) if r > 3]
    assert page.locator("#answer .text .t.k2").count() == len(shifted)

    tokens.nth(shifted[0]).click()
    panel = page.locator("#answer")
    assert f"rank in base {zero['base_rank'][shifted[0]]:,}" in panel.inner_text()
    assert page.locator("#answer .t.here").count() == 1
    tables = page.locator(".pair table")
    assert tables.count() == 2
    best = np.exp(zero["base_top_logprobs"][shifted[0]][0]) * 100
    assert f"{best:.2f} %" in tables.nth(0).inner_text()
    assert "demo-aligned" in page.locator(".pair").inner_text()

    page.keyboard.press("ArrowDown")
    assert page.locator("#answer h3").first.inner_text().startswith(f"Token {shifted[1]}:")
    page.keyboard.press("ArrowLeft")
    assert page.locator("#answer h3").first.inner_text().startswith(f"Token {shifted[1] - 1}:")

    page.get_by_role("button", name="urial-demo").click()
    ranks = row["contexts"]["urial-demo"]["base_rank"]
    repaired = sum(a > 3 >= b for a, b in zip(zero["base_rank"], ranks, strict=True))
    assert repaired > 0
    assert page.locator("#answer .text .t.repaired").count() == repaired
    assert page.locator("#answer .text .t.k2").count() == sum(r > 3 for r in ranks)


def test_contexts_keep_their_order_whatever_their_names(real_run, tmp_path, page):
    """Object keys like "7" come first in JavaScript; the answers' contexts are a list."""
    shutil.copytree(real_run, tmp_path / "run")
    for name in ("run.json", "rows.jsonl"):
        text = (real_run / name).read_text()
        (tmp_path / "run" / name).write_text(text.replace('"urial-demo"', '"7"'))
    assert urial("report", tmp_path / "run").returncode == 0
    rows = map(json.loads, (tmp_path / "run" / "rows.jsonl").read_text().splitlines())
    contexts = next(row["contexts"] for row in rows if row["id"] == "q0")
    assert list(contexts) == ["zero-shot", "7"]
    page.goto((tmp_path / "run" / "report.html").as_uri())
    for name, found in contexts.items():
        page.get_by_role("button", name=name, exact=True).click()
        page.locator("#answer .t").first.wait_for()
        shifted = sum(r > 3 for r in found["base_rank"])
        assert page.locator("#answer .text .t.k2").count() == shifted, name


def test_search_filter_and_sort(real_run, page):
    page.goto((real_run / "report.html").as_uri())
    page.wait_for_selector("#answer .t")
    page.fill("#search", "soup")
    assert page.locator("#list li").count() == 1
    page.fill("#search", "no such text")
    assert page.locator("#list li").count() == 0
    assert "Nothing to show" in page.locator("#answer").inner_text()
    page.fill("#search", "")
    page.select_option("#sort", "shifted")
    shares = [float(t.split(" %")[0]) for t in page.locator("#list .figures").all_inner_texts()]
    assert shares == sorted(shares, reverse=True)
    page.locator("#filter button", has_text="shifted").last.click()
    page.wait_for_selector("#answer .t.dim")
    assert page.locator("#answer .t.k2.dim").count() == 0
    assert page.locator("#answer .t.k0:not(.dim)").count() == 0


def test_what_is_packed_for_an_answer_is_what_the_rows_say(real_run, page):
    """Ids and ranks exactly, a list's first probability to hundredths of a percent, the rest as
    report.shift_packing promises."""
    rows = [json.loads(line) for line in (real_run / "rows.jsonl").read_text().splitlines()]
    row = next(r for r in rows if r["id"] == "q1")
    page.goto((real_run / "report.html").as_uri())
    place = page.evaluate("data.answers.findIndex((a) => a.id === 'q1')")
    found = page.evaluate(f"unpack(byId('answer-{place}').textContent).then(unfold)")
    assert found["ids"] == row["answer_ids"]
    sides = [("aligned", row, found["aligned"])]
    names = list(row["contexts"])
    sides += [("base", row["contexts"][n], found["contexts"][i]) for i, n in enumerate(names)]
    for side, want, got in sides:
        assert got["top"] == [v for top in want[f"{side}_top_ids"] for v in top]
        assert got["rank"] == want[f"{side}_rank"]
        p = np.exp(np.array(want[f"{side}_top_logprobs"], np.float64)) * 1e4
        shown = np.array(got["top_p"]).reshape(p.shape)
        np.testing.assert_allclose(shown[:, 0], p[:, 0], atol=0.51)
        np.testing.assert_allclose(shown[:, 1:3], p[:, 1:3], rtol=0.055, atol=0.51)
        np.testing.assert_allclose(shown[:, 3:], p[:, 3:], rtol=0.055, atol=1.0)
        entropy = np.array(want[f"{side}_entropy"])
        np.testing.assert_allclose(got["entropy"], entropy, rtol=0.051, atol=1e-8)
        for t, token in enumerate(row["answer_ids"]):
            listed = token in want[f"{side}_top_ids"][t]
            assert (got["p"][t] is None) == listed
            if not listed:
                p_t = math.exp(want[f"{side}_logprob"][t])
                assert got["p"][t] == pytest.approx(p_t, rel=0.051, abs=1e-8)
    for name, got in zip(names, found["contexts"], strict=True):
        for key, column in (
            ("kl", "kl_base_aligned"),
            ("kl_back", "kl_aligned_base"),
            ("js", "js"),
        ):
            want = np.array(row["contexts"][name][column])
            np.testing.assert_allclose(got[key], want, rtol=0.051, atol=1e-8)


def test_finer_figures_are_shown_on_request(real_run, page):
    context = json.loads((real_run / "summary.json").read_text())["aligned"]["demo-aligned"]
    context = context["contexts"]["urial-demo"]
    page.goto((real_run / "report.html").as_uri())
    page.wait_for_selector("#answer .t")
    page.get_by_role("button", name="urial-demo").click()
    assert f"overlap by {100 * context['overlap']['mean']:.1f} %" in page.inner_text("#finer")
    assert page.locator("#finer table").count() == 0, "closed, and not drawn"
    page.locator("#finer summary", has_text="Forks").click()
    inside = context["forks"]["inside"]
    shown = page.locator("#finer details[open]")
    shown.locator("table").wait_for()
    assert f"{100 * inside['share']:.1f} %" in shown.inner_text()
    page.evaluate("document.querySelectorAll('#finer details').forEach((d) => { d.open = true; })")
    page.wait_for_function("document.querySelectorAll('#finer table').length >= 8")
    first = context["concentration"]["first"][0]["share"]
    assert f"{100 * first:.1f} %" in page.inner_text("#finer")
    assert page.locator("#curves figure").count() == 4
    page.select_option("#curve-set", "branching")
    assert page.locator("#curves figure").count() == 2
    assert "Branching of the base model" in page.inner_text("#curves")
    page.set_viewport_size({"width": 390, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_nothing_sticks_out_on_a_phone(real_run, page, scheme):
    page.set_viewport_size({"width": 375, "height": 700})
    page.emulate_media(color_scheme=scheme)
    page.goto((real_run / "report.html").as_uri())
    page.wait_for_selector("#answer .t")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    table = page.locator("#overview .scroll")
    assert table.evaluate("(e) => e.scrollWidth - e.clientWidth") == 0, "no part of it is cut off"
