"""What there is to say of an answer, told from its text, how it ended, and its prompt.

Faults:

empty       no text but blanks and fences
truncated   it was cut off: finish_reason is length or context
repetitive  it ends in a loop: its last characters are one stretch of 1 … 200 characters at
            least 4 times over, 60 characters or more in all; or a line of 20 characters or
            more stands in it 4 times; or a word 8 times running
runaway     it goes on as a dialogue with itself: a line begins like the next turn
copied      more than 30 % of its word 8-grams stand in the prompt (see `copied`)

No fault in itself:

refusal     it declines (see tasks.refusals)
"""

from __future__ import annotations

import re
from collections import Counter

from urial_local.tasks.generate.copied import Shown
from urial_local.tasks.refusals import refuses

FAULTS = ("empty", "truncated", "repetitive", "runaway", "copied")
FLAGS = (*FAULTS, "refusal")
LOOP_TIMES, LOOP_CHARACTERS, LOOP_STRETCH = 4, 60, 200
LINE_TIMES, LINE_CHARACTERS = 4, 20
WORD_TIMES = 8
# Blanks of its own line only: with those above, each empty line would be tried as a start.
_TURN = re.compile(
    r"^[^\S\n]*((#{1,3} ?)?(\*\*)?"
    r"(user|human|query|question|instruction|assistant|answer|q|a)(\*\*)? ?\d*:(\*\*)?(\s|$)"
    r"|<\|?(user|im_start|assistant|start_header_id)\b|\[INST\])",
    re.IGNORECASE | re.MULTILINE,
)


def flags_of(text: str, finish_reason: str, shown: Shown | None = None) -> list[str]:
    """The flags of an answer; see the module's text. `shown`: its prompt, where that is known."""
    found = []
    if not text.strip("`~ \t\r\n\v\f"):
        found.append("empty")
    if finish_reason in ("length", "context"):
        found.append("truncated")
    if repetitive(text):
        found.append("repetitive")
    if runaway(text):
        found.append("runaway")
    if shown and shown.copied(text):
        found.append("copied")
    if refuses(text):
        found.append("refusal")
    return found


def repetitive(text: str) -> bool:
    """Whether an answer loops."""
    tail = text.rstrip()
    for period in range(1, min(LOOP_STRETCH, len(tail) // LOOP_TIMES) + 1):
        length = max(LOOP_TIMES * period, LOOP_CHARACTERS)
        if len(tail) >= length and all(
            tail[-i] == tail[-i - period] for i in range(1, length - period + 1)
        ):
            return True
    lines = Counter(line.strip() for line in text.split("\n"))
    if any(n >= LINE_TIMES and len(line) >= LINE_CHARACTERS for line, n in lines.items()):
        return True
    run, before = 1, ""
    for word in text.split():
        run = run + 1 if word == before else 1
        before = word
        if run >= WORD_TIMES:
            return True
    return False


def runaway(text: str) -> bool:
    """Whether an answer asks and answers itself. Lines inside code blocks do not count."""
    prose = re.sub(r"```.*?(```|$)", "", text, flags=re.DOTALL)
    turns = list(_TURN.finditer(prose))
    # "Answer: 42" at the very start, or one heading in the middle, is not a dialogue.
    begins = len(prose) - len(prose.lstrip())
    return len([m for m in turns if m.start() > begins]) >= 2 or any(
        m.group().lstrip().startswith(("<", "[INST]")) for m in turns
    )
