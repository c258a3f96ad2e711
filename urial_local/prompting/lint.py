"""Finds what is wrong with a prompt before a model is asked to imitate it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from urial_local.base.errors import PromptError
from urial_local.base.fences import closes_early
from urial_local.prompting.frames import Frame, frame_names, load_frame
from urial_local.prompting.library import find_prompt, load_prompt, read_prompt_text
from urial_local.prompting.markers import marker_lines
from urial_local.prompting.prompts import Prompt


@dataclass(frozen=True, slots=True)
class Finding:
    """`error`: the model would see a broken frame. `warning`: probably not what was meant."""

    level: Literal["error", "warning"]
    where: str
    message: str


def lint(
    name: str,
    count_tokens: Callable[[str], int] | None = None,
    context: int = 0,
    reserve: int = 256,
) -> list[Finding]:
    """All findings for a prompt or file, worst first.

    `count_tokens` counts a text's tokens for the model at hand; with it, a constant prefix that
    leaves fewer than `reserve` of `context` tokens for query and answer is an error.
    """
    findings: list[Finding] = []
    try:
        path = find_prompt(name)
        if path.suffix == ".txt":
            findings += _marker_order(read_prompt_text(path))
        prompt = load_prompt(name)
    except PromptError as error:
        if not findings:
            if not name.endswith(".txt"):
                raise
            findings.append(Finding("error", "file", error.message))
        return findings
    findings += _contents(prompt)
    if count_tokens is not None:
        n = count_tokens(prompt.prefix())
        if n + reserve > context:
            findings.append(
                Finding(
                    "error",
                    "length",
                    f"the constant prefix has {n:,} tokens; with {reserve} for query and answer it"
                    f" does not fit a context of {context:,}",
                )
            )
    return sorted(findings, key=lambda f: f.level)


def _marker_order(text: str) -> list[Finding]:
    """Queries and answers that do not alternate, in a plain-text prompt of any frame."""
    for frame in map(load_frame, frame_names()):
        lines = [
            (number, line.startswith(frame.query_marker))
            for number, line in enumerate(text.split("\n"), 1)
            if frame.markers and line.startswith(frame.markers)
        ]
        if lines:
            return _alternation(lines, frame)
    return []


def _alternation(lines: list[tuple[int, bool]], frame: Frame) -> list[Finding]:
    findings = []
    open_query = 0
    for number, is_query in lines:
        if is_query and open_query:
            findings.append(_unanswered(open_query, frame))
        if not is_query and not open_query:
            message = f"`{frame.answer_marker}` has no query before it"
            findings.append(Finding("error", f"line {number}", message))
        open_query = number if is_query else 0
    if open_query:
        findings.append(_unanswered(open_query, frame))
    return findings


def _unanswered(number: int, frame: Frame) -> Finding:
    return Finding("error", f"line {number}", f"`{frame.query_marker}` has no answer after it")


def _contents(prompt: Prompt) -> list[Finding]:
    frame = prompt.frame
    found: list[Finding] = []
    seen: dict[str, int] = {}
    for number, example in enumerate(prompt.examples, 1):
        where = f"example {number}"
        for role, text in (("query", example.query), ("answer", example.answer)):
            if not text.strip():
                found.append(Finding("error", where, f"its {role} is empty"))
            if marker_lines(text, frame.markers):
                found.append(Finding("error", where, f"its {role} holds a marker of the frame"))
        if closes_early(example.answer, frame.fence or "```"):
            found.append(Finding("error", where, "its answer has unbalanced code fences"))
        if example.query.count("```") % 2:
            found.append(Finding("error", where, "its query has unbalanced code fences"))
        opening = example.layout[1] if example.layout else frame.fence
        if example.layout and frame.answer_marker:
            opening = opening.rpartition(frame.answer_marker)[2]
        if frame.fence not in opening:
            found.append(Finding("error", where, "its answer has no fences around it"))
        key = " ".join(example.query.split()).casefold()
        if key and key in seen:
            found.append(Finding("warning", where, f"asks the same as example {seen[key]}"))
        seen.setdefault(key, number)
    found += _system(prompt)
    return found


def _system(prompt: Prompt) -> list[Finding]:
    found = []
    if prompt.frame.fence and prompt.system.count(prompt.frame.fence) % 2:
        found.append(Finding("error", "system text", "has unbalanced code fences"))
    prefix = prompt.prefix()
    if prefix and prompt.frame.markers and not prefix.endswith("\n"):
        found.append(
            Finding(
                "warning",
                "end",
                "the final newline is missing, so no blank line separates it from the next query",
            )
        )
    return found
