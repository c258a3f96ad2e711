"""The shift page says what a guide would come to: the figures of summary.json, in a browser."""

from __future__ import annotations

import json

from tests.test_shift_page import hostile_run


def percents(share):
    return "–" if share is None else f"{100 * share:.1f} %"


def test_the_table_has_the_summarys_figures_for_the_chosen_context(shifted, page):
    run = shifted / "run"
    summary = json.loads((run / "summary.json").read_text())
    contexts = summary["aligned"]["demo-aligned"]["contexts"]
    page.goto((run / "report.html").as_uri())
    page.wait_for_selector("#guide table")
    for name in ("zero-shot", "urial-demo"):
        page.get_by_role("button", name=name, exact=True).click()
        assert name in page.locator("#guide h3").last.inner_text()
        rows = [row.split("\t") for row in page.locator("#guide tbody tr").all_inner_texts()]
        assert rows == [
            [f"{u['gamma']:g}", *(percents(u[key]) for key in ("rate", "precision", "recall"))]
            for u in contexts[name]["unsure"]
        ]
    assert page.locator("#guide svg.chart polyline").count() == 3


def test_it_fits_a_phone_and_hostile_texts_stay_texts(tmp_path, page):
    path = hostile_run(tmp_path)
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(path.as_uri())
    page.wait_for_selector("#guide table")
    box = page.locator("#guide-section").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    assert page.title() != "owned"
