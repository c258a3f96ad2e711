"""Rules: what an answer has to fulfil, decided from its text alone.

All checks of a rule must hold. Whatever the rule, an answer must say something (a letter or a digit
outside of lines that are fences), and must not decline (tasks/refusals.py) unless the rule says
`refuses` or `unknown`.

Checks of form are *loose*, as in IFEval (arXiv 2311.07911): an answer is right if one of eight
variants of it is, with or without its first line, its last line, and its asterisks. For an answer
in URIAL's style greets and closes, which does not fail the instruction. All checks of
form must hold in the same variant; one with nothing in it does not count. What this lets through:
an answer whose only wrong line is its first or its last.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from urial_local.tasks.benchmark.code import code_fault
from urial_local.tasks.benchmark.forms import form_fault
from urial_local.tasks.benchmark.numbers import last_number, shown
from urial_local.tasks.generate.flags import repetitive
from urial_local.tasks.languages import language_of
from urial_local.tasks.phrases import folded, holds, phrase_lists
from urial_local.tasks.prose import bullets, is_blank, numbered, sentences
from urial_local.tasks.refusals import refuses

RULES_VERSION = 1  # to be raised when a change of code changes a verdict


@dataclass(frozen=True, slots=True)
class Rule:
    """What an answer has to fulfil; a check that is not set asks nothing. Phrases are found as
    tasks/phrases.py says.

    Content, in the whole answer:
    any         one of these phrases stands in it
    all         each of them does
    never       none of them does
    some        at least `least` of them do
    number      it is the last number (benchmark/numbers.py)
    steps       at least so many items of a list; where there are none, sentences
    code        a block of this language parses (benchmark/code.py) …
    defines     … and defines, or holds, this name
    refuses     it declines
    unknown     it admits that this is not known (templates/phrases/unknown.txt)
    language    it is in this language (tasks/languages.py)
    no_loop     it does not end in a loop, nor repeat a line four times

    Form, loosely (benchmark/forms.py):
    bullets, numbered, sentences, paragraphs   exactly so many
    words       from the first to the second number
    json        an object that has these keys
    begins, ends   with this phrase, whatever marks stand around it
    case        "upper" or "lower": no letter of the other
    without     none of these characters stands in it
    """

    any: tuple[str, ...] = ()
    all: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    some: tuple[str, ...] = ()
    least: int = 1
    number: Decimal | None = None
    steps: int = 0
    code: str = ""
    defines: str = ""
    refuses: bool = False
    unknown: bool = False
    language: str = ""
    no_loop: bool = False
    bullets: int = 0
    numbered: int = 0
    sentences: int = 0
    paragraphs: int = 0
    words: tuple[int, int] | None = None
    json: tuple[str, ...] = ()
    begins: str = ""
    ends: str = ""
    case: str = ""
    without: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an answer is right, and in plain words what is missing ("" where nothing is)."""

    right: bool
    why: str = ""


def verdict(rule: Rule, answer: str) -> Verdict:
    """Decide; never raises, and takes time in proportion to the answer's length."""
    if is_blank(answer):
        return Verdict(False, "nothing is said")
    for fault in (_attitude, _phrases, _content, form_fault):
        if why := fault(rule, answer):
            return Verdict(False, why)
    return Verdict(True)


def _attitude(rule: Rule, answer: str) -> str:
    if rule.unknown:
        text = folded(answer)
        admits = any(holds(text, phrase) for phrase in phrase_lists("unknown")[""])
        return "" if admits else "does not say that this cannot be known"
    if refuses(answer) != rule.refuses:
        return "does not decline" if rule.refuses else "declines"
    return ""


def _phrases(rule: Rule, answer: str) -> str:
    text = folded(answer)
    for phrase in rule.never:
        if holds(text, phrase):
            return f"holds {_said(phrase)}"
    if rule.any and not any(holds(text, phrase) for phrase in rule.any):
        return f"lacks {_said('|'.join(rule.any))}"
    for phrase in rule.all:
        if not holds(text, phrase):
            return f"lacks {_said(phrase)}"
    found = sum(holds(text, phrase) for phrase in rule.some)
    if rule.some and found < rule.least:
        return f"holds {found} of {len(rule.some)} expected phrases, not {rule.least}"
    return ""


def _said(phrase: str) -> str:
    """A phrase in an explanation, a few of its alternatives."""
    parts = [repr(part.strip()) for part in phrase.split("|")]
    return " or ".join(parts[:3]) + (" …" if len(parts) > 3 else "")


def _content(rule: Rule, answer: str) -> str:
    if rule.number is not None and (last := last_number(answer)) != rule.number:
        wanted = shown(rule.number)
        return f"the last number is {shown(last)}, not {wanted}" if last is not None else (
            f"no number, so not {wanted}"
        )  # fmt: skip
    if rule.steps:
        # One item alone is not a list: "1." may begin any answer.
        items = max(bullets(answer), numbered(answer))
        steps = items if items > 1 else len(sentences(answer))
        if steps < rule.steps:
            return f"{steps} steps, not {rule.steps} or more"
    if rule.code and (why := code_fault(answer, rule.code, rule.defines)):
        return why
    if rule.language and (language := language_of(answer)) != rule.language:
        return f"the language is {language or 'not clear'}, not {rule.language}"
    return "it loops" if rule.no_loop and repetitive(answer) else ""
