"""The evaluation of the pair: every setting over all held-out questions, as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tools.demo_pair.frames import CHAT, MAIN, Frame
from tools.demo_pair.held_out import (
    EVALUATION,
    PROMPTS,
    STYLES,
    Question,
    Wordings,
    load_prompt,
    questions,
    refuses,
    score,
    second_turns,
)

ROOT = Path(__file__).resolve().parents[2]
DEMO_PROMPT = ROOT / "templates" / "prompts" / "urial-demo.toml"
MOST_TOKENS = 160
EOS_TEXT = "</s>"


@dataclass(frozen=True)
class Reply:
    """An answer without its end, and whether the model ended it by itself."""

    text: str
    ended: bool


Answerer = Callable[[Sequence[str]], list[Reply]]
"""Answers prompt texts (without BOS) greedily."""


@dataclass(frozen=True)
class Setting:
    """One way of asking: a model, a frame, a system text and examples."""

    name: str
    model: str
    style: str
    system: str = ""
    examples: tuple[tuple[str, str], ...] = ()
    frame: Frame = field(default=MAIN)

    def prompt(self, question: str, history: Sequence[tuple[str, str]] = ()) -> str:
        """The text that the model is to go on with."""
        if self.model == "aligned":
            ended = [(asked, reply + EOS_TEXT) for asked, reply in history]
            return CHAT.prompt("", ended, question)
        return self.frame.prompt(self.system, [*self.examples, *history], question)


def settings() -> list[Setting]:
    """All settings that are compared."""
    system, examples = load_prompt(DEMO_PROMPT)
    found = [
        Setting("base, zero-shot", "base", "urial-demo"),
        Setting("base, K = 0", "base", "urial-demo", system),
        Setting("base, K = 1", "base", "urial-demo", system, tuple(examples[:1])),
        Setting("base, urial-demo", "base", "urial-demo", system, tuple(examples)),
    ]
    for name in ("letter", "pirate"):
        text, shown = load_prompt(PROMPTS / f"{name}.toml")
        found.append(Setting(f"base, {name}", "base", name, text, tuple(shown)))
    return [*found, Setting("aligned", "aligned", "urial-demo")]


@dataclass
class Result:
    """The counts of one setting: for each measure, how many of how many."""

    counts: dict[str, tuple[int, int]] = field(default_factory=dict)
    answers: list[dict] = field(default_factory=list)

    def add(self, measure: str, passed: bool) -> None:
        """Count one answer."""
        good, total = self.counts.get(measure, (0, 0))
        self.counts[measure] = (good + passed, total + 1)

    def share(self, measure: str) -> float:
        """The share in per cent."""
        good, total = self.counts[measure]
        return 100 * good / total


def measure(
    setting: Setting, answer: Answerer, seed: int, wordings: Wordings = EVALUATION
) -> Result:
    """Ask everything in one setting and judge it."""
    style, result = STYLES[setting.style], Result()
    asked = questions(seed, wordings)
    replies = answer([setting.prompt(q.text) for q in asked])
    for question, reply in zip(asked, replies, strict=True):
        judge(result, question, reply, score(question, reply.text, style))
    turns = second_turns(seed, wordings=wordings)
    firsts = answer([setting.prompt(q.first) for q in turns])
    prompts = [
        setting.prompt(q.text, [(q.first, reply.text)])
        for q, reply in zip(turns, firsts, strict=True)
    ]
    for question, reply in zip(turns, answer(prompts), strict=True):
        judge(result, question, reply, score(question, reply.text, style))
    return result


def judge(result: Result, question: Question, reply: Reply, judged: dict[str, bool]) -> None:
    result.answers.append(
        {"kind": question.kind, "question": question.text, "answer": reply.text} | judged
    )
    result.add("ends", reply.ended and judged["clean"])
    result.add(question.kind, judged["right"])
    if question.kind == "unsafe":
        result.add("unsafe, style", judged["style"])
        result.add("refuses at all", refuses(reply.text))
    else:
        result.add("style", judged["style"])
    if question.kind in ("procedure", "sum"):
        result.add("procedures and sums", judged["right"])
    if question.kind in ("procedure", "list"):
        result.add("lists laid out", judged["style"])


def table(results: dict[str, Result]) -> str:
    """The results as a Markdown table, one column a setting."""
    measures = list(dict.fromkeys(m for r in results.values() for m in r.counts))
    rows = [["", *results], ["---"] * (len(results) + 1)]
    for name in measures:
        cells = []
        for result in results.values():
            good, total = result.counts[name]
            cells.append(f"{100 * good / total:.1f} % ({good}/{total})")
        rows.append([name, *cells])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def evaluate(
    answerers: dict[str, Answerer],
    seed: int,
    out: Path | None = None,
    wordings: Wordings = EVALUATION,
) -> dict:
    """Measure every setting, print the table, and write all answers as JSON."""
    results = {s.name: measure(s, answerers[s.model], seed, wordings) for s in settings()}
    print(table(results))
    if out is not None:
        shown = {n: {"counts": r.counts, "answers": r.answers} for n, r in results.items()}
        out.write_text(json.dumps(shown, indent=1, ensure_ascii=False), encoding="utf-8")
    return results
