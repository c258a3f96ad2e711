"""The prompts that `fit` chooses among: a frame, a system text, examples in an order, a penalty."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TypeVar

from urial_local.prompting.frames import Frame
from urial_local.prompting.prompts import Prompt, Turn
from urial_local.tasks.prompted import recommended

T = TypeVar("T")
PENALTIES = (1.0, 1.1, 1.15)  # of repetition: neutral, the paper's, that of icl-alignment


@dataclass(frozen=True, slots=True)
class Candidate:
    """Where a prompt lies in the space: numbers of its parts. `prompt` is a name of the library,
    where this is that prompt as it stands; then the parts say what it is made of."""

    frame: int
    system: int
    examples: tuple[int, ...]
    penalty: float
    prompt: str = ""


@dataclass(frozen=True)
class Space:
    """All parts. Frames, texts and examples come from the library and from a pool."""

    frames: tuple[Frame, ...]
    systems: tuple[str, ...]  # with the first frame's markers; the first is empty
    examples: tuple[Turn, ...]
    most: int  # examples of a prompt
    penalties: tuple[float, ...] = PENALTIES

    def prompt(self, candidate: Candidate, library: Sequence[Prompt] = ()) -> Prompt:
        """The prompt that a candidate is."""
        for known in library:
            if candidate.prompt == known.name:
                return known
        frame = self.frames[candidate.frame]
        return Prompt(
            name="fit",
            frame=frame,
            system=with_markers(self.systems[candidate.system], self.frames[0], frame),
            examples=tuple(self.examples[i] for i in candidate.examples),
            sampling={"repeat_penalty": candidate.penalty},
        )

    def place(self, prompt: Prompt) -> Candidate:
        """Where a prompt of the library lies."""
        system = with_markers(prompt.system, prompt.frame, self.frames[0])
        places = {example: i for i, example in enumerate(self.examples)}
        return Candidate(
            frame=self.frames.index(prompt.frame) if prompt.frame in self.frames else 0,
            system=self.systems.index(system) if system in self.systems else 0,
            examples=tuple(places[e] for e in map(_plain, prompt.examples) if e in places),
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
        more, less, exchanged, or two in another order. Of a prompt of the library with more
        examples than there may be, only the first ones go on."""
        plain = replace(candidate, prompt="", examples=candidate.examples[: self.most])
        moves = []
        if len(self.frames) > 1:
            moves.append("frame")
        if len(self.systems) > 1:
            moves.append("system")
        if len(self.penalties) > 1:
            moves.append("penalty")
        spare = [i for i in range(len(self.examples)) if i not in plain.examples]
        if spare and len(plain.examples) < self.most:
            moves += ["add", "add"]
        if plain.examples:
            moves.append("drop")
        if spare and plain.examples:
            moves += ["exchange", "exchange"]
        if len(plain.examples) > 1:
            moves.append("order")
        return self._moved(plain, rng.choice(moves), spare, rng) if moves else plain

    def _moved(
        self, plain: Candidate, move: str, spare: Sequence[int], rng: random.Random
    ) -> Candidate:
        examples = list(plain.examples)
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
    """The parts of the library's prompts, after the frames that are always there, and a pool's
    examples at the end. A model's own chat template is left out: nothing can be exchanged in it."""
    own = [p for p in library if p.frame.template != "model"]
    whole = tuple(dict.fromkeys((*frames, *(p.frame for p in own))))
    systems = dict.fromkeys(("", *(with_markers(p.system, p.frame, whole[0]) for p in own)))
    examples = dict.fromkeys(_plain(e) for e in (*(e for p in own for e in p.examples), *pool))
    return Space(whole, tuple(systems), tuple(examples), most)


def with_markers(system: str, source: Frame, target: Frame) -> str:
    """A system text that speaks of one frame's markers, with those of another."""
    pairs = (
        (source.query_marker, target.query_marker),
        (source.answer_marker, target.answer_marker),
    )
    for old, new in pairs:
        if old and new:
            system = system.replace(f'"{old}"', f'"{new}"')
    return system


def key_of(prompt: Prompt) -> str:
    """Tells prompts apart that differ in what is rendered or how they are sampled. One that asks
    for what is neutral anyway is the same as one that asks for nothing."""
    parts = [prompt.fingerprint(), asdict(recommended(prompt, {}))]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode("ascii")).hexdigest()[:12]


def _plain(example: Turn) -> Turn:
    """An imported example without the spacing of its file."""
    return Turn(example.query, example.answer)


def _other(rng: random.Random, choices: Sequence[T], present: T) -> T:
    return rng.choice([one for one in choices if one != present] or [present])
