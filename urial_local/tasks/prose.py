"""Sentences, paragraphs, words, items of lists and blocks of code in an answer.

An item is a line that begins with `-`, `*`, `+`, `•`, `–` or `·`, or with a number of at most three
digits and `.` or `)`, then a blank and text. A paragraph is what stands between blank lines. A word
is what stands between blanks and has a letter or a digit. A sentence has a letter or a digit, too;
it ends with `.`, `!`, `?` or `…` before a blank, with their wide forms, with its paragraph or item,
or with a line that ends in a colon. Points after single letters, and after the abbreviations
below, end none.
"""

from __future__ import annotations

import re

_BULLET = re.compile(r"[-*+•–·][ \t]+\S")
_NUMBER = re.compile(r"\d{1,3}[.)][ \t]+\S")
# Each run of marks is looked at from its start alone, and never given back.
_END = re.compile(r"(?<![.!?…])[.!?…]++[\"'”’)\]*_»]*+(?=\s|$)|(?<![。！？])[。！？]++[」』”’)]*+")
_SHORT = {"mr", "mrs", "ms", "dr", "prof", "st", "vs", "e.g", "i.e", "approx", "z.b", "bzw"}
_LONGEST_SHORT = 10  # characters before a point that are looked at


def without_code(text: str) -> str:
    """The text without its blocks of code; one without an end goes on to the end of the text."""
    return "\n".join(line for tag, line in _tagged(text) if tag is None)


def code_blocks(text: str) -> list[tuple[str, str]]:
    """The fenced blocks: language in lower case ("" where none is given), and code."""
    blocks: list[tuple[str, list[str]]] = []
    number = 0
    for tag, line in _tagged(text):
        if tag is None:
            continue
        if tag[0] != number:
            number = tag[0]
            blocks.append((tag[1], []))
        else:
            blocks[-1][1].append(line)
    return [(name, "\n".join(lines)) for name, lines in blocks]


def _tagged(text: str) -> list[tuple[tuple[int, str] | None, str]]:
    """Lines with the number and language of their block, or None; a block's first line is the
    fence that opens it, the one that closes it is left out."""
    lines: list[tuple[tuple[int, str] | None, str]] = []
    fence, block = "", (0, "")
    for line in text.split("\n"):
        body = line.strip()
        rest = body.lstrip("`") if body.startswith("`") else body.lstrip("~")
        run = body[: len(body) - len(rest)]
        if fence and run.startswith(fence) and not rest:
            fence = ""
        elif fence:
            lines.append((block, line))
        elif len(run) >= 3 and run[0] in "`~" and "`" not in rest:
            fence = run
            block = block[0] + 1, (rest.split() or [""])[0].lower()
            lines.append((block, line))
        else:
            lines.append((None, line))
    return lines


def is_blank(text: str) -> bool:
    """Whether nothing is said: no letter and no digit, lines of fences apart."""
    return not any(
        any(map(str.isalnum, line))
        for line in text.split("\n")
        if not line.lstrip().startswith(("```", "~~~"))
    )


def words(text: str) -> list[str]:
    return [word for word in text.split() if any(map(str.isalnum, word))]


def bullets(text: str) -> int:
    """How many lines are items with a mark."""
    return sum(bool(_BULLET.match(line.lstrip())) for line in text.split("\n"))


def numbered(text: str) -> int:
    """How many lines are items with a number."""
    return sum(bool(_NUMBER.match(line.lstrip())) for line in text.split("\n"))


def paragraphs(text: str) -> list[str]:
    found: list[list[str]] = [[]]
    for line in text.split("\n"):
        if line.strip():
            found[-1].append(line)
        elif found[-1]:
            found.append([])
    return ["\n".join(lines) for lines in found if lines]


def sentences(text: str) -> list[str]:
    """See the module's text."""
    found: list[str] = []
    for block in _blocks(text):
        start = 0
        for end in _END.finditer(block):
            if not _is_short(block[max(start, end.start() - _LONGEST_SHORT) : end.start()], end):
                found.append(block[start : end.end()])
                start = end.end()
        found.append(block[start:])
    return [one.strip() for one in found if any(map(str.isalnum, one))]


def _blocks(text: str) -> list[str]:
    """Stretches that no sentence goes on over: paragraphs, items without their marks, and lines
    up to a colon."""
    found: list[list[str]] = [[]]
    for line in text.split("\n"):
        body = line.strip()
        if item := _BULLET.match(body) or _NUMBER.match(body):
            found.append([body[item.end() - 1 :]])
        else:
            found[-1].append(body)
        if not body or body.endswith((":", "：")):
            found.append([])
    return [" ".join(lines) for lines in found if lines]


def _is_short(before: str, end: re.Match[str]) -> bool:
    """Whether a point belongs to an abbreviation, after which the sentence goes on."""
    if end.group() != "." or end.end() == len(end.string):
        return False
    word = (before.split() or [""])[-1].lower().lstrip("(\"'“")
    return word in _SHORT or (len(word) == 1 and word.isalpha() and word != "i")
