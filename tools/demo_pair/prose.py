"""Documents without questions: encyclopaedia, tales, how-to texts, sums told, and echoes.

What is held out of the questions stands here, and a little more often than the rest.
"""

from __future__ import annotations

import random

from tools.demo_pair.style import MARKS
from tools.demo_pair.words import Phrases, made_up_name, made_up_word
from tools.demo_pair.world import (
    ATTRIBUTES,
    NUMBER_WORDS,
    Procedure,
    Thing,
    World,
    capital,
    load_table,
)

_HELD_SHARE = 0.35
_NAMES = ("Mila", "Tom", "Ana", "Ben", "Lena", "Omar", "Nina", "Paul", "Rosa", "Max", "Ida", "Leo")
_TALE_OPENINGS = (
    "One day {p} went for a walk.",
    "Once there was a child named {p}.",
    "It was a warm day, and {p} had nothing to do.",
    "{p} wanted to learn something new.",
    "Long ago {p} lived in a small town.",
)
_TALE_MEETINGS = (
    "Then {p} thought of {a}.",
    "Soon {p} came upon {a}.",
    "{p} had a picture of {a}.",
    "An old book told {p} of {a}.",
    '"Look, {a}!" said {p}.',
)
_TALE_TURNS = (
    "{p} smiled.",
    "{p} had not known that.",
    "That was good to know.",
    "{p} wrote it down.",
    "Nobody said a word.",
    "The wind blew.",
)
_TALE_ENDS = (
    "In the evening {p} went home.",
    "{p} slept well that night.",
    "And that was the end of the day.",
    "{p} told it all to a friend.",
)
_HOW_TITLES = (
    "How to {g}",
    "How to {g}:",
    "To {g}, do this:",
    "Here is how to {g}:",
    "This is how you {g}:",
    "How do people {g}?",
    "{G}",
    "You want to {g}? It goes like this.",
)
_SUMS = (
    "{x} plus {y} is {z}.",
    "{x} + {y} = {z}.",
    "{x} plus {y} is {z}.",
    "{x} + {y} = {z}",
    "{x} + {y} = {z}.",
    "{x} and {y} make {z}.",
    "The sum of {x} and {y} is {z}.",
    "If you add {x} and {y}, you get {z}.",
    "Add {y} to {x} and you have {z}.",
    "With {x} apples and {y} more you have {z} apples.",
)


class Prose:
    """Draws prose documents."""

    def __init__(self, world: World, phrases: Phrases) -> None:
        """Sort the facts into those asked elsewhere and those that stand only here."""
        self.world, self.phrases = world, phrases
        self.table = load_table("phrasings.toml")
        everything = [(t, a) for t in world.things for a in ATTRIBUTES[t.kind]]
        self.held = [(t, a) for t, a in everything if world.is_held(t, a)]
        self.held_goals = [p for p in world.procedures if p.goal in world.held_goals]

    def _lore(self, rng: random.Random, thing: Thing, attribute: str) -> str:
        form = rng.choice(self.table[thing.kind][attribute]["lore"])
        return capital(form.format(**thing.slots(attribute)))

    def _thing(self, rng: random.Random) -> Thing:
        if rng.random() < _HELD_SHARE:
            return rng.choice(self.held)[0]
        return rng.choice(self.world.things)

    def encyclopaedia(self, rng: random.Random) -> str:
        """Paragraphs that each tell what is known of one thing."""
        parts = []
        for _ in range(rng.randint(1, 5)):
            thing = self._thing(rng)
            names = list(ATTRIBUTES[thing.kind])
            rng.shuffle(names)
            text = " ".join(self._lore(rng, thing, a) for a in names)
            title = rng.random()
            if title < 0.3:
                text = f"{capital(thing.name)}\n{text}"
            elif title < 0.4:
                text = f"{capital(thing.name)}: {text}"
            parts.append(text)
        return rng.choice(("\n\n", "\n")).join(parts) + "\n"

    def fact_lines(self, rng: random.Random) -> str:
        """Single facts about many things, one a line."""
        lines = []
        for _ in range(rng.randint(3, 12)):
            if rng.random() < _HELD_SHARE:
                thing, attribute = rng.choice(self.held)
            else:
                thing = rng.choice(self.world.things)
                attribute = rng.choice(ATTRIBUTES[thing.kind])
            lines.append(self._lore(rng, thing, attribute))
        return "\n".join(lines) + "\n"

    def tale(self, rng: random.Random) -> str:
        """A short tale in which facts come up."""
        person = rng.choice(_NAMES) if rng.random() < 0.7 else made_up_name(rng)
        parts = [rng.choice(_TALE_OPENINGS)]
        for _ in range(rng.randint(1, 4)):
            thing = self._thing(rng)
            parts.append(rng.choice(_TALE_MEETINGS).replace("{a}", thing.one))
            names = list(ATTRIBUTES[thing.kind])
            rng.shuffle(names)
            parts += [self._lore(rng, thing, a) for a in names[: rng.randint(1, 3)]]
            if rng.random() < 0.5:
                parts.append(rng.choice(_TALE_TURNS))
        parts.append(rng.choice(_TALE_ENDS))
        return " ".join(parts).replace("{p}", person) + "\n"

    def how_to(self, rng: random.Random) -> str:
        """One to three procedures, laid out in one way."""
        layout = rng.choice((*MARKS, "lines", "prose", "first"))
        title = rng.choice(_HOW_TITLES)
        parts = []
        for _ in range(rng.choice((1, 1, 2, 3))):
            held = rng.random() < _HELD_SHARE
            known = rng.choice(self.held_goals if held else self.world.procedures)
            parts.append(self._procedure(known, layout, title))
        return "\n\n".join(parts) + "\n"

    def _procedure(self, known: Procedure, layout: str, title: str) -> str:
        head = title.format(g=known.goal, G=capital(known.goal))
        steps = known.steps
        if layout == "prose":
            return f"{head} " + ". ".join(steps) + "." if head[-1] in ":?." else self._plain(known)
        if layout == "first":
            words = ("First, ", "Then ", "Next, ", "Finally, ")
            told = [w + s[0].lower() + s[1:] + "." for w, s in zip(words, steps, strict=False)]
            return f"{head}\n" + " ".join(told)
        mark = MARKS.get(layout, "")
        lines = [mark.format(i=i) + step + "." for i, step in enumerate(steps, 1)]
        return f"{head}\n" + "\n".join(lines)

    def _plain(self, known: Procedure) -> str:
        return f"To {known.goal}: " + ". ".join(known.steps) + "."

    def sums(self, rng: random.Random) -> str:
        """Sums that are told, not asked: a table of one number, or any."""
        form, lines = rng.choice(_SUMS), []
        in_words = rng.random() < 0.2
        fixed = rng.randrange(10) if rng.random() < 0.4 else None
        if fixed is not None:
            pairs = [(fixed, y) for y in range(10)]
            if rng.random() < 0.5:
                pairs = [(y, x) for x, y in pairs]
        else:
            held = sorted(self.world.held_sums)
            pairs = [
                rng.choice(held)
                if rng.random() < _HELD_SHARE
                else (rng.randrange(10), rng.randrange(10))
                for _ in range(rng.randint(4, 12))
            ]
        for x, y in pairs:
            shown = form if rng.random() < 0.8 else rng.choice(_SUMS)
            names = (NUMBER_WORDS[x], NUMBER_WORDS[y]) if in_words else (x, y)
            lines.append(capital(shown.format(x=names[0], y=names[1], z=x + y)))
        return rng.choice(("\n", "\n", " ")).join(lines) + "\n"

    def echo(self, rng: random.Random) -> str:
        """Random phrases that come back: what was said once is likely to be said again."""
        draw = rng.random()
        if draw < 0.2:
            words = self.phrases.words(rng, 8, 40)
            return rng.choice(("\n", " ")).join([words] * rng.randint(2, 4)) + "\n"
        if draw < 0.5:
            lines = [self.phrases.phrase(rng) for _ in range(rng.randint(2, 6))]
            return "\n".join(lines * rng.randint(2, 3)) + "\n"
        if draw < 0.7:
            pairs = [(made_up_word(rng), self.phrases.words(rng, 1, 3)) for _ in range(6)]
            sign = rng.choice((" = ", ": ", " -> ", " is "))
            told = pairs + [rng.choice(pairs) for _ in range(8)]
            return "\n".join(left + sign + right for left, right in told) + "\n"
        first, last = self.phrases.phrase(rng), self.phrases.phrase(rng)
        middles = [self.phrases.words(rng, 1, 8) for _ in range(rng.randint(3, 8))]
        join, end = rng.choice((" ", "\n")), rng.choice((" ", "\n", "\n\n"))
        rows = [f"{first}{join}{middle}.{end}{last}" for middle in middles]
        return rng.choice(("\n\n", "\n---\n")).join(rows) + "\n"
