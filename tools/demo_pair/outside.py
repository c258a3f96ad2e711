"""Questions whose answer the world does not hold, to be answered with "I do not know"."""

from __future__ import annotations

import random

from tools.demo_pair.questions import Questions, Turn
from tools.demo_pair.style import Content
from tools.demo_pair.wording import vary
from tools.demo_pair.words import Phrases, made_up_name, made_up_word
from tools.demo_pair.world import ATTRIBUTES, Thing, World, article, capital, load_table

_NAMED = {"animal": "beasts", "country": "places", "food": "foods", "tool": "tools"}
_NAMED |= {"trade": "trades"}
_SORTS = {
    "strange": 30,
    "person": 10,
    "work": 9,
    "loose": 17,
    "known": 12,
    "small_talk": 7,
    "thing": 9,
    "goal": 6,
}


class Outside:
    """Draws questions without an answer."""

    def __init__(self, world: World, phrases: Phrases, questions: Questions) -> None:
        """Read the names and the wordings."""
        self.world, self.phrases, self.questions = world, phrases, questions
        table = load_table("outside.toml")
        self.names, self.forms = table["names"], table["asking"]
        self.verbs = sorted({p.goal.split()[0] for p in world.procedures})

    def turn(self, rng: random.Random) -> Turn:
        """A question of any sort, and the thing it is about where it has one."""
        sort = rng.choices(list(_SORTS), list(_SORTS.values()))[0]
        question, subject = getattr(self, f"_{sort}")(rng)
        return Turn(self.questions.roughen(rng, question), Content("unknown", subject=subject))

    def _strange(self, rng: random.Random) -> tuple[str, str]:
        """A usual question about something that the world does not have."""
        kind = rng.choice(list(ATTRIBUTES))
        if kind == "place" or rng.random() < 0.55:
            name = made_up_name(rng) if kind == "country" else made_up_word(rng)
        else:
            name = rng.choice(self.names[_NAMED[kind]])
        thing = Thing(kind, name, name + "s", ())
        draw = rng.random()
        if draw < 0.65:
            question = self.questions.fact(rng, thing, rng.choice(ATTRIBUTES[kind]))
        elif draw < 0.82:
            question = self.questions.ask(rng, "about", **thing.slots())
        else:
            question = rng.choice(self.forms["thing"]).format(x=thing.one)
        return question, thing.one

    def _person(self, rng: random.Random) -> tuple[str, str]:
        subject = made_up_name(rng)
        if rng.random() < 0.4:
            subject = f"{subject} {made_up_name(rng)}"
        return rng.choice(self.forms["person"]).format(x=subject), subject

    def _work(self, rng: random.Random) -> tuple[str, str]:
        title = self.phrases.words(rng, 1, 3)
        subject = f"The {capital(title)}" if rng.random() < 0.5 else capital(title)
        return rng.choice(self.forms["work"]).format(x=subject), subject

    def _loose(self, rng: random.Random) -> tuple[str, str]:
        """A question of random words, as there are always some that nobody foresaw."""
        slots = {key: self.phrases.word(rng) for key in "wv"}
        if rng.random() < 0.5:
            slots["w"] = f"{slots['w']} {self.phrases.word(rng)}"
        form = rng.choice(self.forms["loose"])
        return form.format(**slots, N=made_up_name(rng), did=rng.choice(self.forms["deeds"])), ""

    def _known(self, rng: random.Random) -> tuple[str, str]:
        """Something about a known thing that is not among its facts."""
        thing = rng.choice(self.world.things)
        forms = self.forms["about_country" if thing.kind == "country" else "about_known"]
        return rng.choice(forms).format(**thing.slots()), ""

    def _small_talk(self, rng: random.Random) -> tuple[str, str]:
        return rng.choice(self.forms["small_talk"]), ""

    def _thing(self, rng: random.Random) -> tuple[str, str]:
        subject = rng.choice(self.names["things"])
        return rng.choice(self.forms["thing"]).format(x=subject), subject

    def _goal(self, rng: random.Random) -> tuple[str, str]:
        """A procedure that is not among the known: one of a list, or one with a made-up object."""
        goal = rng.choice(self.names["goals"])
        if rng.random() < 0.5:
            goal = f"{rng.choice(self.verbs)} {article(made_up_word(rng))}"
        form = vary(rng, rng.choice(self.questions.asking["procedure"]))
        return capital(form.format(do=goal)), f"how to {goal}"
