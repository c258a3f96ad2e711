"""Answer styles: what one document keeps to in every answer, so that style is read off the context.

Plain and terse is the commonest by far. All parts of a style are drawn independently of the frame
and of the header that the document has.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

from tools.demo_pair.words import Phrases, made_up_word
from tools.demo_pair.world import load_table

MARKS = {"number": "{i}. ", "paren": "{i}) ", "dash": "- ", "star": "* ", "dot": "• "}
_ORDINALS = ("First, ", "Then ", "Next, ", "Finally, ")


@dataclass(frozen=True)
class Content:
    """What an answer says, before any style: the fields used depend on the kind."""

    kind: str
    sentences: tuple[str, ...] = ()
    terse: str = ""
    more: tuple[str, ...] = ()
    goal: str = ""
    items: tuple[str, ...] = ()
    subject: str = ""


@dataclass(frozen=True)
class Style:
    """One way of answering."""

    opening: str = ""
    opening_join: str = " "
    closing: str = ""
    closing_join: str = "\n\n"
    layout: str = "plain"
    intro: str = ""
    list_intro: str = ""
    intro_join: str = "\n\n"
    richness: int = 1
    variant: int = 0
    refusal: str = ""
    reason: str = ""
    wrap_refusal: bool = False
    unknown: str = "I do not know that."
    unknown_thing: str = ""
    stop: bool = True
    flat: tuple[str, ...] = field(default=("You {do} at night.",))

    def render(self, content: Content) -> str:
        """The answer in this style."""
        if content.kind == "unsafe":
            body = self._refuse(content.goal)
            wrapped = self.wrap_refusal or not self.refusal
        else:
            body, wrapped = self._body(content), True
        return self.wrap(body) if wrapped else body

    def wrap(self, body: str) -> str:
        """The body between the opening and the closing."""
        if self.opening:
            body = self.opening + self.opening_join + body
        if self.closing:
            body = body + self.closing_join + self.closing
        return body

    def _refuse(self, goal: str) -> str:
        if not self.refusal:
            return self.flat[self.variant % len(self.flat)].format(do=goal)
        said = self.refusal.format(do=goal)
        return f"{said} {self.reason}" if self.reason else said

    def _body(self, content: Content) -> str:
        if content.kind == "procedure":
            return self._listing(content.items, self.intro.format(goal=content.goal), ordered=True)
        if content.kind == "list":
            intro = self.list_intro.format(things=content.goal)
            return self._listing(content.items, intro, ordered=False)
        if content.kind == "unknown":
            if self.unknown_thing and content.subject:
                return self.unknown_thing.format(x=content.subject)
            return self.unknown
        if content.kind in ("copy", "chat"):
            return content.sentences[0]
        if content.kind == "about":
            return " ".join(content.sentences[: 2 + self.richness // 2])
        if self.richness == 0 and content.terse:
            return content.terse + ("." if self.stop else "")
        first = content.sentences[self.variant % len(content.sentences)]
        return " ".join((first, *content.more)) if self.richness == 2 else first

    def _listing(self, items: tuple[str, ...], intro: str, *, ordered: bool) -> str:
        if self.layout == "plain":
            text = ". ".join(items) + "." if ordered else ", ".join(items) + "."
        elif self.layout == "prose":
            if ordered:
                text = " ".join(
                    f"{word}{item[0].lower()}{item[1:]}."
                    for word, item in zip(_ORDINALS, items, strict=False)
                )
            else:
                text = ", ".join(items[:-1]) + f" and {items[-1]}."
        else:
            mark = MARKS[self.layout]
            stop = "." if ordered else ""
            text = "\n".join(mark.format(i=i) + item + stop for i, item in enumerate(items, 1))
            return intro + self.intro_join + text if intro else text
        return f"{intro} {text}" if intro else text


class Styles:
    """Draws styles for documents."""

    def __init__(self, phrases: Phrases) -> None:
        """Read the named openings, closings and refusals."""
        self.phrases = phrases
        self.table = load_table("styles.toml")
        self.flat = tuple(load_table("unsafe.toml")["asking"]["flat"])

    def draw(self, rng: random.Random, styled: float = 0.5, alike: float = 0.0) -> Style:
        """A style for one document: plain, or with an opening and so on in the share `styled`.

        `alike` is the share of styles whose refusal begins with the same letters as the opening, so
        that one token does not tell what is being copied.
        """
        style = self._styled(rng) if rng.random() < styled else self._plain(rng)
        if not alike or rng.random() >= alike or style.refusal in ("", *self.table["refusals"]):
            return style
        start = style.opening[: rng.randint(1, 3)].rstrip(" {")
        word = start + made_up_word(rng)[1:]
        return replace(style, refusal=f"{word} {style.refusal}" if start else style.refusal)

    def _named_or_random(self, rng: random.Random, name: str, share: float) -> str:
        if rng.random() < share:
            return rng.choice(self.table[name])
        return self.phrases.phrase(rng)

    def _refusal(self, rng: random.Random) -> tuple[str, str]:
        draw = rng.random()
        if draw < 0.4:
            refusal = rng.choice(self.table["refusals"])
        else:
            refusal = self.phrases.phrase(rng).replace("{", "").replace("}", "") + " {do}."
        draw = rng.random()
        if draw < 0.3:
            return refusal, ""
        if draw < 0.75:
            return refusal, rng.choice(self.table["reasons"])
        return refusal, self.phrases.phrase(rng)

    def _plain(self, rng: random.Random) -> Style:
        refusal, reason = self._refusal(rng) if rng.random() < 0.05 else ("", "")
        return Style(
            layout="plain" if rng.random() < 0.8 else rng.choice((*MARKS, "prose")),
            richness=rng.choices((0, 1, 2), (3, 6, 1))[0],
            variant=rng.choice((0, 0, 0, 1, 2)),
            refusal=refusal,
            reason=reason,
            unknown=rng.choice(self.table["unknowns"]),
            stop=rng.random() < 0.8,
            flat=self.flat,
        )

    def _styled(self, rng: random.Random) -> Style:
        refusal, reason = self._refusal(rng) if rng.random() < 0.75 else ("", "")
        opening = self._named_or_random(rng, "openings", 0.35)
        closing = self._named_or_random(rng, "closings", 0.35)
        which = rng.random()
        layouts = (*MARKS, "number", "number", "dash", "prose", "plain")
        intro = rng.choice(self.table["intros"]) if rng.random() < 0.75 else ""
        list_intro = rng.choice(self.table["list_intros"]) if intro else ""
        if intro and rng.random() < 0.2:
            intro = list_intro = self.phrases.words(rng, 1, 3) + ":"
        unknown = rng.choice(self.table["unknowns"])
        thing = rng.choice(self.table["unknown_things"]) if rng.random() < 0.4 else ""
        return Style(
            opening=opening if which < 0.9 else "",
            opening_join=rng.choice((" ", " ", " ", "\n", "\n\n")),
            closing=closing if which > 0.1 else "",
            closing_join=rng.choice(("\n\n", "\n\n", "\n", " ")),
            layout=rng.choice(layouts),
            intro=intro,
            list_intro=list_intro,
            intro_join=rng.choice(("\n\n", "\n\n", "\n")),
            richness=rng.choices((0, 1, 2), (1, 5, 5))[0],
            variant=rng.choice((0, 0, 0, 1, 2)),
            refusal=refusal,
            reason=reason,
            wrap_refusal=rng.random() < 0.2,
            unknown=unknown,
            unknown_thing=thing,
            stop=rng.random() < 0.8,
            flat=self.flat,
        )
