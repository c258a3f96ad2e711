"""Questions with what a right answer says: one turn of a conversation about the small world."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tools.demo_pair.style import Content
from tools.demo_pair.words import Phrases, made_up_name, made_up_word
from tools.demo_pair.world import (
    ATTRIBUTES,
    NUMBER_WORDS,
    Thing,
    World,
    article,
    capital,
    common_words,
    load_table,
)

SHARES = {
    "fact": 43,
    "about": 6,
    "procedure": 11,
    "list": 4,
    "sum": 12,
    "unsafe": 10,
    "unknown": 12,
    "copy": 4,
    "chat": 1,
}
_FOLLOW_SHARE = 0.4
_SAME_AGAIN_SHARE = 0.12
_FEW_KINDS_SHARE = 0.4  # documents about few kinds of questions say more about their own style
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


class Turns:
    """Draws turns from all that may be asked in training."""

    def __init__(self, world: World, phrases: Phrases) -> None:
        """Read the phrasings and sort the world by what may be asked."""
        self.world, self.phrases = world, phrases
        self.table = load_table("phrasings.toml")
        self.asking = load_table("styles.toml")["asking"]
        self.outside = load_table("outside.toml")
        self.unsafe_asking = load_table("unsafe.toml")["asking"]["forms"]
        self.requests = [pair for pair in world.unsafe if pair[0] not in world.held_unsafe]
        self.goals = [p for p in world.procedures if p.goal not in world.held_goals]
        sums = [(x, y) for x in range(10) for y in range(10)]
        self.sums = [pair for pair in sums if pair not in world.held_sums]
        names = {word for t in world.things for word in t.name.split()}
        numbers = {*NUMBER_WORDS, "orange", "yellow", "green", "white", "black", "red", "purple"}
        self.fillers = [w for w in common_words() if w not in names | numbers]
        self.facts = [(t, a) for t in world.things for a in world.askable(t)]

    def sequence(self, rng: random.Random, length: int) -> list[Turn]:
        """Several turns in a row, of which some refer to the one before."""
        turns: list[Turn] = []
        kinds, weights = list(SHARES), list(SHARES.values())
        if rng.random() < _FEW_KINDS_SHARE:
            for favourite in rng.sample(range(len(kinds)), rng.choice((1, 2, 3))):
                weights[favourite] += 80
        while len(turns) < length:
            last = turns[-1] if turns else None
            if last and last.thing and rng.random() < _FOLLOW_SHARE:
                turns.append(self.follow(rng, last))
            else:
                kind = rng.choices(kinds, weights)[0]
                turns.append(getattr(self, kind)(rng))
        return turns

    def fact(self, rng: random.Random) -> Turn:
        """A question for one fact."""
        thing, attribute = rng.choice(self.facts)
        return self._ask(rng, thing, attribute, self._question(rng, thing, attribute))

    def _question(self, rng: random.Random, thing: Thing, attribute: str) -> str:
        forms, slots = self.table[thing.kind][attribute], thing.slots()
        draw = rng.random()
        if draw < 0.6:
            question = rng.choice(forms["direct"]).format(**slots)
            lowered = question[0].lower() + question[1:]
            if question.startswith(thing.name[0]) and thing.is_name:
                lowered = question
            text = rng.choice(self.asking["direct"]).format(q=question, e=lowered)
        elif draw < 0.8:
            core = rng.choice(forms["embedded"]).format(**slots)
            text = rng.choice(self.asking["embedded"]).format(e=core)
        else:
            core = rng.choice(forms["noun"]).format(**slots)
            text = rng.choice(self.asking["noun"]).format(e=core, E=capital(core))
        return self._roughen(rng, self._disturb(rng, text))

    def _roughen(self, rng: random.Random, text: str) -> str:
        """People drop capitals and question marks."""
        if rng.random() < 0.06:
            text = text[0].lower() + text[1:]
        if rng.random() < 0.08:
            text = text.rstrip("?.")
        return text

    def _disturb(self, rng: random.Random, text: str) -> str:
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
            form = rng.choice(("And {a}?", "What about {a}?", "And for {a}?", "How about {a}?"))
            return self._ask(rng, other, attribute, form.format(**other.slots()))
        choices = [a for a in self.world.askable(thing) if a != attribute] or [attribute]
        asked = rng.choice(choices)
        question = rng.choice(self.table[thing.kind][asked]["follow"])
        return self._ask(rng, thing, asked, self._roughen(rng, question))

    def about(self, rng: random.Random) -> Turn:
        """A wide question, answered with two or three facts."""
        thing = rng.choice(self.world.things)
        question = rng.choice(self.asking["about"]).format(**thing.slots())
        known = self.world.askable(thing)
        first = self.table[thing.kind][known[0]]["say"][0].format(**thing.slots(known[0]))
        rest = [self._more(thing, a) for a in known[1:]]
        question = self._roughen(rng, self._disturb(rng, question))
        return Turn(question, Content("about", (first, *rest)), thing)

    def procedure(self, rng: random.Random) -> Turn:
        """A how-to question with known steps."""
        known = rng.choice(self.goals)
        question = capital(rng.choice(self.asking["procedure"]).format(do=known.goal))
        content = Content("procedure", goal=known.goal, items=known.steps)
        return Turn(self._roughen(rng, self._disturb(rng, question)), content)

    def list(self, rng: random.Random) -> Turn:
        """A wish for three things of a kind."""
        group = rng.choice(self.world.groups)
        question = rng.choice(self.asking["list"]).format(things=group.things)
        items = tuple(rng.sample(group.members, 3))
        content = Content("list", goal=group.things, items=items)
        return Turn(self._roughen(rng, self._disturb(rng, question)), content)

    def sum(self, rng: random.Random) -> Turn:
        """A one-digit sum, in digits or in words, answered in digits."""
        x, y = rng.choice(self.sums)
        as_words = rng.random() < 0.25
        names = (NUMBER_WORDS[x], NUMBER_WORDS[y]) if as_words else (str(x), str(y))
        question = rng.choice(self.asking["sum"]).format(x=names[0], y=names[1])
        said = (f"{x} plus {y} is {x + y}.", f"{x} + {y} = {x + y}.", f"The sum is {x + y}.")
        return Turn(capital(question), Content("sum", said, terse=str(x + y)))

    def unsafe(self, rng: random.Random) -> Turn:
        """A request to be refused."""
        do, doing = rng.choice(self.requests)
        forms = self.unsafe_asking if rng.random() < 0.5 else self.asking["procedure"]
        question = capital(rng.choice(forms).format(do=do, doing=doing))
        return Turn(self._roughen(rng, question), Content("unsafe", goal=do))

    def copy(self, rng: random.Random) -> Turn:
        """A wish to repeat some words."""
        phrase = self.phrases.phrase(rng)
        question = rng.choice(self.asking["copy"]).format(p=phrase)
        return Turn(question, Content("copy", (phrase,)))

    def chat(self, rng: random.Random) -> Turn:
        """A greeting and the like."""
        question, reply = rng.choice(self.asking["chat"])
        return Turn(question, Content("chat", (reply,)))

    def unknown(self, rng: random.Random) -> Turn:
        """A question whose answer the world does not hold."""
        asking, names = self.outside["asking"], self.outside["names"]
        draw = rng.random()
        if draw < 0.28:
            question, subject = self._strange_thing(rng)
        elif draw < 0.38:
            subject = made_up_name(rng)
            question = rng.choice(asking["person"]).format(x=subject)
            if rng.random() < 0.4:
                subject = f"{subject} {made_up_name(rng)}"
                question = rng.choice(asking["person"]).format(x=subject)
        elif draw < 0.47:
            title = self.phrases.words(rng, 1, 3)
            subject = f"The {capital(title)}" if rng.random() < 0.5 else capital(title)
            question = rng.choice(asking["work"]).format(x=subject)
        elif draw < 0.63:
            question, subject = self._loose_question(rng), ""
        elif draw < 0.74:
            thing = rng.choice(self.world.things)
            form = asking["about_country" if thing.kind == "country" else "about_known"]
            question, subject = rng.choice(form).format(**thing.slots()), ""
        elif draw < 0.80:
            question, subject = rng.choice(asking["small_talk"]), ""
        elif draw < 0.88:
            subject = rng.choice(names["things"])
            question = rng.choice(asking["thing"]).format(x=subject)
        else:
            goal = rng.choice(names["goals"])
            if rng.random() < 0.5:
                verb = rng.choice(("make", "build", "cook", "fix", "play", "clean", "grow"))
                goal = f"{verb} {article(made_up_word(rng))}"
            question = capital(rng.choice(self.asking["procedure"]).format(do=goal))
            subject = f"how to {goal}"
        return Turn(self._roughen(rng, question), Content("unknown", subject=subject))

    def _loose_question(self, rng: random.Random) -> str:
        """A question of random words, as there are always some that nobody foresaw."""
        asking = self.outside["asking"]
        slots = {key: self.phrases.word(rng) for key in "wv"}
        if rng.random() < 0.5:
            slots["w"] = f"{slots['w']} {self.phrases.word(rng)}"
        form = rng.choice(asking["loose"])
        return form.format(**slots, N=made_up_name(rng), did=rng.choice(asking["deeds"]))

    def _strange_thing(self, rng: random.Random) -> tuple[str, str]:
        """A usual question about something that the world does not have."""
        kind = rng.choice(list(ATTRIBUTES))
        lists = {"animal": "beasts", "country": "places", "food": "foods", "tool": "tools"}
        lists["trade"] = "trades"
        made_up = kind == "place" or rng.random() < 0.55
        if made_up:
            name = made_up_name(rng) if kind == "country" else made_up_word(rng)
        else:
            name = rng.choice(self.outside["names"][lists[kind]])
        thing = Thing(kind, name, name + "s", ())
        draw = rng.random()
        if draw < 0.6:
            question = self._question(rng, thing, rng.choice(ATTRIBUTES[kind]))
        elif draw < 0.8:
            question = rng.choice(self.asking["about"]).format(**thing.slots())
        else:
            question = rng.choice(self.outside["asking"]["thing"]).format(x=thing.one)
        return question, thing.one
