"""The training documents: a mix of prose and conversations, drawn by number from the seed.

Document ``n`` of a stage is the same whenever and wherever it is drawn.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from tools.demo_pair.frames import Headers, draw_frame
from tools.demo_pair.prose import Prose
from tools.demo_pair.style import Style, Styles
from tools.demo_pair.turns import Turns
from tools.demo_pair.words import Phrases
from tools.demo_pair.world import World

MIX = {
    "conversation": 65,
    "encyclopaedia": 10,
    "fact_lines": 6,
    "tale": 4,
    "how_to": 5,
    "sums": 6,
    "echo": 5,
}

ECHO_MIX = MIX | {"echo": 200}
"""For the beginning: copying from the context is learnt first, and soonest from mere copies."""

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

    def document(self, rng: random.Random, mix: dict[str, int] = MIX, *, long: bool = False) -> str:
        """One document of any kind."""
        kind = rng.choices(list(mix), list(mix.values()))[0]
        if kind == "conversation":
            return self.conversation(rng, long=long)
        return getattr(self.prose, kind)(rng)

    def conversation(self, rng: random.Random, *, long: bool = False) -> str:
        """Questions and answers in one frame and one style."""
        style = self.styles.draw(rng)
        length = rng.choice((1, 2, 3, 4, 5, 6, 6))
        if long and rng.random() < 0.3:
            length = rng.randint(8, 24)
        turns = self.turns.sequence(rng, length)
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
