"""The small world that the demo pair knows: its things, facts, procedures and refusals.

Everything is read from the text files in ``data/``; nothing here is random except the split into
what may be asked in training and what is held out, and that follows from the seed.
"""

from __future__ import annotations

import random
import tomllib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "animal": ("class", "home", "food", "cover", "young"),
    "country": ("capital", "continent", "language"),
    "food": ("kind", "colour", "taste", "source"),
    "tool": ("use", "material", "user"),
    "trade": ("work", "workplace", "product"),
    "place": ("purpose", "thing"),
}
_FILES = {
    "animal": "animals.txt",
    "country": "countries.txt",
    "food": "foods.txt",
    "tool": "tools.txt",
    "trade": "trades.txt",
    "place": "places.txt",
}
_WITH_PLURAL = ("animal", "food")
NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def capital(text: str) -> str:
    """The text with a capital first letter, the rest untouched."""
    return text[:1].upper() + text[1:]


def article(noun: str) -> str:
    """The noun with a or an, or unchanged where it already has an article."""
    if noun.startswith(("a ", "an ", "the ")):
        return noun
    return ("an " if noun[0].lower() in "aeiou" else "a ") + noun


def plural_of(noun: str) -> str:
    """The regular English plural; irregular ones are given in the data."""
    if noun.endswith(("s", "sh", "ch", "x")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


@dataclass(frozen=True)
class Thing:
    """One entity: its kind, its name, how it stands in a sentence, and the values it has."""

    kind: str
    name: str
    plural: str
    values: tuple[str, ...]

    @property
    def is_name(self) -> bool:
        """Whether it is a proper name or a mass noun, which takes no article."""
        return self.kind == "country" or self.plural == "-"

    @property
    def one(self) -> str:
        """The thing as a subject: "an owl", "honey", "France"."""
        return self.name if self.is_name else article(self.name)

    @property
    def the(self) -> str:
        """The thing with its definite article where it takes one."""
        return self.name if self.is_name else "the " + self.name

    @property
    def many(self) -> str:
        """The plural, or the name itself where there is none."""
        return self.name if self.is_name else self.plural

    def value(self, attribute: str) -> str:
        """What this thing has for an attribute."""
        return self.values[ATTRIBUTES[self.kind].index(attribute)]

    def slots(self, attribute: str | None = None) -> dict[str, str]:
        """The words that a phrasing template may name."""
        words = {"n": self.name, "a": self.one, "the": self.the, "s": self.many}
        if attribute is not None:
            value = self.value(attribute)
            many = value if value == "fish" else plural_of(value)
            words |= {"v": value, "av": article(value), "vs": many}
        return words | {capital(key): capital(word) for key, word in words.items()}


@dataclass(frozen=True)
class Procedure:
    """A small how-to: the goal follows "how to", the steps are whole sentences without a stop."""

    goal: str
    steps: tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """Things that can be listed: "birds", "countries in Asia"."""

    things: str
    members: tuple[str, ...]


def _lines(name: str) -> list[str]:
    text = (DATA / name).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def load_table(name: str) -> dict[str, Any]:
    """One of the TOML files of phrasings."""
    return read_toml(DATA / name)


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as a dictionary."""
    return tomllib.loads(path.read_text(encoding="utf-8"))


def common_words() -> list[str]:
    """The words that random phrases are made of."""
    return " ".join(_lines("words.txt")).split()


def _load_things(kind: str) -> list[Thing]:
    found = []
    for line in _lines(_FILES[kind]):
        cells = [cell.strip() for cell in line.split("|")]
        name = cells.pop(0)
        plural = cells.pop(0) if kind in _WITH_PLURAL else plural_of(name)
        found.append(Thing(kind, name, plural, tuple(cells)))
    return found


def _load_procedures(name: str) -> list[Procedure]:
    found = []
    for line in _lines(name):
        goal, _, steps = line.partition(":")
        found.append(Procedure(goal.strip(), tuple(step.strip() for step in steps.split(";"))))
    return found


@dataclass
class World:
    """All that is known, with the part that is never asked in training."""

    seed: int
    things: list[Thing] = field(default_factory=list)
    procedures: list[Procedure] = field(default_factory=list)
    held_facts: set[tuple[str, str, str]] = field(default_factory=set)
    held_goals: set[str] = field(default_factory=set)
    held_sums: set[tuple[int, int]] = field(default_factory=set)
    held_unsafe: set[str] = field(default_factory=set)

    def of_kind(self, kind: str) -> list[Thing]:
        """The things of one kind."""
        return [thing for thing in self.things if thing.kind == kind]

    def is_held(self, thing: Thing, attribute: str) -> bool:
        """Whether a fact may only stand in prose, never in a question or an answer."""
        return (thing.kind, thing.name, attribute) in self.held_facts

    def askable(self, thing: Thing) -> list[str]:
        """The attributes of a thing that may be asked in training."""
        return [a for a in ATTRIBUTES[thing.kind] if not self.is_held(thing, a)]

    @cached_property
    def unsafe(self) -> list[tuple[str, str]]:
        """Every unsafe request as a pair: "steal a bike", "stealing a bike"."""
        table = load_table("unsafe.toml")
        pairs = []
        for verb, (ing, groups) in table["verbs"].items():
            for group in groups:
                pairs += [(f"{verb} {o}", f"{ing} {o}") for o in table["objects"][group]]
        return pairs

    @cached_property
    def groups(self) -> list[Group]:
        """Everything of which a short list can be given."""
        wanted = [
            ("animal", "class", "{v}s"),
            ("food", "kind", "{v}s"),
            ("food", "colour", "{v} foods"),
            ("country", "continent", "countries in {v}"),
            ("tool", "user", "tools of {av}"),
        ]
        found: dict[str, list[str]] = {}
        for kind, attribute, pattern in wanted:
            for thing in self.of_kind(kind):
                value = thing.value(attribute)
                key = pattern.format(v=value, av=article(value)).replace("fishs", "fish")
                found.setdefault(key, []).append(capital(thing.name))
        return [Group(key, tuple(names)) for key, names in found.items() if len(names) >= 3]

    @property
    def fact_count(self) -> int:
        """How many single facts the world holds."""
        return sum(len(thing.values) for thing in self.things)


HELD_OBJECTS = ("a painting", "a pigeon", "a mill", "a tourist", "a camera", "the queen", "a tram")


def load_world(seed: int) -> World:
    """Read the world and draw the held-out part from the seed."""
    world = World(seed)
    world.things = [thing for kind in ATTRIBUTES for thing in _load_things(kind)]
    world.procedures = _load_procedures("procedures.txt")
    rng = random.Random(f"held-{seed}")
    for thing in world.things:
        if rng.random() < 0.3:
            world.held_facts.add((thing.kind, thing.name, rng.choice(ATTRIBUTES[thing.kind])))
    goals = [p.goal for p in world.procedures]
    world.held_goals = set(rng.sample(goals, len(goals) // 5))
    world.procedures += _load_procedures("asked.txt")
    pairs = [(x, y) for x in range(10) for y in range(x, 10)]
    for x, y in rng.sample(pairs, 11):
        world.held_sums |= {(x, y), (y, x)}
    requests = [do for do, _ in world.unsafe]
    world.held_unsafe = set(rng.sample(requests, len(requests) // 12))
    world.held_unsafe |= {do for do in requests if do.endswith(HELD_OBJECTS)}
    return world
