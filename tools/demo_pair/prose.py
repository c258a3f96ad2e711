"""Documents without questions: encyclopaedia, tales, how-to texts, sums told, and echoes.

What is held out of the questions stands here, and a little more often than the rest.
"""

from __future__ import annotations

import random

from tools.demo_pair.questions import lower_first
from tools.demo_pair.style import MARKS
from tools.demo_pair.wording import phrasings, vary
from tools.demo_pair.words import Phrases, made_up_name, made_up_word
from tools.demo_pair.world import (
    ATTRIBUTES,
    NUMBER_WORDS,
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


class Prose:
    """Draws prose documents."""

    def __init__(self, world: World, phrases: Phrases) -> None:
        """Sort the facts into those asked elsewhere and those that stand only here."""
        self.world, self.phrases = world, phrases
        self.table, self.told_forms = phrasings(), load_table("told.toml")
        everything = [(t, a) for t in world.things for a in ATTRIBUTES[t.kind]]
        self.held = [(t, a) for t, a in everything if world.is_held(t, a)]
        self.held_goals = [p for p in world.procedures if p.goal in world.held_goals]

    def _lore(self, rng: random.Random, thing: Thing, attribute: str) -> str:
        form = vary(rng, rng.choice(self.table[thing.kind][attribute]["lore"]))
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

    def told(self, rng: random.Random) -> str:
        """Facts told in the words in which they may be asked, though nobody asks."""
        join = rng.choice(("\n", " "))
        return join.join(self._told(rng) for _ in range(rng.randint(2, 8))) + "\n"

    def _told(self, rng: random.Random) -> str:
        thing, attribute = self._fact(rng)
        forms, slots = self.table[thing.kind][attribute], thing.slots(attribute)
        if rng.random() < 0.25:
            openers = [o for o in self.table["openers"][thing.kind] if "?" not in o]
            opener = vary(rng, rng.choice(openers)).format(**slots)
            more = forms["more"].format(**slots)
            return f"{opener} {more if opener[-1] in '.!' else lower_first(more)}"
        form = vary(rng, rng.choice(self.told_forms["facts"]))
        core = "noun" if "{n}" in form else "embedded"
        asked = vary(rng, rng.choice(forms[core])).format(**slots)
        said = rng.choice(forms["say"]).format(**slots)
        terse = forms["terse"].format(**slots)
        if not thing.is_name and attribute != "capital" and rng.random() < 0.5:
            terse = terse[0].lower() + terse[1:]
        return form.format(e=asked, n=asked, s=said, t=terse, p=rng.choice(_NAMES))

    def _fact(self, rng: random.Random) -> tuple[Thing, str]:
        if rng.random() < _HELD_SHARE:
            return rng.choice(self.held)
        thing = rng.choice(self.world.things)
        return thing, rng.choice(ATTRIBUTES[thing.kind])

    def fact_lines(self, rng: random.Random) -> str:
        """Single facts about many things, one a line."""
        lines = []
        for _ in range(rng.randint(3, 12)):
            lines.append(self._lore(rng, *self._fact(rng)))
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
        """One to three procedures, laid out in one way, under one title or under several."""
        layout = rng.choice((*MARKS, "number", "dash", "lines", "prose", "first", "sentence"))
        title = vary(rng, rng.choice(self.told_forms["titles"]))
        parts = []
        for _ in range(rng.choice((1, 1, 2, 3))):
            if rng.random() < 0.4:
                title = vary(rng, rng.choice(self.told_forms["titles"]))
            parts.append(self._procedure(rng, layout, title))
        return "\n\n".join(parts) + "\n"

    def _procedure(self, rng: random.Random, layout: str, title: str) -> str:
        held = rng.random() < _HELD_SHARE
        known = rng.choice(self.held_goals if held else self.world.procedures)
        name, steps = rng.choice(_NAMES), known.steps
        if layout == "sentence":
            form = vary(rng, rng.choice(self.told_forms["sentences"]))
            small = [lower_first(step) for step in steps]
            return capital(form.format("", *small, g=known.goal, p=name))
        head = title.format(g=known.goal, G=capital(known.goal), p=name)
        if layout == "prose":
            return f"{head if head[-1] in ':.' else head + ':'} " + ". ".join(steps) + "."
        if layout == "first":
            words = ("First, ", "Then ", "Next, ", "Finally, ")
            told = [w + s[0].lower() + s[1:] + "." for w, s in zip(words, steps, strict=False)]
            return f"{head}\n" + " ".join(told)
        mark = MARKS.get(layout, "")
        lines = [mark.format(i=i) + step + "." for i, step in enumerate(steps, 1)]
        gap = "\n\n" if rng.random() < 0.5 else "\n"
        return f"{head}{gap}" + "\n".join(lines)

    def sums(self, rng: random.Random) -> str:
        """Sums that are told, not asked: a table of one number, a row of numbers, or any."""
        forms, lines = self.told_forms["sums"], []
        in_words = rng.random() < 0.3
        for x, y in self._pairs(rng):
            if not lines or rng.random() < 0.4:
                form = vary(rng, rng.choice(forms))
            names = (NUMBER_WORDS[x], NUMBER_WORDS[y]) if in_words else (x, y)
            noun, person = rng.choice(self.told_forms["nouns"]), rng.choice(_NAMES)
            told = form.format(x=names[0], y=names[1], z=x + y, c=noun, p=person)
            if y and rng.random() < 0.1:
                row = ", ".join(str(number) for number in range(x, x + y + 1))
                told = f"{row}: {told}"
            lines.append(capital(told))
        return rng.choice(("\n", "\n", " ")).join(lines) + "\n"

    def _pairs(self, rng: random.Random) -> list[tuple[int, int]]:
        if rng.random() < 0.4:
            fixed = rng.randrange(10)
            pairs = [(fixed, y) for y in range(10)]
            return pairs if rng.random() < 0.5 else [(y, x) for x, y in pairs]
        held = sorted(self.world.held_sums)
        return [
            rng.choice(held)
            if rng.random() < _HELD_SHARE
            else (rng.randrange(10), rng.randrange(10))
            for _ in range(rng.randint(4, 12))
        ]

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
