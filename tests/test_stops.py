"""Where answers end, and that nothing of the ending is ever shown."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from urial_local.runtime.stops import StopPolicy, StopScanner

FENCED = StopPolicy("```", "# Query:")
USER = StopPolicy("", "# User:")


def scan(policy: StopPolicy, pieces: list[str]) -> tuple[str, str]:
    """The text shown piece by piece, and the reason."""
    scanner = StopScanner(policy)
    shown = ""
    for piece in pieces:
        shown += scanner.feed(piece)
        if scanner.reason:
            break
    return shown + scanner.close(), scanner.reason


CASES = [
    ("the closing fence", "Hi!\n```\n\n# Query:\n```\nmore", "Hi!", "frame"),
    ("a fence at the very end", "Hi!\n```", "Hi!", ""),
    ("the next turn without a fence", "Hi!\n\n# Query:\n```\nmore", "Hi!", "frame"),
    ("a fence on the line of the text", "Hi!```\n\n# Query:\nx", "Hi!", "frame"),
    ("the same at the very end", "Hi!```", "Hi!", ""),
    (
        "an inner block",
        "A\n```python\nx = 1\n```\nB\n```\n",
        "A\n```python\nx = 1\n```\nB",
        "frame",
    ),
    (
        "a comment that looks like a marker, inside code",
        "```python\n# Query: the db\nq()\n```\n```\n",
        "```python\n# Query: the db\nq()\n```",
        "frame",
    ),
    ("a new turn inside a block left open", "```py\nx\n\n# Query:\n```\nz", "```py\nx", "frame"),
    ("a bare block first", "```\ncode\n```\nend\n```\n", "```\ncode\n```\nend", "frame"),
    ("a longer inner fence", "a\n````\n```\n````\n```\nz", "a\n````\n```\n````", "frame"),
    ("tildes", "a\n~~~\n```\n~~~\n```\nz", "a\n~~~\n```\n~~~", "frame"),
    ("inline code", "Use `x` and ```y``` here.\n```\n", "Use `x` and ```y``` here.", "frame"),
    (
        "a marker in the middle of a line",
        "See # Query: there\n```\n",
        "See # Query: there",
        "frame",
    ),
    ("blank space around", "\n\n  Hi! \n\n```\n", "Hi!", "frame"),
    ("windows line ends", "Hi!\r\n```\r\nx", "Hi!", "frame"),
    ("an indented fence", "Hi!\n  ```\nx", "Hi!", "frame"),
    ("a heading", "# Title\ntext\n```\n", "# Title\ntext", "frame"),
    ("no ending", "Just text", "Just text", ""),
    ("an answer that is cut in a marker", "Hi!\n\n# Que", "Hi!", ""),
    ("nothing", "", "", ""),
    ("only a fence", "```", "", ""),
    ("a fence and the next turn", "```\n\n# Query:\n```\nmore", "", "frame"),
    ("two fences and blanks", "\n``` \n\n```\n", "", ""),
    ("a block without code is not empty", "```python\n```\n```\n", "```python\n```", "frame"),
]


@pytest.mark.parametrize(
    ("text", "shown", "reason"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_cases(text, shown, reason):
    assert scan(FENCED, [text]) == (shown, reason)
    assert scan(FENCED, list(text)) == (shown, reason)


def test_frames_without_fences():
    assert scan(USER, list("Hi!\n\n\n# User:\nmore")) == ("Hi!", "frame")
    assert scan(USER, list("```\n# x\n```\n\n# User:")) == ("```\n# x\n```", "frame")


def test_stop_strings_match_anywhere():
    policy = StopPolicy(strings=("END", "\n\n"))
    assert scan(policy, list("a b EN c END d")) == ("a b EN c ", "stop")
    assert scan(policy, ["a b\n", "\nc"]) == ("a b", "stop")
    assert scan(policy, ["  a E"]) == ("  a E", "")


def test_without_a_frame_the_text_is_left_alone():
    text = "\n  ```\n# Query:\n x \n\n"
    assert scan(StopPolicy(), list(text)) == (text, "")


def test_the_earliest_ending_wins():
    assert scan(StopPolicy("```", "# Query:", ("stop",)), ["a\n```\nstop"]) == ("a", "frame")
    assert scan(StopPolicy("```", "# Query:", ("stop",)), ["a stop\n```\n"]) == ("a", "stop")


FRAGMENTS = st.lists(
    st.sampled_from(
        [
            "```",
            "`",
            "``",
            "~~~",
            "\n",
            "\n\n",
            " ",
            "# Query:",
            "# Qu",
            "#",
            "python",
            "text",
            "é😀",
            "```\n",
            "\n```\n",
            "```py\n",
            "    ",
            "\r\n",
            "\t",
        ]
    ),
    max_size=14,
)


POLICIES = [
    FENCED,
    USER,
    StopPolicy(strings=("xt`", "\n\n\n")),
    StopPolicy("```", "# Query:", ("xt p", "text\n\n", "é")),
]


@pytest.mark.slow
@given(FRAGMENTS, st.data(), st.sampled_from(POLICIES))
@settings(max_examples=1500, deadline=None)
def test_the_cut_into_pieces_does_not_matter(fragments, data, policy):
    text = "".join(fragments)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    whole = scan(policy, [text])
    assert scan(policy, pieces) == whole
    assert scan(policy, list(text)) == whole


@given(FRAGMENTS)
@settings(max_examples=500, deadline=None)
def test_what_is_shown_is_part_of_the_text_and_holds_no_ending(fragments):
    text = "".join(fragments)
    shown, _ = scan(FENCED, list(text))
    assert shown in text
    assert shown == shown.strip() or not shown
    assert "\n# Query:\n```\n" not in f"\n{shown}\n", "a whole turn of the frame is never shown"
    if not any(f in shown for f in ("```", "~~~")):
        assert not any(line.lstrip().startswith("# Query:") for line in shown.split("\n"))
