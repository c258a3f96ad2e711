"""Random words and phrases, so that copying from the context pays in every document."""

from __future__ import annotations

import random

from tools.demo_pair.world import World, capital, common_words

_ONSETS = "b bl br c ch cl cr d dr f fl fr g gl gr h j k kl l m n p pl pr qu r s sh sk sl st str"
_ONSETS += " t th tr v w x y z"
_NUCLEI = "a e i o u a e i o u ai au ea ee ei ie oa oo ou y"
_CODAS = "b ck d ff g l ll m n nd ng nk nt p r rd rk rn rt s sh sk ss st t th x zz"
_ENDS = ["!", "!", "!", ".", ".", ".", ",", ":", "...", "?", "", "", "!!", " :)", ";", " -"]
_EMOJI = ["🙂", "😀", "🌟", "🎉", "👋", "🌍", "❤", "✅", "🚀", "🐢", "🌱", "🍀"]
_BRACKETS = [("**", "**"), ("*", "*"), ("[", "]"), ("(", ")"), ('"', '"'), ("<", ">"), ("_", "_")]


def made_up_word(rng: random.Random) -> str:
    """A word that no one has ever used, of one to three syllables."""
    parts = []
    for _ in range(rng.choice((1, 2, 2, 2, 3))):
        parts.append(rng.choice(_ONSETS.split()) + rng.choice(_NUCLEI.split()))
    if rng.random() < 0.6:
        parts.append(rng.choice(_CODAS.split()))
    return "".join(parts)


def made_up_name(rng: random.Random) -> str:
    """A made-up word with a capital and sometimes a common ending of names."""
    ends = ("", "", "", "ia", "land", "burg", "ton", "o", "a", "us")
    return capital(made_up_word(rng)) + rng.choice(ends)


class Phrases:
    """Draws random phrases from common words, words of the world and made-up words."""

    def __init__(self, world: World) -> None:
        """Collect the vocabulary once."""
        names = [word for thing in world.things for word in thing.name.split()]
        steps = [w for p in world.procedures for s in p.steps for w in s.lower().split()]
        self.vocabulary = sorted({*common_words(), *names, *steps})

    def word(self, rng: random.Random) -> str:
        """One word: mostly a real one, often a made-up one, now and then a number."""
        draw = rng.random()
        if draw < 0.62:
            return rng.choice(self.vocabulary)
        if draw < 0.95:
            return made_up_word(rng)
        return str(rng.randrange(1, 1000))

    def words(self, rng: random.Random, least: int, most: int) -> str:
        """A few words in a row."""
        return " ".join(self.word(rng) for _ in range(rng.randint(least, most)))

    def phrase(self, rng: random.Random) -> str:
        """A phrase as an answer may begin or end with: of any words, case and punctuation."""
        text = self.words(rng, 1, 6)
        draw = rng.random()
        if draw < 0.8:
            text = capital(text)
        elif draw < 0.85:
            text = text.upper()
        elif draw < 0.9:
            text = " ".join(capital(word) for word in text.split())
        if rng.random() < 0.15:
            head, _, rest = text.partition(" ")
            text = f"{head}, {rest}" if rest else head
        text += rng.choice(_ENDS)
        if rng.random() < 0.1:
            left, right = rng.choice(_BRACKETS)
            text = left + text.strip() + right
        if rng.random() < 0.06:
            text += " " + rng.choice(_EMOJI)
        return text.strip()
