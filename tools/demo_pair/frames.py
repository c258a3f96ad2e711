"""Frames and headers: how questions and answers are set out in a document.

The main frame is the one URIAL prompts have; the others keep the base from tying its manners to
one frame. Which header stands above says nothing about the style below.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from tools.demo_pair.words import Phrases, made_up_name
from tools.demo_pair.world import capital, load_table

FENCE = "```"


@dataclass(frozen=True)
class Frame:
    """The strings before a question, between it and its answer, after it, and between turns."""

    before: str
    middle: str
    after: str
    between: str = ""

    def turn(self, question: str, answer: str) -> str:
        """One question with its answer."""
        return self.before + question + self.middle + answer + self.after

    def open_turn(self, question: str) -> str:
        """A question whose answer is to be written."""
        return self.before + question + self.middle

    def document(self, header: str, turns: list[tuple[str, str]]) -> str:
        """A whole document; the header, where there is one, ends with a newline."""
        shown = self.between.join(self.turn(q, a) for q, a in turns)
        return header + self.between + shown if header else shown

    def prompt(self, header: str, turns: list[tuple[str, str]], question: str) -> str:
        """A document up to where the next answer begins."""
        parts = [self.turn(q, a) for q, a in turns] + [self.open_turn(question)]
        shown = self.between.join(parts)
        return header + self.between + shown if header else shown


def fenced(ask: str = "# Query:", reply: str = "# Answer:") -> Frame:
    """The frame of URIAL prompts, with fences around both texts."""
    return Frame(
        f"{ask}\n{FENCE}\n", f"\n{FENCE}\n\n{reply}\n{FENCE}\n", f"\n{FENCE}\n", between="\n"
    )


MAIN = fenced()
CHAT = Frame("### User:\n", "\n\n### Assistant:\n", "\n", between="\n")

_FENCED_LABELS = (
    ("# User:", "# Assistant:"),
    ("# Question:", "# Reply:"),
    ("# Human:", "# AI:"),
    ("## Input", "## Output"),
    ("# Instruction:", "# Response:"),
    ("Query:", "Answer:"),
)
_BLOCK_LABELS = (
    ("# User:", "# Assistant:"),
    ("### Instruction:", "### Response:"),
    ("# Query:", "# Answer:"),
    ("## Question", "## Answer"),
)
_LINE_LABELS = (
    ("User:", "Assistant:"),
    ("Q:", "A:"),
    ("Question:", "Answer:"),
    ("Human:", "AI:"),
    ("You:", "Bot:"),
)


def draw_frame(rng: random.Random) -> Frame:
    """The main frame half of the time, else one of many others."""
    draw = rng.random()
    if draw < 0.50:
        return MAIN
    if draw < 0.58:
        return fenced(*rng.choice(_FENCED_LABELS))
    if draw < 0.66:
        return CHAT
    if draw < 0.76:
        ask, reply = rng.choice(_BLOCK_LABELS)
        return Frame(f"{ask}\n", f"\n\n{reply}\n", "\n", between="\n")
    if draw < 0.90:
        ask, reply = rng.choice(_LINE_LABELS)
        if rng.random() < 0.3:
            ask, reply = made_up_name(rng) + ":", made_up_name(rng) + ":"
        return Frame(f"{ask} ", f"\n{reply} ", "\n", between=rng.choice(("", "\n")))
    if draw < 0.95:
        return Frame("## ", "\n\n", "\n", between="\n")
    return Frame("<q>", "</q>\n<a>", "</a>\n")


class Headers:
    """Draws the text that stands above a conversation."""

    def __init__(self, phrases: Phrases) -> None:
        """Read the sentences."""
        self.phrases = phrases
        self.table = load_table("styles.toml")["headers"]

    def draw(self, rng: random.Random) -> str:
        """A header that ends with a newline, or nothing."""
        if rng.random() < 0.45:
            return ""
        title = rng.choice(self.table["titles"])
        sentences = [self._sentence(rng) for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 4, 6)))]
        joined = rng.choice((" ", "\n")).join(sentences)
        parts = [part for part in (title, joined) if part]
        return rng.choice(("\n\n", "\n\n", "\n")).join(parts) + "\n" if parts else ""

    def _sentence(self, rng: random.Random) -> str:
        if rng.random() < 0.15:
            return capital(self.phrases.words(rng, 4, 12)) + "."
        sentence = rng.choice(self.table["sentences"])
        while "{w}" in sentence:
            sentence = sentence.replace("{w}", rng.choice(self.phrases.vocabulary), 1)
        return sentence
