"""Whatever a model, a file or an endpoint writes: four times the text, four times the time.

TABLE lists the functions over such text, SHAPES what regular expressions and loops stumble over. A
new function over text belongs into the table.
"""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from urial_local.base.errors import UrialError, near
from urial_local.base.fences import FenceStart, FenceTracker, closes_early, longer_fence
from urial_local.base.placeholders import Names, restore
from urial_local.base.terminal import printable
from urial_local.cli.plumbing.cells import wrapped
from urial_local.cli.plumbing.repl import unquote
from urial_local.prompting.frames import load_frame, parse_frame
from urial_local.prompting.history import turns_of
from urial_local.prompting.importer import import_text
from urial_local.prompting.judging import Case, judge_template
from urial_local.prompting.library import parse_prompt, prompt_toml
from urial_local.prompting.lint import lint
from urial_local.prompting.markers import contain, marker_lines
from urial_local.prompting.prompts import Prompt, Turn
from urial_local.prompting.toml import toml_string
from urial_local.records.datasets import as_item
from urial_local.records.sources import RawRow
from urial_local.report.leaderboard_page import _escaped
from urial_local.report.page import embed, packed
from urial_local.runtime.alphabet import unfinished
from urial_local.runtime.stops import StopPolicy, StopScanner
from urial_local.runtime.text_stream import TextStream
from urial_local.tasks.benchmark.code import LANGUAGES
from urial_local.tasks.benchmark.numbers import last_number
from urial_local.tasks.benchmark.reading import rule_of
from urial_local.tasks.benchmark.rules import verdict
from urial_local.tasks.evaluate import endpoint, usage
from urial_local.tasks.evaluate.modes import MODES
from urial_local.tasks.generate.flags import flags_of
from urial_local.tasks.languages import language_of
from urial_local.tasks.phrases import folded, holds
from urial_local.tasks.prose import code_blocks, paragraphs, sentences
from urial_local.tasks.refusals import refuses
from urial_local.tasks.retrieve import first_words, terms_of
from urial_local.tasks.shift.style import is_stylistic

SMALLEST, LARGEST = 500, 32_000  # characters; four times the largest are tried, too
WORTH_TIMING = 0.002  # seconds of this thread: below it nothing is compared
MARGIN = 10  # linear is 4, quadratic 16
REPEATED = (
    *("\n", " ", "\t", "\r\n", " \n", "\n ", "\u2028", "a", "a ", "a\n", "1", "-", "a\u0301"),
    *("`", "` `", "``` ", "```\n", "```x\n", "~~~\n```\n", "a```\n", "    ```\n"),
    *('"', "'", '\\"', '"""', '\\"""', '"""\\', '"a" ', "' '"),
    *("[", "{", "[]", "[{", '{"a":', "[[a]]\n", "a=1\n", "a.", "a={", ",", ", ", ",}"),
    *("#", "#\n", "**", "<", "<|", "<|end|>", "<|end", "[INST]", "Q1:", "Answer: \n", "ab", "aab"),
    *("# Query:", "# Query:\n", "# Query:\na\n# Answer:\nb\n\n", "# Query:\n```\n"),
    *("a.", "a. ", ".'", "\u0301\u0316", "ǖ", "。", "1,234", "1. a\n", "<a>", "</a>", "x ",
        "  x\n"),
    *("\U000f0000", "\U000f00001", "\U000f00000\U000f0001", "\u200d", "\0"),
)  # fmt: skip
ENCLOSED = (
    *(("```", " ", "`"), ("~~~", "\t", "`"), ("a", " ", ""), ("a", "\n", ""), ("a", " ", "a")),
    *(("{", '\\"', "}"), ('{"a": "', '\\"', "}"), ("{", '" ', "}"), ("{", ", ", "}")),
    *(('x = """', '\\"""', ""), ("x = '''", "'", ""), ("x = '", "[", "'"), ("", "a.", "a=1")),
    *(("x = ", "[", "]"), ("x = ", "1", ""), ("x = 0x", "f", ""), ('x = """', "\\\n", '"""')),
    *(("x = [", "1,\n", "]"), ("x={", "a.b=1,", "}"), ("{#", "-", ""), ("{#- ", "#", " -#}")),
    *(("# Query:\n", " ", "# Answer:"), ("a\n```\n", " ", ""), ("```py\n# Query:\n", "\n", "```")),
)  # fmt: skip
SHAPES = [("", text, "") for text in REPEATED] + list(ENCLOSED)

FENCED = load_frame("fenced")
STOPS = ("a" * 40 + "b", "\n" * 30 + "x", "aab", "ababc")
FRAME, POLICY = StopPolicy("```", "# Query:"), StopPolicy("```", "# Query:", STOPS)
FORMS = [
    {"bullets": 3, "numbered": 3, "sentences": 3, "paragraphs": 3, "words": [1, 3], "without": "a"},
    *(
        {"json": ["a"]},
        {"begins": "a a|aab"},
        {"ends": "a a|aab"},
        {"case": "upper"},
        {"unknown": True},
    ),
    {
        "any": ["aab", "a a", "1,234"],
        "never": ["aa", "1"],
        "number": 7,
        "steps": 9999,
        "no_loop": True,
    },
    *({"code": language, "defines": "f"} for language in LANGUAGES),
]
RULES = [rule_of(table) for table in FORMS]
NAMES = Names(["<|end|>", "<|", "<", "[INST]", "\0", *(f"<unused{n}>" for n in range(2000))])


def in_pieces(text: str, size: int, policy: StopPolicy = POLICY) -> None:
    scanner = StopScanner(policy)
    for start in range(0, len(text), size):
        scanner.feed(text[start : start + size])
        if scanner.reason:
            break
    scanner.close()


def as_tokens(text: str) -> None:
    data = text.encode()
    stream = TextStream(lambda n: data[3 * n : 3 * n + 3], FRAME)
    for token in range(len(data) // 3 + 1):
        stream.feed(token)
        if stream.scanner.reason:
            break
    stream.close()
    assert stream.text in stream.raw


def hidden_and_restored(text: str) -> None:
    literals: dict[str, str] = {}
    hidden = NAMES.hide(text, literals)
    restore(hidden, literals)


def split_examples(text: str) -> None:
    turn = "# Query:\n```\n{}\n```\n\n# Answer:\n```\n{}\n```\n\n"
    import_text(turn.format("q", "a") * (len(text) // 400) + turn.format("q", text), "x")


def many_examples(text: str) -> None:
    """As an import keeps them, with spacing of their own."""
    Prompt("x", FENCED, system=text, examples=(Turn("q", "a", ("", "", "")),) * len(text)).prefix()


def many_turns(text: str) -> None:
    """Each line is an example and a turn, and there is as much of system text."""
    turns = tuple(Turn(line, line) for line in text[:1000].split("\n"))
    prompt = Prompt("x", FENCED, system=text, examples=turns)
    prompt.render("why?", turns)


def judged_case(text: str) -> None:
    judge_template("general").case(Case(text, text, history=[Turn(text, text)]))


def judge_reply(text: str) -> None:
    endpoint.read_record(text, MODES["safety"])


def linted(text: str) -> None:
    path = Path("linted.toml")
    example = f"[[examples]]\nquery = {toml_string(text)}\nanswer = {toml_string(text)}\n"
    path.write_text(f"frame = 'fenced'\nsystem = {toml_string(text)}\n{example}", "utf-8")
    lint(str(path))


def linted_text(text: str) -> None:
    path = Path("linted.txt")
    path.write_text(text, "utf-8")
    lint(str(path))


def judged_by_rules(text: str) -> None:
    for rule in RULES:
        verdict(rule, text)


TABLE: dict[str, Callable[[str], object]] = {
    "a line as a fence": lambda text: FenceTracker("```").line(text.replace("\n", " ")),
    "a line that may become a fence": lambda text: FenceStart().take(text),
    "closes_early": lambda text: closes_early(text, "```"),
    "longer_fence": lambda text: longer_fence(text, "```"),
    "where an answer ends, at once": lambda text: in_pieces(text, len(text)),
    "where an answer ends, by characters": lambda text: in_pieces(text, 1),
    "where an answer ends, by tokens": lambda text: in_pieces(text, 31, FRAME),
    "where a stop string stands": lambda text: in_pieces(text, 5, StopPolicy(strings=STOPS)),
    "bytes that become text": as_tokens,
    "flags of an answer": lambda text: flags_of(text, "length"),
    "marker_lines": lambda text: marker_lines(text, FENCED.markers),
    "contain": lambda text: contain(text, FENCED.markers, "escape"),
    "a turn in a frame": lambda text: FENCED.turn(text, text, "escape"),
    "a question in a frame": lambda text: load_frame("fenced-inline").request(text, "escape"),
    "many examples of a prompt": many_examples,
    "many turns in a prompt": many_turns,
    "import of a text": lambda text: import_text(text, "x"),
    "import of many examples": split_examples,
    "a prompt's file": lambda text: parse_prompt(text, Path("x.toml")),
    "a prompt's own text": lambda text: parse_prompt(f"system = {toml_string(text)}", Path("x")),
    "a prompt as TOML": lambda text: prompt_toml(Prompt("x", FENCED, system=text)),
    "a frame's file": lambda text: parse_frame("x", text),
    "lint of a prompt": linted,
    "lint of a text": linted_text,
    "a conversation": lambda text: turns_of([text, text], "x"),
    "control tokens in a text": hidden_and_restored,
    "a case for a judge": judged_case,
    "a judge's reply": judge_reply,
    "tokens, estimated": usage.estimate_tokens,
    "terms of a question": terms_of,
    "first words of an answer": lambda text: first_words(text, 300),
    "a row of a dataset": lambda text: as_item(0, RawRow(1, {"query": text, "answer": text})),
    "for a terminal": printable,
    "in a column": lambda text: wrapped(text, 40),
    "a question in quotes": lambda text: unquote(f'"""{text}"""'),
    "a misspelt name": lambda text: near(text, [text[1:], "urial", *(["x"] * 50)]),
    "a name in Markdown": _escaped,
    "for a page": lambda text: embed([text]),
    "for a page, packed": lambda text: packed([text]),
    "a character's first bytes": lambda text: unfinished(text.encode()[:-1]),
    "a token's style": is_stylistic,
    "a text as it is compared": folded,
    "a phrase in a text": lambda text: holds(text, "aab|a a b|1"),
    "a phrase with other ends": lambda text: holds("a" + text, "a"),
    "sentences": sentences,
    "paragraphs": paragraphs,
    "blocks of code": code_blocks,
    "the last number": last_number,
    "whether an answer declines": refuses,
    "the language of a text": language_of,
    "a verdict by rules": judged_by_rules,
}  # fmt: skip


def seconds(function: Callable[[str], object], text: str) -> float:
    """CPU time of this thread, whatever else the machine does."""
    start = time.thread_time()
    with contextlib.suppress(UrialError, ValueError):
        function(text)
    return time.thread_time() - start


def filled(shape: tuple[str, str, str], size: int) -> str:
    before, middle, after = shape
    return before + middle * (size // len(middle)) + after


def growth(function: Callable[[str], object], shape: tuple[str, str, str]) -> float:
    """How many times as long four times the text takes; 0 where the time is not worth comparing.

    Sizes grow until it is, so that even a function of the third power is soon told.
    """
    size = SMALLEST
    while seconds(function, filled(shape, size)) < WORTH_TIMING:
        size *= 4
        if size > LARGEST:
            return 0.0
    before = seconds(function, filled(shape, size))
    return seconds(function, filled(shape, 4 * size)) / before


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLE)
def test_time_grows_with_the_text(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(endpoint, "LONGEST_REPLY", 10 * LARGEST)
    gc.collect()
    gc.disable()
    try:
        slow = [shape for shape in SHAPES if growth(TABLE[name], shape) > MARGIN]
        # A neighbour may have had the caches; what is quadratic is so each time.
        for _ in range(3):
            slow = [shape for shape in slow if growth(TABLE[name], shape) > MARGIN]
    finally:
        gc.enable()
    assert not slow


def test_the_measure_tells_a_square_from_a_line():
    square = growth(lambda text: [text.count("a", i) for i in range(len(text))], ("", "a", ""))
    line = growth(lambda text: [c for _ in range(10) for c in text], ("", "a", ""))
    assert line < MARGIN < square
