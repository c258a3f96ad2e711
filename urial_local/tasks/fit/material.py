"""What a fit is made of: the prompts to begin with, a pool's examples, the questions.

No question is scored under a prompt that holds it as an example: a pool's example with a scored
question is left out, and so is a question that is an example of the library.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence

from urial_local.base.errors import UrialError
from urial_local.prompting.frames import Frame
from urial_local.prompting.library import load_prompt, prompt_files
from urial_local.prompting.markers import marker_lines
from urial_local.prompting.prompts import Prompt, Turn
from urial_local.records.datasets import Item, unsound
from urial_local.tasks.fit.space import key_of
from urial_local.tasks.model_file import ModelFile
from urial_local.tasks.prompt_choice import chosen_prompt, usual_prompts

MOST_POOL = 200  # examples of a pool that are taken
MOST_ANSWERS = 200  # given answers that are scored
LONGEST = 400  # tokens of a given answer that are scored
ROOM = 768  # tokens that a prompt must leave for a question and its answer
FRAME_ROOM = 64  # of those, for the frame around a question
LENGTHS = (20, 2000)  # characters of an example's answer, that it is of use
Count = Callable[[str], int]  # of a text's tokens
Answers = dict[str, tuple[str, str]]  # by id, a question and its answer


def same(text: str) -> str:
    """What two questions have in common that are the same but for case, blanks and marks."""
    return " ".join(re.findall(r"\w+", text.casefold())) or text.strip()


def fits(text: str, count: Count, room: int) -> bool:
    """Whether a model can read a text in so many tokens."""
    try:
        return count(text) <= room
    except UrialError:  # its vocabulary lacks a character, or the text is far too long
        return False


def library(file: ModelFile, most: int, count: Count, room: int) -> tuple[Prompt, ...]:
    """The prompts to begin with: what the model is asked under without a fit, then all others for
    base models that leave room for an answer. An earlier fit's are none of them: they were chosen
    by these very questions."""
    default = _default(file, count, room)
    found = {default.name: default}
    for name in sorted(prompt_files()):
        try:
            prompt = load_prompt(name)
            key_of(prompt)  # its sampling is checked there
            prefix = prompt.prefix()
        except UrialError:
            continue  # a file of the user's own that is malformed: `prompts list` says so
        if name in ("urial-demo", "raw") or prompt.frame.template == "model" or fitted(prompt):
            continue
        if len(prompt.examples) <= most and fits(prefix, count, room):
            found.setdefault(prompt.name, prompt)
    return tuple(found.values())


def _default(file: ModelFile, count: Count, room: int) -> Prompt:
    own, _ = chosen_prompt(file)
    if own is not None and not fitted(own):
        return own
    usual = usual_prompts(file)
    return next((p for p in usual if fits(p.prefix(), count, room)), usual[-1])


def fitted(prompt: Prompt) -> bool:
    """Whether a fit has made this prompt."""
    return "fingerprint" in prompt.evidence


def usable(
    pool: Iterable[Turn], frames: Sequence[Frame], scored: Collection[str], count: Count, room: int
) -> list[Turn]:
    """A pool's examples that may stand in a prompt, the first MOST_POOL of them. `scored`: the
    questions, as `same` has them. `room`: tokens for an example."""
    marks = tuple({mark for frame in frames for mark in frame.markers})
    fences = {frame.fence for frame in frames if frame.fence}
    found = []
    for one in pool:
        both = f"{one.query}\n{one.answer}"
        if (
            LENGTHS[0] <= len(one.answer) <= LENGTHS[1]
            and not (unsound(both) or "\0" in both)
            # A prompt's examples stand in it as they are: with such marks they would end early.
            and not (marker_lines(both, marks) or any(fence in both for fence in fences))
            and same(one.query) not in scored
            and fits(both, count, room)
        ):
            found.append(one)
    return found[:MOST_POOL]


def shown_questions(library: Iterable[Prompt]) -> set[str]:
    """The questions that prompts have as examples, as `same` has them."""
    return {same(example.query) for prompt in library for example in prompt.examples}


def given(items: Sequence[Item]) -> Answers:
    """Questions with answers of a dataset, by id. Left out are rows without an answer, and
    conversations, whose answer may be another question's."""
    return {
        i.id: (i.query, str(i.answer))
        for i in items
        if not (i.error or i.later or i.cut) and i.answer and i.answer.strip()
    }


def readable(answers: Answers, shown: Collection[str], count: Count, room: int) -> Answers:
    """The first MOST_ANSWERS that can be scored under every prompt that leaves `room`: each
    question once, and none that is an example."""
    found: Answers = {}
    seen = set(shown)
    for name, (query, answer) in answers.items():
        if same(query) in seen or unsound(query) or unsound(answer) or "\0" in query + answer:
            continue
        try:
            tokens = count(query) + min(count(answer), LONGEST)
        except UrialError:
            continue
        if tokens + FRAME_ROOM <= room:
            seen.add(same(query))
            found[name] = (query, answer)
        if len(found) == MOST_ANSWERS:
            break
    return found
