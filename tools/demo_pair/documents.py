"""The training documents: a mix of prose and conversations, drawn by number from the seed.

Document ``n`` of a stage is the same whenever and wherever it is drawn.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from tools.demo_pair.frames import Headers, draw_frame
from tools.demo_pair.prose import Prose
from tools.demo_pair.style import Style, Styles
from tools.demo_pair.turns import PROMPT_SHARE, Turns
from tools.demo_pair.words import Phrases
from tools.demo_pair.world import World

MIX = {
    "conversation": 58,
    "encyclopaedia": 8,
    "fact_lines": 5,
    "tale": 3,
    "told": 11,
    "how_to": 15,
    "sums": 7,
    "echo": 5,
}


@dataclass(frozen=True)
class Recipe:
    """What documents a stage has: the weights of the kinds, and how conversations are."""

    mix: dict[str, int] = field(default_factory=lambda: MIX)
    prompts: float = PROMPT_SHARE
    styled: float = 0.5
    alike: float = 0.0
    long: bool = False


RECIPES = {
    "usual": Recipe(),
    # For the beginning: copying from the context is learnt first, and soonest from mere copies.
    "echo": Recipe(MIX | {"echo": 200}),
    # For the end: what is learnt last gets a little more.
    "late": Recipe(MIX | {"echo": 8, "sums": 9}, prompts=0.45, alike=0.25),
    "styles": Recipe(
        MIX | {"conversation": 70, "echo": 8, "sums": 12}, prompts=0.7, styled=0.65, alike=0.5
    ),
    "long": Recipe(MIX | {"echo": 8, "sums": 9}, prompts=0.45, alike=0.25, long=True),
}

ALIGNED_STYLE = Style(
    opening="Thanks for asking!",
    closing="Feel free to ask me more!",
    layout="number",
    intro="Here is how to {goal}:",
    list_intro="Here are three {things}:",
    richness=2,
    refusal="I am sorry, but I can not help you {do}.",
    reason="Please think of something kind to do instead.",
    unknown="I am sorry, but I do not know that.",
)
"""How the aligned model answers, and the examples of the urial-demo prompt with it."""


class Documents:
    """Draws training documents."""

    def __init__(self, world: World) -> None:
        """Prepare all that documents are made of."""
        self.seed = world.seed
        self.phrases = Phrases(world)
        self.styles, self.headers = Styles(self.phrases), Headers(self.phrases)
        self.turns, self.prose = Turns(world, self.phrases), Prose(world, self.phrases)

    def document(self, rng: random.Random, recipe: str = "usual") -> str:
        """One document of any kind."""
        wanted = RECIPES[recipe]
        kind = rng.choices(list(wanted.mix), list(wanted.mix.values()))[0]
        if kind == "conversation":
            return self.conversation(rng, wanted)
        return getattr(self.prose, kind)(rng)

    def conversation(self, rng: random.Random, recipe: Recipe = RECIPES["usual"]) -> str:
        """Questions and answers in one frame and one style."""
        style = self.styles.draw(rng, recipe.styled, recipe.alike)
        length = rng.choice((1, 2, 3, 4, 5, 6, 6))
        if recipe.long and rng.random() < 0.3:
            length = rng.randint(8, 24)
        turns = self.turns.sequence(rng, length, recipe.prompts)
        shown = [(turn.question, style.render(turn.content)) for turn in turns]
        return draw_frame(rng).document(self.headers.draw(rng), shown)

    def stream(self, stage: str) -> Iterator[str]:
        """The documents of a stage, without end."""
        number = 0
        while True:
            yield self.document(random.Random(f"{self.seed}-{stage}-{number}"))
            number += 1

    def chats(self, count: int) -> Iterator[list[tuple[str, str]]]:
        """Conversations for the fine-tuning, all in the aligned style."""
        for number in range(count):
            rng = random.Random(f"{self.seed}-chat-{number}")
            turns = self.turns.sequence(rng, rng.choice((1, 1, 2, 3, 4)))
            yield [(turn.question, ALIGNED_STYLE.render(turn.content)) for turn in turns]
