"""The chat page, in a real browser against a real server: what a person clicks and sees."""

from __future__ import annotations

import itertools
import json
import re
import threading
import unicodedata
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("starlette", reason="the serve extra is not installed")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from tests.serving import pair, plan, running  # noqa: E402
from urial_local.server.page import SCRIPTS, assembled, headers  # noqa: E402

expect = sync_api.expect
expect.set_options(timeout=30_000)  # on a busy machine
WIDE, PHONE = {"width": 1200, "height": 860}, {"width": 390, "height": 844}
LOOKS = [(size, scheme) for size in (WIDE, PHONE) for scheme in ("light", "dark")]
NAMES = [f"{scheme}-{size['width']}" for size, scheme in LOOKS]
EVIL = '<img src=x onerror="document.title=1"><script>document.title="owned"</script>'


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(pair(), runs=tmp_path_factory.mktemp("runs")) as opened:
        yield opened


@pytest.fixture
def visit(browser):
    """Opens the page in a browser that has never seen it. Whatever the page reports as an error,
    and whatever it asks of others than its server, fails the test."""
    contexts, said = [], []

    def open_page(url, size=WIDE, scheme="light", allowed=(), **more):
        context = browser.new_context(viewport=size, color_scheme=scheme, **more)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("console", lambda m: said.append(m.text) if not fine(m.text, allowed) else None)
        page.on("request", lambda r: said.append(r.url) if not of(r.url, url) else None)
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []


def fine(text, allowed):
    return any(words in text for words in allowed)


def of(url, server):
    return url.startswith((server, "data:", "blob:"))


def ask(page, text, answers=1):
    """Ask, and wait until that many more answers are whole."""
    before = page.locator(".answer.done").count()
    page.fill("#ask", text)
    page.keyboard.press("Enter")
    expect(page.locator(".answer.done")).to_have_count(before + answers)


def more(answer, words):
    answer.locator("summary", has_text="More").click()
    answer.get_by_role("button", name=words, exact=True).click()


def settled(page):
    expect(page.locator(".answer.writing")).to_have_count(0)


# --- the file -------------------------------------------------------------------------------------


def test_the_page_is_one_file_that_lets_nothing_else_run(server):
    reply = server.get("/")
    assert reply.text == assembled()
    assert "/* script */" not in reply.text
    policy = reply.headers["content-security-policy"]
    for rule in ("default-src 'none'", "connect-src 'self'", "frame-ancestors 'none'"):
        assert rule in policy
    for rule in ("base-uri 'none'", "form-action 'none'", "require-trusted-types-for 'script'"):
        assert rule in policy
    assert "unsafe" not in policy
    assert policy == headers(reply.text)["content-security-policy"]
    assert len(re.findall("'sha256-", policy)) == 2
    assert not re.search(r"\b(src|href)=\"(?!data:)", reply.text)


def test_no_script_makes_elements_of_texts():
    script = assembled()
    for name in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(",
                 "DOMParser", "Function(", "srcdoc", "createContextualFragment"):  # fmt: skip
        assert name not in script, name
    assert len(SCRIPTS) == len(set(SCRIPTS))


# --- a conversation -------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "scheme"), LOOKS, ids=NAMES)
def test_a_person_asks_and_looks_at_everything(server, visit, size, scheme):
    page = visit(server.url, size, scheme)
    expect(page.locator(".empty h2")).to_have_text("Ask demo")
    page.locator(".examples button").first.click()
    expect(page.locator(".answer.done .markdown ol li")).to_have_count(4)
    assert "tokens/s" in page.locator(".facts").inner_text()

    page.select_option("#mode", label="Both, side by side")
    ask(page, "Where can I find a fox?", answers=2)
    heads = page.locator(".turn").nth(1).locator(".answer > header b")
    assert heads.all_inner_texts() == ["demo (base)", "demo-aligned"]
    assert "tokens of context" in page.locator("#used").inner_text()
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= size["width"]

    page.click("#view-tokens")
    assert "above 90 %" in page.locator("#legend").inner_text()
    tokens = page.locator(".answer").nth(2).locator(".tokens .t")
    assert tokens.count() > 5
    page.select_option("#colour", "rank")
    for word in ("unshifted", "marginal", "shifted"):
        assert word in page.locator("#legend").inner_text()
    expect(page.locator(".shares").nth(2)).to_contain_text("By rank in demo (base): unshifted")
    page.select_option("#colour", "entropy")
    assert "nats" in page.locator("#legend").inner_text()

    tokens.nth(2).click()
    expect(page.locator("#likely section")).to_have_count(2)
    assert page.locator("#likely .alternative").count() == 20
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    page.keyboard.press("Escape")
    expect(page.locator("#likely")).to_have_count(0)

    page.click("#open-settings")
    page.locator("#settings summary").click()
    assert "llama-cpp-python" in page.locator("#settings").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_have_count(0)


def test_what_is_told_of_tokens_is_what_the_server_says(server, visit):
    page = visit(server.url)
    page.select_option("#mode", label="demo-aligned")
    ask(page, "How do I make soup?")
    page.click("#view-tokens")
    page.select_option("#colour", "rank")
    expect(page.locator(".shares")).to_contain_text("By rank in demo (base)")
    said = server.post("/v1/chat/completions", {
        "model": "demo-aligned", "urial": {"tokens": True},
        "messages": [{"role": "user", "content": "How do I make soup?"}],
    }).json()  # fmt: skip
    ids = [token["id"] for token in said["choices"][0]["urial"]["tokens"]]
    assert page.locator(".tokens .t").count() == len(ids)
    shift = server.post("/api/shift", {
        "ids": ids, "messages": [{"role": "user", "content": "How do I make soup?"}],
    }).json()["tokens"]  # fmt: skip
    for name, kind in (("marginal", "k1"), ("shifted", "k2")):
        count = sum(token["class"] == name for token in shift)
        assert page.locator(f".tokens .t.{kind}").count() == count, name


def test_going_on_from_another_token_is_a_branch(server, visit):
    page = visit(server.url)
    ask(page, "Where can I find a fox?")
    before = page.locator(".answer .body").inner_text()
    page.click("#view-tokens")
    words = page.locator(".tokens .t").all_text_contents()
    page.locator(".tokens .t").nth(0).click()
    expect(page.locator("#likely section")).to_have_count(2)
    other = page.locator("#likely section").first.locator(".alternative:not(.written)").first
    word = other.locator(".word").inner_text()
    other.click()
    settled(page)
    expect(page.locator(".answer .branches")).to_contain_text("2/2")
    assert "Continues from branch 1 at token 1" in page.locator(".whence").inner_text()
    assert page.locator(".tokens .t").first.text_content().strip() == word.replace("␣", "")
    page.click("#view-text")
    assert page.locator(".answer .body").inner_text() != before
    page.locator(".answer").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".answer .branches")).to_contain_text("1/2")
    assert page.locator(".answer .body").inner_text() == before
    page.click("#view-tokens")
    assert page.locator(".tokens .t").all_text_contents() == words
    page.locator(".tokens .t").nth(1).focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.locator("#likely section")).to_have_count(2)
    expect(page.locator(".t.here")).to_have_attribute("data-i", "2")


def test_an_answer_goes_on_where_it_was_cut(server, visit):
    page = visit(server.url)
    ask(page, "How do I make soup?")
    whole = page.locator(".answer .body").inner_text()
    page.click("#open-settings")
    page.fill("#set-max_tokens", "9")
    page.fill("#set-temperature", "11")
    expect(page.locator("#settings .wrong").first).to_contain_text("from 0 to 10")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Again").click()
    settled(page)
    assert "cut off" in page.locator(".facts").inner_text()
    part = page.locator(".answer .body").inner_text()
    assert whole.replace("\n", "").startswith(part.replace("\n", "")[:20])
    page.click("#open-settings")
    page.fill("#set-max_tokens", "")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Continue").click()
    settled(page)
    expect(page.locator(".answer .branches")).to_contain_text("3/3")
    assert page.locator(".answer .body").inner_text() == whole


def test_the_same_question_under_another_prompt(server, visit):
    page = visit(server.url)
    ask(page, "What is the capital of Norway?")
    more(page.locator(".answer"), "zero-shot")
    settled(page)
    assert page.locator(".answer > header .soft").inner_text() == "zero-shot"
    more(page.locator(".answer"), "All branches side by side")
    assert page.locator(".answer > header .soft").all_inner_texts() == ["urial-demo", "zero-shot"]
    more(page.locator(".answer").first, "Ask demo-aligned, too")
    settled(page)
    assert page.locator(".answer").count() == 3


def test_the_exact_prompt_has_the_servers_tokens(server, visit):
    page = visit(server.url)
    ask(page, "Where can I find a 🦊 fox?")
    more(page.locator(".answer"), "The exact prompt")
    told = server.post("/api/render", {
        "model": "demo", "messages": [{"role": "user", "content": "Where can I find a 🦊 fox?"}],
    }).json()  # fmt: skip
    spans = page.locator(".exact-text .t")
    expect(spans).to_have_count(len(told["tokens"]))
    shown = "".join(page.locator(".exact-text .t:not(.special)").all_text_contents())
    assert shown.replace("⏎\n", "\n").strip() == told["text"].strip()
    assert page.locator(".exact-text .cached").count() <= len(told["tokens"])


def test_questions_are_edited_and_branch(server, visit):
    page = visit(server.url)
    ask(page, "Where can I find a fox?")
    ask(page, "How do I make soup?")
    first = page.locator(".turn").first
    first.get_by_role("button", name="Edit").click()
    page.fill("#edit", "What does an owl eat?")
    page.keyboard.press("Escape")
    assert page.locator(".turn").count() == 2
    first.get_by_role("button", name="Edit").click()
    page.fill("#edit", "What does an owl eat?")
    page.keyboard.press("Enter")
    expect(page.locator(".turn")).to_have_count(1)
    expect(page.locator(".answer.done")).to_have_count(1)
    expect(page.locator(".question .branches")).to_contain_text("2/2")
    page.get_by_role("button", name="Previous branch").click()
    expect(page.locator(".turn")).to_have_count(2)
    # Another answer to the first question has nothing behind it, since nothing was asked of it.
    page.locator(".turn").first.get_by_role("button", name="Again").click()
    settled(page)
    expect(page.locator(".turn")).to_have_count(1)
    page.locator(".answer").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".turn")).to_have_count(2)


def test_escape_stops_and_what_came_is_kept(server, visit, monkeypatch):
    """The model waits after some words, so that the answer cannot end before the key is pressed."""
    go_on, steps = threading.Event(), itertools.count()
    decoder = next(iter(server.state.worker.lanes.values())).engine.decoder
    decode = decoder.decode

    def waits(tokens):
        assert next(steps) < 6 or go_on.wait(60)
        return decode(tokens)

    monkeypatch.setattr(decoder, "decode", waits)
    page = visit(server.url)
    try:
        ask_and_escape(page)
    finally:
        go_on.set()
    expect(page.locator(".answer.stopped")).to_have_count(1)
    assert page.locator(".facts").inner_text().startswith("stopped by you")
    assert page.locator(".answer .body").inner_text().strip()
    assert page.input_value("#ask") == "typed meanwhile"
    server.until(lambda: server.metric("urial_requests_running") == 0)


def ask_and_escape(page):
    page.select_option("#prompt", "raw")
    page.click("#open-settings")
    page.fill("#set-max_tokens", "1900")
    page.fill("#set-temperature", "0")
    page.keyboard.press("Escape")
    page.fill("#ask", "Once")
    page.keyboard.press("Enter")
    expect(page.locator(".answer.writing .plain-text")).to_contain_text(re.compile(r"\S"))
    page.fill("#ask", "typed meanwhile")
    page.keyboard.press("Enter")  # not while an answer is written
    page.keyboard.press("Escape")


# --- what is kept ---------------------------------------------------------------------------------


def test_conversations_are_kept_renamed_exported_imported_and_deleted(server, visit, tmp_path):
    page = visit(server.url)
    ask(page, "Where can I find a fox?")
    answer = page.locator(".answer .body").inner_text()
    page.fill("#ask", "half a thought")
    page.reload()
    expect(page.locator("#list li")).to_have_count(1)
    assert page.input_value("#ask") == "half a thought"
    page.locator("#list .name").click()
    expect(page.locator(".answer .body")).to_have_text(re.compile(re.escape(answer[:20])))
    page.click("#view-tokens")
    assert page.locator(".tokens .t").count() > 5

    page.locator("#list summary").click()
    page.get_by_role("button", name="Rename").click()
    page.fill("#new-name", EVIL)
    page.keyboard.press("Enter")
    expect(page.locator("#title")).to_have_text(EVIL)

    with page.expect_download() as event:
        page.click("#export")
    event.value.save_as(tmp_path / "all.json")
    found = json.loads((tmp_path / "all.json").read_text("utf-8"))
    assert found["format"] == "urial-local-conversations"
    assert [talk["title"] for talk in found["conversations"]] == [EVIL]

    page.keyboard.press("Control+k")
    expect(page.locator(".empty")).to_be_visible()
    page.locator("#list summary").click()
    page.get_by_role("button", name="Delete").click()
    expect(page.locator("#list li")).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#list li")).to_have_count(1)
    page.set_input_files("#file", tmp_path / "all.json")
    expect(page.locator("#list li")).to_have_count(2)
    assert page.locator("img").count() == 0


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "[]",
        '{"format": "urial-local-conversations", "version": 2, "conversations": []}',
        {"conversations": [{}]},
        {"conversations": [{"id": "a", "nodes": [{"id": "__proto__", "parent": None}]}]},
        {"conversations": [{"id": "a", "nodes": [{"id": "q", "kind": "question", "parent": "q",
                                                  "text": "x"}]}]},
        {"conversations": [{"id": "a", "nodes": [{"id": "q", "kind": "answer", "parent": None,
                                                  "text": "x"}]}]},
        {"conversations": [{"id": "a", "nodes": [{"id": "q", "kind": "question", "parent": None,
                                                  "text": "x" * 400_001}]}]},
        {"conversations": [{"id": "a", "nodes": []}] * 201},
    ],
    ids=range(9),
)  # fmt: skip
def test_files_that_make_no_sense_are_refused(server, visit, tmp_path, wrong):
    if isinstance(wrong, dict):
        wrong = json.dumps({"format": "urial-local-conversations", "version": 1, **wrong})
    (tmp_path / "wrong.json").write_text(wrong)
    page = visit(server.url)
    page.set_input_files("#file", tmp_path / "wrong.json")
    expect(page.locator("#notice")).to_contain_text("Nothing was imported.")
    expect(page.locator("#list li")).to_have_count(0)


def test_a_browser_that_keeps_nothing_is_told_of(server, browser):
    context = browser.new_context()
    context.add_init_script(
        "Object.defineProperty(window, 'indexedDB', {value: undefined});"
        "for (const name of ['localStorage', 'sessionStorage'])"
        " Object.defineProperty(window, name, {get() { throw 1; }});"
    )
    page = context.new_page()
    page.goto(server.url)
    expect(page.locator("#store-said")).to_contain_text("This browser keeps nothing")
    ask(page, "Where can I find a fox?")
    page.keyboard.press("Control+k")
    page.locator("#list .name").click()
    expect(page.locator(".answer.done")).to_have_count(1)
    context.close()


def test_a_full_store_is_told_of(server, visit, browser):
    context = browser.new_context()
    context.add_init_script(
        "IDBObjectStore.prototype.put = () => { throw new DOMException('', 'QuotaExceededError'); }"
    )
    page = context.new_page()
    page.goto(server.url)
    ask(page, "Where can I find a fox?")
    expect(page.locator("#store-said")).to_contain_text("store is full")
    expect(page.locator(".answer.done")).to_have_count(1)
    context.close()


def test_what_is_deleted_while_it_is_answered_stays_deleted(server, visit):
    page = visit(server.url)
    page.select_option("#prompt", "raw")
    page.fill("#ask", "Once")
    page.keyboard.press("Enter")
    expect(page.locator("#list li")).to_have_count(1)
    page.locator("#list summary").click()
    page.get_by_role("button", name="Delete").click()
    expect(page.locator("#list li")).to_have_count(0)
    server.until(lambda: server.metric("urial_requests_running") == 0)
    page.reload()
    expect(page.locator(".empty")).to_be_visible()
    expect(page.locator("#list li")).to_have_count(0)


# --- what goes wrong ------------------------------------------------------------------------------


def test_a_lost_server_is_told_and_tried_again(server, visit):
    page = visit(server.url, allowed=["Failed to load resource", "net::ERR"])
    expect(page.locator(".empty")).to_be_visible()
    page.route("**/v1/**", lambda route: route.abort())
    page.route("**/api/**", lambda route: route.abort())
    page.fill("#ask", "Where can I find a fox?")
    page.keyboard.press("Enter")
    expect(page.locator(".answer.failed .failure")).to_contain_text("does not answer")
    expect(page.locator("#notice")).to_contain_text("nothing you typed is lost")
    page.unroute("**/v1/**")
    page.unroute("**/api/**")
    page.click("#retry")
    expect(page.locator("#notice")).to_be_hidden()
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".answer.done")).to_have_count(1)
    assert page.locator(".question .text").inner_text() == "Where can I find a fox?"


def test_a_conversation_that_is_too_long_may_leave_its_beginning_out(server, visit):
    page = visit(server.url, allowed=["Failed to load resource"])
    expect(page.locator(".empty")).to_be_visible()
    page.click("#open-settings")
    page.fill("#set-max_tokens", "5")
    page.keyboard.press("Escape")
    ask(page, "fox " * 1000)
    page.fill("#ask", "owl " * 1000)
    page.keyboard.press("Enter")
    failure = page.locator(".answer.failed .failure")
    expect(failure).to_contain_text("2,048")
    failure.get_by_role("button", name="Leave out the earliest turn, and ask again").click()
    expect(page.locator(".turn").nth(1)).to_contain_text("The first turn of")
    expect(page.locator(".answer.done")).to_have_count(2)


def test_a_key_is_asked_for_and_kept_in_the_tab_only(browser):
    with running([plan("demo")], key="sesame") as server:
        context = browser.new_context()
        page = context.new_page()
        page.goto(server.url)
        page.fill("#key", "wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#ask-key")).to_contain_text("refused this key")
        page.fill("#key", "sesame")
        page.get_by_role("button", name="Use it").click()
        ask(page, "Where can I find a fox?")
        assert "sesame" not in page.evaluate("JSON.stringify({...localStorage})")
        other = context.new_page()
        other.goto(server.url)
        expect(other.locator("#key")).to_be_visible()
        context.close()


def test_one_model_alone_is_offered_no_other(visit):
    with running([plan("demo")]) as server:
        page = visit(server.url)
        ask(page, "Where can I find a fox?")
        assert page.locator("#mode").count() == 0
        page.click("#view-tokens")
        page.select_option("#colour", "rank")
        assert "By rank in demo: unshifted" in page.locator(".shares").inner_text()
        page.locator(".tokens .t").nth(1).click()
        expect(page.locator("#likely section")).to_have_count(1)
        assert page.locator("#likely .alternative").count() == 10
        page.keyboard.press("Escape")
        page.locator(".answer summary").click()
        assert "run" not in page.locator(".answer .entries").inner_text()


def test_a_conversation_is_saved_as_a_run(server, visit):
    page = visit(server.url)
    ask(page, "Where can I find a fox?")
    ask(page, "How do I make soup?")
    more(page.locator(".answer").nth(1), "Save what demo said as a run")
    expect(page.locator("#notice")).to_contain_text("2 turns")
    name = re.search(r"the run (\S+):", page.locator("#notice").inner_text())[1]
    rows = (server.state.settings.runs / name / "rows.jsonl").read_text("utf-8").splitlines()
    queries = [turn["query"] for turn in json.loads(rows[0])["turns"]]
    assert queries == ["Where can I find a fox?", "How do I make soup?"]


# --- Markdown -------------------------------------------------------------------------------------

ALLOWED = {
    "DIV": {"class"}, "P": set(), "H3": set(), "H4": set(), "H5": set(), "H6": set(), "HR": set(),
    "UL": set(), "OL": {"start"}, "LI": set(), "BLOCKQUOTE": set(), "PRE": {"tabindex"},
    "CODE": set(), "EM": set(), "STRONG": set(), "DEL": set(), "BR": set(), "SPAN": set(),
    "BUTTON": {"type", "class"}, "A": {"href", "rel", "target", "title"},
}  # fmt: skip
CORPUS = [
    EVIL,
    "[x](javascript:alert(1)) [y](JAVASCRIPT:alert(1)) [z](data:text/html,<b>) [w]( http://a.b )",
    "[a](http://x.y/\"onmouseover=alert(1)) <http://x.y> http://x.y/<script>",
    "![alt](http://evil.test/x.png) [![i](http://a.b/i.png)](http://a.b)",
    "```html\n<script>alert(1)</script>\n````\n```\nafter",
    "~~~\n```\nnested\n```\n~~~\n> ```\n> quoted fence\n> ```",
    "`" * 50_000, "`a``b```" * 5_000, "*" * 50_000, "**a" * 20_000, "*a _b " * 20_000,
    "[" * 50_000, "[a](" * 20_000, "](" * 20_000, ">" * 50_000, "> " * 20_000 + "x",
    "".join(f"{'  ' * i}- item {i}\n" for i in range(300)),
    "# one\n## two ##\n####### seven\n1. a\n\n2. b\n   - c\n     d\n3) e\n***\n---\n+ f",
    "a\\*b\\*c snake_case_word 2*3*4 **bold *both* bold** ~~gone~~ ***all***",
    "\u202eevil\u202c \ud83d\ude00 \x00 \x1b[31m",
    "http" * 20_000, "https://a.b/" + "c" * 50_000, "| a | b |\n|---|---|\n| 1 | 2 |",
    "-" * 50_000, "- " * 20_000, "1. " * 20_000, "\\" * 50_000, " " * 50_000 + "x",
]  # fmt: skip
# Makes the elements and tells what they are: names with attributes, the text with links' targets.
TELL = """(texts) => texts.map((text) => {
  const from = performance.now();
  const made = markdown(text);
  const took = performance.now() - from;
  const all = [...made.querySelectorAll("*")];
  const told = all.map((e) => [e.nodeName, [...e.attributes].map((a) => a.name)]);
  const links = all.filter((e) => e.nodeName === "A").map((e) => [e.protocol, e.rel, e.href]);
  for (const e of all) {
    if (e.nodeName === "A") e.append(" " + e.getAttribute("href"));
    if (e.nodeName === "BUTTON") e.remove();
  }
  return {told: [...new Set(told.map((t) => JSON.stringify(t)))].map((t) => JSON.parse(t)),
          links, text: made.textContent, took};
})"""


@pytest.fixture(scope="module")
def tell(server, browser):
    context = browser.new_context()
    page = context.new_page()
    page.goto(server.url)
    yield lambda texts: page.evaluate(TELL, texts)
    context.close()


def letters(text):
    """Counts of letters, which are no part of any markup."""
    return sorted(c for c in text if unicodedata.category(c)[0] == "L")


def check(text, made):
    for name, attributes in made["told"]:
        assert set(attributes) <= ALLOWED[name], (name, attributes)
    for protocol, rel, href in made["links"]:
        assert protocol in ("http:", "https:"), href
        assert "noopener" in rel
    kept = letters(made["text"])
    # A bare link stands twice here: as its own text and as its target.
    assert not missing(letters(text), kept), text[:200]


def missing(wanted, found):
    """Letters that are there less often than they were written."""
    return Counter(wanted) - Counter(found)


def test_markdown_makes_only_what_is_allowed_and_keeps_the_text(tell):
    for text, made in zip(CORPUS, tell(CORPUS), strict=True):
        check(text, made)
        assert made["took"] < 3000, text[:40]


def test_markdown_as_it_is_meant(tell, server, browser):
    context = browser.new_context()
    page = context.new_page()
    page.goto(server.url)
    text = (
        "# Soup\n\nChop **two** *fine* `onions` and __see__ [a page](https://example.org/a_b_c).\n"
        "- one\n- two\n  1. inner\n\n```python\nprint('<b>')\n```\n> said\n\n3. three\n4. four"
    )
    page.evaluate("(text) => { document.body.replaceChildren(markdown(text)); }", text)
    made = page.locator(".markdown")
    assert made.locator("h3").inner_text() == "Soup"
    assert made.locator("strong").all_inner_texts() == ["two", "see"]
    assert made.locator("em").inner_text() == "fine"
    assert made.locator("p code").inner_text() == "onions"
    assert made.locator("a").get_attribute("href") == "https://example.org/a_b_c"
    assert made.locator("ul > li").count() == 2
    assert made.locator("ul ol li").inner_text() == "inner"
    assert made.locator("pre code").inner_text() == "print('<b>')"
    assert made.locator(".code-head span").inner_text() == "python"
    assert made.locator("blockquote").inner_text() == "said"
    assert made.locator("ol[start='3'] li").count() == 2
    context.close()


PIECES = st.sampled_from(
    ["*", "**", "_", "__", "~~", "`", "```", "~~~", "\n", "\n\n", "    ", "  ", "- ", "1. ", "> ",
     "# ", "[", "](", ")", "http://a.b", "https://c.d/e_f", "javascript:x", "<script>",
     "<img onerror=x>", "\\", "!", "word", "é", "漢", "\t", "\r\n", "|", "&lt;", "\u2028", "'", '"']
)  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.lists(PIECES | st.text(max_size=4), max_size=60).map("".join), max_size=40))
def test_markdown_of_anything(tell, texts):
    texts = [text.encode("utf-8", "replace").decode() for text in texts]
    for text, made in zip(texts, tell(texts), strict=True):
        check(text, made)


def test_markdown_takes_time_in_proportion_to_the_text(tell):
    for piece in ("*a _b ", "`a``b```", "[a](b ", "- x\n  > y\n", "> - z\n", "**x", "http://a "):
        short, long = (min(m["took"] for m in tell([piece * n] * 3)) for n in (1_000, 8_000))
        assert long < 40 * (short + 10), piece
