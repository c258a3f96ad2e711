"""How one fact is asked: a wording drawn, put together, and roughened as people do."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tools.demo_pair.style import Content
from tools.demo_pair.wording import asking, phrasings, vary
from tools.demo_pair.world import NUMBER_WORDS, Thing, World, capital, common_words

_SMALL_WORDS = frozenset(
    [
        "a",
        "an",
        "the",
        "of",
        "to",
        "do",
        "does",
        "is",
        "are",
        "you",
        "can",
        "I",
        "me",
        "for",
        "please",
    ]
)


@dataclass(frozen=True)
class Turn:
    """A question, what its answer says, and the thing it was about (for a follow-up)."""

    question: str
    content: Content
    thing: Thing | None = None
    attribute: str = ""


def lower_first(text: str) -> str:
    """The text with a small first letter, unless it is the word I."""
    return text if text.startswith("I ") else text[0].lower() + text[1:]


class Questions:
    """Draws wordings."""

    def __init__(self, world: World) -> None:
        """Read the wordings."""
        self.table, self.asking = phrasings(), asking()
        names = {word for t in world.things for word in t.name.split()}
        numbers = {*NUMBER_WORDS, "orange", "yellow", "green", "white", "black", "red", "purple"}
        self.fillers = [w for w in common_words() if w not in names | numbers]

    def fact(self, rng: random.Random, thing: Thing, attribute: str) -> str:
        """A question for one fact of a thing that it names."""
        forms, slots = self.table[thing.kind][attribute], thing.slots()
        draw = rng.random()
        if draw < 0.40:
            question = vary(rng, rng.choice(forms["direct"])).format(**slots)
            named = question.startswith(thing.name[0]) and thing.is_name
            lowered = question if named else lower_first(question)
            text = vary(rng, rng.choice(self.asking["direct"])).format(q=question, e=lowered)
        elif draw < 0.56:
            core = vary(rng, rng.choice(forms["embedded"])).format(**slots)
            text = vary(rng, rng.choice(self.asking["embedded"])).format(e=core)
        elif draw < 0.70:
            core = vary(rng, rng.choice(forms["noun"])).format(**slots)
            text = vary(rng, rng.choice(self.asking["noun"])).format(e=core, E=capital(core))
        else:
            text = self._introduced(rng, thing, forms["follow"])
        return self.roughen(rng, self.disturb(rng, text))

    def _introduced(self, rng: random.Random, thing: Thing, follow: list[str]) -> str:
        """Something said of the thing first, then a question about "it"."""
        opener = vary(rng, rng.choice(self.table["openers"][thing.kind])).format(**thing.slots())
        question = self.follow(rng, follow).removeprefix("And ")
        ends = opener[-1] in ".!"
        return f"{opener} {capital(question) if ends else lower_first(question)}"

    def follow(self, rng: random.Random, forms: list[str]) -> str:
        """A question that names its thing only by "it"."""
        return capital(vary(rng, rng.choice(forms)))

    def ask(self, rng: random.Random, sort: str, **slots: str) -> str:
        """A question of another sort ("procedure", "list"), put together and roughened."""
        form = vary(rng, rng.choice(self.asking[sort]))
        return self.roughen(rng, self.disturb(rng, capital(form.format(**slots))))

    def roughen(self, rng: random.Random, text: str) -> str:
        """People drop capitals and question marks."""
        if rng.random() < 0.06:
            text = text[0].lower() + text[1:]
        if rng.random() < 0.08:
            text = text.rstrip("?.")
        return text

    def disturb(self, rng: random.Random, text: str) -> str:
        """Put in or leave out a word, or say something else first.

        So that an unusual wording alone does not make a question one that has no answer.
        """
        draw = rng.random()
        words = text.split(" ")
        if draw < 0.15:
            words.insert(rng.randrange(1, len(words)) if len(words) > 1 else 0, self._filler(rng))
        elif draw < 0.22 and len(words) > 4:
            small = [i for i, word in enumerate(words) if word in _SMALL_WORDS]
            if small:
                del words[rng.choice(small)]
        elif draw < 0.32:
            before = [self._filler(rng) for _ in range(rng.randint(1, 6))]
            words = [capital(" ".join(before)) + rng.choice((".", ".", ":", ",", "!")), *words]
        return " ".join(words)

    def _filler(self, rng: random.Random) -> str:
        return rng.choice(self.fillers)
