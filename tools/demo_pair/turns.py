"""Questions with what a right answer says: one turn of a conversation about the small world."""

from __future__ import annotations

import random

from tools.demo_pair.outside import Outside
from tools.demo_pair.questions import Questions, Turn
from tools.demo_pair.style import Content
from tools.demo_pair.wording import vary
from tools.demo_pair.words import Phrases
from tools.demo_pair.world import ATTRIBUTES, NUMBER_WORDS, Thing, World, capital, load_table

SHARES = {
    "fact": 42,
    "about": 5,
    "procedure": 14,
    "list": 4,
    "sum": 12,
    "unsafe": 10,
    "unknown": 10,
    "copy": 3,
    "chat": 1,
}
_FOLLOW_SHARE = 0.4
_SAME_AGAIN_SHARE = 0.12
_FEW_KINDS_SHARE = 0.3  # documents about few kinds of questions say more about their own style
PROMPT_SHARE = 0.3
"""Of the documents: those that begin as a prompt does, with one example of each kind of answer."""


class Turns:
    """Draws turns from all that may be asked in training."""

    def __init__(self, world: World, phrases: Phrases) -> None:
        """Read the phrasings and sort the world by what may be asked."""
        self.world, self.phrases = world, phrases
        self.questions = Questions(world)
        self.table, self.asking = self.questions.table, self.questions.asking
        self.outside = Outside(world, phrases, self.questions)
        self.unsafe_asking = load_table("unsafe.toml")["asking"]["forms"]
        self.requests = [pair for pair in world.unsafe if pair[0] not in world.held_unsafe]
        self.goals = [p for p in world.procedures if p.goal not in world.held_goals]
        sums = [(x, y) for x in range(10) for y in range(10)]
        self.sums = [pair for pair in sums if pair not in world.held_sums]
        self.facts = [(t, a) for t in world.things for a in world.askable(t)]

    def sequence(
        self, rng: random.Random, length: int, prompts: float = PROMPT_SHARE
    ) -> list[Turn]:
        """Several turns in a row, of which some refer to the one before."""
        kinds, weights = list(SHARES), list(SHARES.values())
        turns: list[Turn] = []
        draw = rng.random()
        if draw < _FEW_KINDS_SHARE:
            for favourite in rng.sample(range(len(kinds)), rng.choice((1, 2, 3))):
                weights[favourite] += 80
        elif draw < _FEW_KINDS_SHARE + prompts:
            turns = self._like_a_prompt(rng)
            length = max(length, len(turns) + 1)
            weights = [20, 3, 20, 5, 8, 25, 10, 1, 1]
        while len(turns) < length:
            last = turns[-1] if turns else None
            if last and last.thing and rng.random() < _FOLLOW_SHARE:
                turns.append(self.follow(rng, last))
            else:
                kind = rng.choices(kinds, weights)[0]
                turns.append(getattr(self, kind)(rng))
        return turns

    def _like_a_prompt(self, rng: random.Random) -> list[Turn]:
        """A fact, something to be laid out and a request to refuse, in any order."""
        turns = [self.fact(rng), self.procedure(rng), self.unsafe(rng)]
        if rng.random() < 0.15:
            turns[1] = self.list(rng)
        if rng.random() < 0.2:
            turns.append(self.unknown(rng))
        rng.shuffle(turns)
        return turns

    def fact(self, rng: random.Random) -> Turn:
        """A question for one fact."""
        thing, attribute = rng.choice(self.facts)
        return self._ask(rng, thing, attribute, self.questions.fact(rng, thing, attribute))

    def _ask(self, rng: random.Random, thing: Thing, attribute: str, question: str) -> Turn:
        forms, slots = self.table[thing.kind][attribute], thing.slots(attribute)
        others = [a for a in self.world.askable(thing) if a != attribute]
        more: tuple[str, ...] = ()
        if others:
            names = ATTRIBUTES[thing.kind]
            place = names.index(attribute)
            after = [a for a in (*names[place + 1 :], *names[:place]) if a in others]
            more = (self._more(thing, after[0]),)
        content = Content(
            "fact",
            tuple(form.format(**slots) for form in forms["say"]),
            terse=forms["terse"].format(**slots),
            more=more,
        )
        return Turn(question, content, thing, attribute)

    def _more(self, thing: Thing, attribute: str) -> str:
        return self.table[thing.kind][attribute]["more"].format(**thing.slots(attribute))

    def follow(self, rng: random.Random, last: Turn) -> Turn:
        """A question that names its thing only by "it", or only a new thing ("And a fox?")."""
        thing, attribute = last.thing, last.attribute
        assert thing is not None
        if attribute and rng.random() < _SAME_AGAIN_SHARE:
            found = [t for t, a in self.facts if t.kind == thing.kind and a == attribute]
            other = rng.choice(found)
            form = vary(rng, rng.choice(self.asking["same_again"]))
            return self._ask(rng, other, attribute, form.format(**other.slots()))
        choices = [a for a in self.world.askable(thing) if a != attribute] or [attribute]
        asked = rng.choice(choices)
        question = self.questions.follow(rng, self.table[thing.kind][asked]["follow"])
        return self._ask(rng, thing, asked, self.questions.roughen(rng, question))

    def about(self, rng: random.Random) -> Turn:
        """A wide question, answered with two or three facts."""
        thing = rng.choice(self.world.things)
        question = self.questions.ask(rng, "about", **thing.slots())
        known = self.world.askable(thing)
        first = self.table[thing.kind][known[0]]["say"][0].format(**thing.slots(known[0]))
        rest = [self._more(thing, a) for a in known[1:]]
        return Turn(question, Content("about", (first, *rest)), thing)

    def procedure(self, rng: random.Random) -> Turn:
        """A how-to question with known steps."""
        known = rng.choice(self.goals)
        content = Content("procedure", goal=known.goal, items=known.steps)
        return Turn(self.questions.ask(rng, "procedure", do=known.goal), content)

    def list(self, rng: random.Random) -> Turn:
        """A wish for three things of a kind."""
        group = rng.choice(self.world.groups)
        question = self.questions.ask(rng, "list", things=group.things)
        items = tuple(rng.sample(group.members, 3))
        return Turn(question, Content("list", goal=group.things, items=items))

    def sum(self, rng: random.Random) -> Turn:
        """A one-digit sum, in digits or in words, answered in digits."""
        x, y = rng.choice(self.sums)
        as_words = rng.random() < 0.25
        names = (NUMBER_WORDS[x], NUMBER_WORDS[y]) if as_words else (str(x), str(y))
        form = vary(rng, rng.choice(self.asking["sum"]))
        said = (f"{x} plus {y} is {x + y}.", f"{x} + {y} = {x + y}.", f"The sum is {x + y}.")
        question = capital(form.format(x=names[0], y=names[1]))
        return Turn(question, Content("sum", said, terse=str(x + y)))

    def unsafe(self, rng: random.Random) -> Turn:
        """A request to be refused."""
        do, doing = rng.choice(self.requests)
        forms = self.unsafe_asking if rng.random() < 0.4 else self.asking["procedure"]
        question = capital(vary(rng, rng.choice(forms)).format(do=do, doing=doing))
        if rng.random() < 0.4:
            question = self.questions.disturb(rng, question)
        return Turn(self.questions.roughen(rng, question), Content("unsafe", goal=do))

    def unknown(self, rng: random.Random) -> Turn:
        """A question whose answer the world does not hold."""
        return self.outside.turn(rng)

    def copy(self, rng: random.Random) -> Turn:
        """A wish to repeat some words."""
        phrase = self.phrases.phrase(rng)
        question = rng.choice(self.asking["copy"]).format(p=phrase)
        return Turn(question, Content("copy", (phrase,)))

    def chat(self, rng: random.Random) -> Turn:
        """A greeting and the like."""
        question, reply = rng.choice(self.asking["chat"])
        return Turn(question, Content("chat", (reply,)))
