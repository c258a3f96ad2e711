"""The prompts that `fit` chooses among: a frame, a system text, examples in an order, a penalty."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from urial_local.prompting.frames import Frame
from urial_local.prompting.prompts import Prompt, Turn

T = TypeVar("T")
PENALTIES = (1.0, 1.1, 1.15)  # of repetition: neutral, the paper's, that of icl-alignment
WORDS = (8, 300)  # of an example's answer, that it is of use


@dataclass(frozen=True, slots=True)
class Candidate:
    """Where a prompt lies in the space: numbers of its parts. `prompt` is a name of the library,
    where this is that prompt as it stands; then the parts say what it was made of, as far as the
    space has them."""

    frame: int
    system: int
    examples: tuple[int, ...]
    penalty: float
    prompt: str = ""


@dataclass(frozen=True)
class Space:
    """All parts. Frames, texts and examples come from the library and from a pool."""

    frames: tuple[Frame, ...]
    systems: tuple[str, ...]  # with the fenced frame's markers; the first is empty
    examples: tuple[Turn, ...]
    most: int  # examples of a prompt
    penalties: tuple[float, ...] = PENALTIES

    def prompt(self, candidate: Candidate, library: Sequence[Prompt] = ()) -> Prompt:
        """The prompt that a candidate is."""
        penalty = {"repeat_penalty": candidate.penalty}
        for known in library:
            if candidate.prompt == known.name:
                return replace(known, sampling={**known.sampling, **penalty})
        frame = self.frames[candidate.frame]
        return Prompt(
            name="fit",
            frame=frame,
            system=fitting_markers(self.systems[candidate.system], frame),
            examples=tuple(self.examples[i] for i in candidate.examples),
            sampling=penalty,
        )

    def place(self, prompt: Prompt) -> Candidate:
        """Where a prompt of the library lies."""
        names = [frame.name for frame in self.frames]
        return Candidate(
            frame=names.index(prompt.frame.name) if prompt.frame.name in names else 0,
            system=self.systems.index(prompt.system) if prompt.system in self.systems else 0,
            examples=tuple(self.examples.index(e) for e in prompt.examples if e in self.examples),
            penalty=float(prompt.sampling.get("repeat_penalty", 1.0)),
            prompt=prompt.name,
        )

    def drawn(self, rng: random.Random) -> Candidate:
        """Any candidate: every number of examples is equally likely."""
        count = rng.randint(0, min(self.most, len(self.examples)))
        return Candidate(
            frame=rng.randrange(len(self.frames)),
            system=rng.randrange(len(self.systems)),
            examples=tuple(rng.sample(range(len(self.examples)), count)),
            penalty=rng.choice(self.penalties),
        )

    def neighbour(self, candidate: Candidate, rng: random.Random) -> Candidate:
        """A candidate that differs in one part: another frame, system text or penalty; an example
        more, less, exchanged, or two in another order."""
        moves = []
        if len(self.frames) > 1:
            moves.append("frame")
        if len(self.systems) > 1:
            moves.append("system")
        if len(self.penalties) > 1:
            moves.append("penalty")
        spare = [i for i in range(len(self.examples)) if i not in candidate.examples]
        if spare and len(candidate.examples) < self.most:
            moves += ["add", "add"]
        if candidate.examples:
            moves.append("drop")
        if spare and candidate.examples:
            moves += ["exchange", "exchange"]
        if len(candidate.examples) > 1:
            moves.append("order")
        return self._moved(candidate, rng.choice(moves), spare, rng) if moves else candidate

    def _moved(
        self, candidate: Candidate, move: str, spare: Sequence[int], rng: random.Random
    ) -> Candidate:
        plain, examples = replace(candidate, prompt=""), list(candidate.examples)
        if move == "frame":
            return replace(plain, frame=_other(rng, range(len(self.frames)), plain.frame))
        if move == "system":
            return replace(plain, system=_other(rng, range(len(self.systems)), plain.system))
        if move == "penalty":
            return replace(plain, penalty=_other(rng, self.penalties, plain.penalty))
        if move == "add":
            examples.insert(rng.randint(0, len(examples)), rng.choice(spare))
        elif move == "drop":
            del examples[rng.randrange(len(examples))]
        elif move == "exchange":
            examples[rng.randrange(len(examples))] = rng.choice(spare)
        else:
            a, b = rng.sample(range(len(examples)), 2)
            examples[a], examples[b] = examples[b], examples[a]
        return replace(plain, examples=tuple(examples))


def space_of(
    library: Sequence[Prompt], frames: Sequence[Frame], pool: Iterable[Turn], most: int
) -> Space:
    """The parts of the library's prompts, and a pool's examples after them."""
    systems = dict.fromkeys(("", *(p.system for p in library if p.frame.fence)))
    examples = dict.fromkeys(
        Turn(e.query, e.answer)
        for e in (*(e for p in library for e in p.examples), *pool)
        if WORDS[0] <= len(e.answer.split()) <= WORDS[1]
    )
    return Space(tuple(frames), tuple(systems), tuple(examples), most)


def fitting_markers(system: str, frame: Frame) -> str:
    """A system text that speaks of the fenced frame's markers, with those of another frame."""
    named = {"# Query:": frame.query_marker, "# Answer:": frame.answer_marker}
    for marker, other in named.items():
        if other:
            system = system.replace(f'"{marker}"', f'"{other}"')
    return system


def key_of(prompt: Prompt) -> str:
    """Tells prompts apart that differ in what is rendered or how they are sampled."""
    parts = [prompt.fingerprint(), sorted(prompt.sampling.items())]
    return hashlib.sha256(json.dumps(parts).encode("ascii")).hexdigest()[:12]


def _other(rng: random.Random, choices: Sequence[T], present: T) -> T:
    return rng.choice([one for one in choices if one != present] or [present])
