"""The chat page beside a guide: who wrote each token, in colours and in words."""

from __future__ import annotations

import pytest

pytest.importorskip("starlette", reason="the serve extra is not installed")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from tests.serving import plan, running  # noqa: E402
from tests.test_chat_page import PHONE, WIDE, ask, visit  # noqa: E402, F401
from urial_local.runtime.guides import Rule  # noqa: E402
from urial_local.tasks.guide import GuideOptions  # noqa: E402

expect = sync_api.expect
QUESTION = "How do I make soup?"


@pytest.fixture(scope="module")
def server():
    options = GuideOptions("demo-aligned", Rule("nudge", gamma=0.6))
    with running([plan("demo", "zero-shot", guide=options)]) as opened:
        yield opened


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_the_guides_tokens_are_coloured_and_counted(server, visit, size):  # noqa: F811
    said = server.post("/v1/chat/completions", {
        "urial": {"tokens": True}, "messages": [{"role": "user", "content": QUESTION}],
    }).json()["choices"][0]["urial"]  # fmt: skip
    theirs = [i for i, t in enumerate(said["tokens"]) if t["base_top"] is not None]
    assert 0 < len(theirs) < len(said["tokens"])
    page = visit(server.url, size)
    ask(page, QUESTION)
    page.click("#view-tokens")
    page.select_option("#colour", "guide")
    assert "the guide’s" in page.locator("#legend").inner_text()
    marked = page.locator(".tokens .t.g1")
    assert [int(t.get_attribute("data-i")) for t in marked.all()] == theirs
    words = f"The guide wrote {len(theirs)} of {len(said['tokens'])} tokens"
    expect(page.locator(".shares")).to_contain_text(words)
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    marked.first.click()
    best = said["tokens"][theirs[0]]["base_top"]
    expect(page.locator("#likely header")).to_contain_text("the model’s own best token had")
    expect(page.locator("#likely header")).to_contain_text(f"{100 * best:.0f}")
    page.keyboard.press("Escape")
    page.reload()
    if size is WIDE:  # on a phone the list is behind a button
        expect(page.locator("#list li")).to_have_count(1)
    page.locator("#list .name").evaluate("(name) => name.click()")
    expect(page.locator(".tokens .t.g1")).to_have_count(len(theirs))
    page.click("#open-settings")
    page.locator("#settings summary").click()
    assert "Its guide:" in page.locator("#settings").inner_text()


def test_without_a_guide_the_choice_is_not_there(visit):  # noqa: F811
    with running([plan("demo")]) as alone:
        page = visit(alone.url)
        ask(page, "Where can I find a fox?")
        page.click("#view-tokens")
        assert page.locator('#colour option[value="guide"]').count() == 0
