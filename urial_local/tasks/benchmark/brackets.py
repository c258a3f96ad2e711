"""Whether brackets, strings, comments and tags pair, in languages that nothing here parses."""

from __future__ import annotations

import re

_PAIRS = {")": "(", "]": "[", "}": "{"}
_QUOTES = {"javascript": "\"'`", "c": "\"'", "sql": "\"'`", "bash": "\"'"}
_LINE = {"javascript": "//", "c": "//", "sql": "--", "bash": "#"}
_BLOCKS = {"javascript": True, "c": True, "sql": True, "bash": False}
# Bounded, so that a text of "<" takes no square.
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9-]{0,30})([^<>]{0,1000})>")
_VOID = {
    "area",
    "base",
    "br",
    "col",
    "embed",
    "hr",
    "img",
    "input",
    "link",
    "meta",
    "source",
    "wbr",
}
_OPTIONAL = {"li", "p", "td", "tr", "th", "dt", "dd", "option"}  # whose end may be left out


def pairs_fault(code: str, language: str) -> str:
    """What does not pair; "" where all does."""
    stack: list[str] = []
    quotes, line, blocks = _QUOTES[language], _LINE[language], _BLOCKS[language]
    at = 0
    while at < len(code):
        character = code[at]
        if character in quotes:
            at = _string_end(code, at, language)
            if at < 0:
                return "a string without an end"
        elif code.startswith(line, at) and _is_comment(code, at, language):
            end = code.find("\n", at)
            at = len(code) if end < 0 else end
        elif blocks and code.startswith("/*", at):
            end = code.find("*/", at + 2)
            if end < 0:
                return "a comment without an end"
            at = end + 1
        elif character in "([{":
            stack.append(character)
        elif character in ")]}" and language != "bash" and _PAIRS[character] != (stack or "?")[-1]:
            return f"{character!r} closes nothing"
        elif character in ")]}" and stack:
            stack.pop()
        at += 1
    return f"{stack[-1]!r} is not closed" if stack and language != "bash" else ""


def _string_end(code: str, at: int, language: str) -> int:
    """Where the string that begins here ends, or -1. In a line of its own but for templates,
    SQL and the shell."""
    quote, start = code[at], at
    at += 1
    while at < len(code):
        if code[at] == "\\" and not (language == "bash" and quote == "'") and language != "sql":
            at += 2
            continue
        if code[at] == quote:
            return at
        if code[at] == "\n" and language in ("javascript", "c") and quote != "`":
            return -1
        at += 1
    return -1 if at > start else at


def _is_comment(code: str, at: int, language: str) -> bool:
    """In the shell, `#` begins one only after a blank."""
    return language != "bash" or at == 0 or code[at - 1].isspace()


def html_fault(code: str, name: str) -> str:
    """What is wrong with the tags; `name` is an element that must be among them."""
    stack: list[str] = []
    seen: set[str] = set()
    for closing, tag, rest in _TAG.findall(code):
        tag = tag.lower()
        seen.add(tag)
        if tag in _VOID or rest.endswith("/"):
            continue
        if not closing:
            stack.append(tag)
            continue
        while stack and stack[-1] != tag and stack[-1] in _OPTIONAL:
            stack.pop()
        if not stack or stack.pop() != tag:
            return f"</{tag}> closes nothing"
    left = [tag for tag in stack if tag not in _OPTIONAL]
    if not seen:
        return "no html code"
    if left:
        return f"<{left[-1]}> is not closed"
    return f"no <{name}>" if name and name.lower() not in seen else ""
