"""Frames, prompts, the importer and lint. No model in any of it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from urial_local.base.errors import PromptError, UnsafeText
from urial_local.base.fences import LINE_BREAKS, closes_early
from urial_local.prompting.frames import frame_names, load_frame, parse_frame
from urial_local.prompting.history import history_json, turns_of
from urial_local.prompting.importer import import_text
from urial_local.prompting.library import (
    load_prompt,
    parse_prompt,
    prompt_files,
    prompt_toml,
)
from urial_local.prompting.lint import lint
from urial_local.prompting.markers import marker_lines
from urial_local.prompting.prompts import Prompt, Turn
from urial_local.prompting.toml import parse_toml, toml_string

# The reference's own assembly of its files (FACTS §1.2): sha256, first 16 hex digits.
QUERY = "What are the names of some famous actors that started their careers on Broadway?"
GOLDEN = {
    "inst_1k_v4": ("fenced", 3, "65602fd868fcaa16", "c97e67ed2e13689f"),
    "inst_1k_v4.help": ("fenced", 3, "d48cf59a045911f7", "ddc198bc8f4a17a4"),
    "inst_1k": ("fenced", 3, "10e37afefab89e4d", "e947aa1d0f7b71b8"),
    "inst_1shot": ("fenced", 1, "d92815d731b8d86c", "1b38256a35efc6ab"),
    "inst_only": ("fenced", 0, "0ac1541ac19692b2", "ed293c1295ff93d7"),
    "basic_icl": ("fenced", 3, "60e37bc82fe56d11", "64076ffd1da5ef38"),
    "inst_help_v5-1k": ("user-assistant", 3, "1b2e1a8e42f22c0c", "9672a9b18641b0ac"),
    "inst_help_v6-1k": ("user-assistant-tight", 3, "bcab6137af5d1563", "db65fb58ee5bb908"),
}


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize("policy", ["escape", "raw"])
def test_imported_files_render_as_the_reference_assembles_them(name, policy, shared_file, tmp_path):
    frame, examples, single, three = GOLDEN[name]
    path = shared_file(f"data/urial_prompts/{name}.txt")
    for given_name in (path, tmp_path / "renamed.txt"):  # nothing is guessed from the name
        given_name = Path(given_name)
        if not given_name.exists():
            given_name.write_bytes(path.read_bytes())
        prompt = load_prompt(str(given_name))
        again = parse_prompt(prompt_toml(prompt), Path("again.toml"))
        for p in (prompt, again):
            assert (p.frame.name, len(p.examples)) == (frame, examples)
            assert sha(p.render(QUERY, policy=policy).text) == single
            history = [Turn("Hello!", "Hi!")]
            assert sha(p.render("How are you?", history, policy).text) == three
            assert all(e.query.strip() and e.answer.strip() for e in p.examples)


def test_the_papers_inline_form(shared_file):
    path = str(shared_file("data/urial_prompts/inst_1k.txt"))
    assert sha(load_prompt(path, "fenced-inline").render(QUERY).text) == "dca295ff1ce4498b"
    zero_shot = load_prompt("zero-shot-paper").render(QUERY).text
    assert (len(zero_shot), sha(zero_shot)) == (118, "6f83056062307812")


def test_rendering_is_prefix_history_request():
    prompt = load_prompt("urial")
    rendered = prompt.render("Why?", [Turn("Q1", "A1")])
    assert rendered.text[: rendered.prefix_end] == prompt.prefix()
    assert rendered.text[rendered.prefix_end :] == (
        "\n# Query:\n```\nQ1\n```\n\n# Answer:\n```\nA1\n```\n"
        "\n# Query:\n```\nWhy?\n```\n\n# Answer:\n```\n"
    )
    assert (rendered.fence, rendered.marker) == ("```", "# Query:")
    zero = load_prompt("zero-shot").render("Why?")
    assert zero.text == "# Query:\n```\nWhy?\n```\n\n# Answer:\n```\n"
    assert load_prompt("raw").render("Why?").text == "Why?"


def test_shots_take_the_first_examples():
    prompt = load_prompt("urial")
    assert prompt.prefix().startswith(prompt.shots(1).prefix())
    assert prompt.shots(0).prefix() == prompt.system
    with pytest.raises(PromptError, match="3 examples, not 4"):
        prompt.shots(4)


@pytest.mark.parametrize("name", sorted(prompt_files()))
def test_shipped_prompts_are_clean(name):
    assert lint(name) == []
    prompt = load_prompt(name)
    assert prompt.name == name
    assert prompt.description
    assert parse_prompt(prompt_toml(prompt), Path("x.toml")).prefix() == prompt.prefix()


def test_every_prompt_that_is_promised_is_there():
    shots = {n: len(load_prompt(n).examples) for n in prompt_files()}
    promised = {
        "urial": 3,
        "urial-help": 3,
        "urial-1": 1,
        "urial-8": 8,
        "urial-mini": 3,
        "system-only": 0,
        "vanilla": 3,
        "zero-shot": 0,
    }
    assert promised.items() <= shots.items()
    assert not load_prompt("vanilla").system
    assert "```python" in load_prompt("urial-help").prefix()
    assert {"fenced", "fenced-inline", "user-assistant", "zero-shot", "raw", "chat"} <= set(
        frame_names()
    )


# --- user text stays inside the frame ------------------------------------------------------------

FRAMES = ["fenced", "fenced-inline", "user-assistant", "user-assistant-tight", "zero-shot"]
TEXT = st.lists(
    st.one_of(
        st.sampled_from(
            [
                "# Query:",
                "# Answer:",
                "# User:",
                "# Assistant:",
                "```",
                "````",
                "`",
                "\n",
                "\\",
                "\r",
                "\u2028",
                "\x85",
                "\v",
                " ",
                "```\n\n# Query:\n```\n",
                "~~~",
            ]
        ),
        st.text(max_size=5),
    ),
    max_size=10,
).map("".join)


def lines(text: str) -> list[str]:
    for end in LINE_BREAKS[1:]:
        text = text.replace(end, "\n")
    return text.split("\n")


@pytest.mark.slow
@pytest.mark.parametrize("name", FRAMES)
@given(query=TEXT, past_query=TEXT, past_answer=TEXT)
@settings(max_examples=300, deadline=None)
def test_no_text_breaks_out_of_the_frame(name, query, past_query, past_answer):
    frame = load_frame(name)
    prompt = Prompt("p", frame, system="System.\n", examples=(Turn("q", "a"),))
    rendered = prompt.render(query, [Turn(past_query, past_answer)], "escape")
    for marker, expected in ((frame.query_marker, 3), (frame.answer_marker, 3)):
        found = sum(line.lstrip().startswith(marker) for line in lines(rendered.text))
        assert found == expected
    if frame.fence:
        request = frame.request(query, "escape")
        body = request[request.index(frame.query_marker) : request.rindex(frame.answer_marker)]
        runs = [line.strip() for line in body.split("\n") if set(line.strip()) == {"`"}]
        if not frame.query_inline and "```" in query:
            assert len(runs[0]) > max(len(r) for r in runs[1:-1]) if len(runs) > 2 else True
            assert runs[0] == runs[-1]
        turn = frame.turn("q", past_answer, "escape")
        answer = turn[turn.index("\n" + frame.answer_marker) :].rstrip("\n")
        fence = answer.rsplit("\n", 1)[-1]
        assert set(fence) == {"`"}
        inside = answer[answer.index(fence) + len(fence) : -len(fence)]
        assert len(fence) > 3 or not closes_early(inside, fence)


def test_marker_policies():
    prompt = load_prompt("zero-shot")
    text = "Hi\n# Query:\nevil"
    assert "\n\\# Query:\nevil" in prompt.render(text).text
    assert text in prompt.render(text, policy="raw").text
    with pytest.raises(UnsafeText, match="# Query:"):
        prompt.render(text, policy="refuse")
    assert marker_lines("a # Query: b", ("# Query:",)) == 0


def test_a_fence_in_the_query_is_outgrown():
    text = load_prompt("zero-shot").render("Fix:\n```py\nx\n```").text
    assert text == "# Query:\n````\nFix:\n```py\nx\n```\n````\n\n# Answer:\n```\n"
    inline = load_prompt("zero-shot", "fenced-inline")
    assert inline.render("plain").text.startswith("# Query:\n```plain```\n")
    assert inline.render("`x`").text.startswith("# Query:\n```\n`x`\n```\n")
    assert inline.render("```x").text.startswith("# Query:\n````\n```x\n````\n")


# --- import and lint -----------------------------------------------------------------------------

GOOD = "Sys\n\n# Query:\n```\nq1\n```\n\n# Answer:\n```\na1\n```\n"


def messages(tmp_path: Path, text: str, suffix: str = ".txt") -> list[str]:
    path = tmp_path / f"p{suffix}"
    path.write_text(text)
    return [f"{f.level} {f.where}: {f.message}" for f in lint(str(path))]


def test_lint_of_broken_files(tmp_path):
    assert messages(tmp_path, GOOD) == []
    assert "no answer after it" in messages(tmp_path, GOOD + "\n# Query:\n```\nq2\n```\n")[0]
    doubled = GOOD + "\n# Answer:\n```\na2\n```\n"
    assert "line 13" in messages(tmp_path, doubled)[0]
    assert "no query before it" in messages(tmp_path, doubled)[0]
    assert "final newline" in messages(tmp_path, GOOD.rstrip("\n"))[0]
    twice = GOOD + GOOD.removeprefix("Sys\n")
    assert "same as example 1" in messages(tmp_path, twice)[0]
    unbalanced = GOOD.replace("a1", "```py\na1")
    assert any("unbalanced" in m for m in messages(tmp_path, unbalanced))
    toml = 'frame = "fenced"\n[[examples]]\nquery = "q"\nanswer = ""\n'
    assert messages(tmp_path, toml, ".toml") == ["error example 1: its answer is empty"]


def test_lint_counts_tokens():
    assert lint("urial", count_tokens=len, context=10_000) == []
    findings = lint("urial", count_tokens=len, context=2048)
    assert [f.where for f in findings] == ["length"]


def test_a_malformed_file_is_not_imported():
    with pytest.raises(PromptError, match="an answer without a query"):
        import_text("# Query:\n```\nq\n```\n# Answer:\n```\na\n```\n# Answer:\n```\nb\n```\n", "x")
    with pytest.raises(PromptError, match="has no answer"):
        import_text("# Query:\n```\nq\n```\n", "x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = ", "malformed"),
        ("nonsense = 1", "not a known"),
        ("system = 3", "system must be a text"),
        ('[sampling]\ntemperature = "hot"', "sampling"),
        ("[sampling]\nlr = 1", "sampling"),
        ("[sampling]\ntop_k = 1.5", "whole number"),
        ("[sampling]\ntemperature = nan", "number"),
        ("[sampling]\nmax_tokens = 0", "above 0"),
        ('examples = ["a"]', "example"),
        ("[[examples]]\nquery = 1", "texts"),
        ('[[examples]]\nquery = "q"\nlayout = ["a"]', "three texts"),
        ('frame = "nope"', "no frame"),
    ],
)
def test_malformed_prompts_are_named(tmp_path, text, message):
    with pytest.raises(PromptError, match=message):
        parse_prompt(text, tmp_path / "p.toml")


def test_unknown_names_come_with_near_ones():
    with pytest.raises(PromptError, match="urial") as error:
        load_prompt("urail")
    assert "Did you mean" in error.value.hint
    with pytest.raises(PromptError, match="no prompt file"):
        load_prompt("/nowhere/p.toml")


@pytest.mark.parametrize(
    "source", ["no header", "{# x = #}", "{# colour = 'red' #}", "{# fence = 1 #}"]
)
def test_malformed_frames(source):
    with pytest.raises(PromptError):
        parse_frame("f", source)


def test_a_frame_of_ones_own(tmp_path):
    (tmp_path / "mine.jinja").write_text(
        '{#- query_marker = "Q:"\nanswer_marker = "A:" -#}'
        "{% block turn %}Q: {{ query }}\nA: {{ answer }}\n{% endblock %}"
        "{% block request %}Q: {{ query }}\nA:{% endblock %}"
    )
    (tmp_path / "p.toml").write_text(
        'frame = "mine.jinja"\nsystem = "S\\n"\n[[examples]]\nquery = "1+1"\nanswer = "2"\n'
    )
    rendered = load_prompt(str(tmp_path / "p.toml")).render("2+2")
    assert rendered.text == "S\nQ: 1+1\nA: 2\nQ: 2+2\nA:"
    assert rendered.marker == "Q:"


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=60))
@settings(max_examples=400, deadline=None)
def test_toml_strings_read_back(text):
    assert parse_toml(f"x = {toml_string(text)}")["x"] == text


@pytest.mark.slow
@given(
    st.lists(st.sampled_from(['"', '""', '"""', "\\", "\n", "\r\n", "\t", "a", "\x00"])).map(
        "".join
    )
)
@settings(max_examples=400, deadline=None)
def test_toml_strings_of_quotes_read_back(text):
    assert parse_toml(f"x = {toml_string(text)}")["x"] == text


def test_histories_in_all_forms(tmp_path):
    turns = [Turn("q", "a"), Turn("r", "b")]
    import json

    forms = [
        ["q", "a", "r", "b"],
        [{"role": r, "content": c} for r, c in zip(["user", "assistant"] * 2, "qarb", strict=True)],
        {"messages": ["q", "a", "r", "b"]},
        json.loads(history_json(turns, model="m")),
    ]
    for form in forms:
        assert turns_of(form, "x") == turns
    for wrong in ({}, [1], ["q"], [{"role": "assistant", "content": "a"}], "text", [None, "a"]):
        with pytest.raises(PromptError):
            turns_of(wrong, "x")


def test_an_import_may_change_the_frame():
    prompt = import_text(GOOD, "x", "user-assistant-tight")
    assert prompt.prefix() == "Sys\n\n\n# User:\nq1\n\n\n# Assistant:\na1\n"
    assert import_text(GOOD, "x", "chat").examples == (Turn("q1", "a1"),)


def test_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "p.txt").write_bytes(b"\xef\xbb\xbf" + GOOD.removeprefix("Sys\n\n").encode())
    assert len(load_prompt(str(tmp_path / "p.txt")).examples) == 1


def test_an_own_frame_survives_import_and_export(tmp_path, monkeypatch):
    (tmp_path / "mine.jinja").write_text(
        '{#- query_marker = "# Query:"\nanswer_marker = "# Answer:" -#}'
        "{% block turn %}# Query: {{ query }} # Answer: {{ answer }}{% endblock %}"
        "{% block request %}# Query: {{ query }}{% endblock %}"
    )
    monkeypatch.chdir(tmp_path)
    prompt = import_text(GOOD, "x", "./mine.jinja")
    again = parse_prompt(prompt_toml(prompt), tmp_path / "elsewhere" / "x.toml")
    assert again.render("Q").text == prompt.render("Q").text


def test_lint_without_a_fence_in_the_frame(tmp_path):
    text = "Sys\n\n\n# User:\nq\n\n\n# Assistant:\n```py\nx\n"
    assert any("unbalanced" in m for m in messages(tmp_path, text))
    bare = "Sys\n\n# Query:\n```\nq\n```\n\n# Answer:\nno fences\n"
    assert any("its answer has no fences around" in m for m in messages(tmp_path, bare))


def test_the_chat_frame_leaves_examples_to_the_model():
    prompt = load_prompt("urial", "chat")
    assert prompt.prefix() == prompt.system
    assert prompt.fingerprint() != prompt.shots(1).fingerprint()
    assert lint("chat") == []
