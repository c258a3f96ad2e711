"""Nudging by words: a base and a guide of different vocabularies exchange bytes.

Where the base is unsure, or sure of an end that the guide does not see, the guide writes one word:
blanks and what follows them up to the next blank. It stands in its own vocabulary; as text it
becomes several tokens of the base. All rows that are being nudged share the guide's decodes. The
guide's words are its most probable tokens, whatever the row's sampling.

It ends an answer where its first token at a nudged position ends it, and where it would put the
same word for the third time in a row with the same text between, which is a loop of the two.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from urial_local.runtime.choices import Choice
from urial_local.runtime.choosers import NOT_FINITE, Sample
from urial_local.runtime.guidance import Guidance
from urial_local.runtime.guided import FULL, Ends, Sure, answer_of, stays
from urial_local.runtime.guides import Rule, needs_guide
from urial_local.runtime.rows import Row
from urial_local.runtime.sequences import Logits
from urial_local.runtime.vocabulary import Ids
from urial_local.runtime.voice import Voice

LONGEST = 16  # of the guide's tokens in a word, since not every script has blanks
_TAIL = 16  # tokens before a word that its own tokens may hang on
_WORD = re.compile(rb"(\s*\S+)\s")


class Text(Protocol):
    """What is needed of a vocabulary here."""

    def is_end(self, token: int) -> bool: ...
    def piece(self, token: int) -> bytes: ...
    def detokenize(self, tokens: list[int]) -> str: ...
    def continuation(self, prompt: str, answer: str) -> Ids: ...


@dataclass(slots=True)
class _Word:
    """A word that the guide is writing for a row."""

    row: Row
    before: list[int]  # what the guide is told before it: its prompt, and the answer so far
    written: list[int] = field(default_factory=list)
    text: bytes = b""
    done: bool = False
    error: str = ""
    ahead: int = -1  # the token that showed where the word ends, where it is not a part of it

    def take(self, token: int, piece: bytes, is_end: bool) -> None:
        if is_end or not piece:
            self.done, self.ahead = True, token
            return
        self.written.append(token)
        said, self.text = self.text, self.text + piece
        if whole := _WORD.match(self.text):
            self.text, self.done = whole.group(1), True
            if self.text == said:
                self.ahead = self.written.pop()
        self.done = self.done or len(self.written) == LONGEST


class Loops:
    """Whether a word comes for the third time in a row, with the same text between."""

    def __init__(self) -> None:
        self._last: dict[Hashable, deque[tuple[int, tuple[int, ...]]]] = {}

    def third(self, key: Hashable, answer: Sequence[int], word: tuple[int, ...]) -> bool:
        """Note a word that is to follow an answer."""
        last = self._last.setdefault(key, deque(maxlen=2))
        here = len(answer)
        looped = False
        if len(last) == 2 and all(other == word for _, other in last):
            (first, _), (second, _) = last
            n = len(word)
            looped = list(answer[first + n : second]) == list(answer[second + n : here])
        last.append((here, word))
        return looped

    def forget(self, key: Hashable) -> None:
        self._last.pop(key, None)


class GuidedWords:
    """One token a row from the base, or the tokens of a guide's word."""

    def __init__(
        self,
        rule: Rule,
        voice: Voice,
        base: Text,
        guide: Text,
        end: int,
        *,
        room: int = 1 << 30,
        eager: bool = False,
    ) -> None:
        """end: the base's own. room, eager: as for Guided; a guide that is asked where its word is
        not needed writes none."""
        self.rule, self.voice, self.base, self.guide = rule, voice, base, guide
        self.ends, self.room, self.eager = Ends(base, guide, end), room, eager
        self._sample, self._loops = Sample(), Loops()
        # By row: what the guide was told when its last word had ended, and what it would say next.
        self._ahead: dict[int, tuple[list[int], int]] = {}

    @property
    def threads(self) -> int:
        return self._sample.threads

    @threads.setter
    def threads(self, threads: int) -> None:
        self._sample.threads = threads

    def choose(self, rows: Sequence[Row], logits: Logits) -> list[Choice]:
        sure = Sure.of(logits)
        needed = [self._asks(row, sure, i) for i, row in enumerate(rows)]
        words = self._words(
            [row for i, row in enumerate(rows) if needed[i] or (self.eager and row.request.others)]
        )
        free = [
            i
            for i, row in enumerate(rows)
            if not needed[i] or self._agrees(words.get(row.index), sure.first[i], sure.top[i])
        ]
        drawn = self._sample.choose([rows[i] for i in free], [logits[i] for i in free])
        choices = dict(zip(free, drawn, strict=True))
        for i, row in enumerate(rows):
            if i not in choices:
                choices[i] = self._nudged(row, words.get(row.index), sure.top[i])
            elif row.request.others:
                spent = Guidance(decoded=self.voice.spent(row.index))
                found = choices[i]
                choices[i] = Choice(
                    found.tokens, found.logprobs, found.top, found.error, guidance=spent
                )
        return [choices[i] for i in range(len(rows))]

    def forget(self, row: Row) -> None:
        self.voice.forget(row.index, stays(row))
        self._loops.forget(row.index)
        self._ahead.pop(row.index, None)

    def _asks(self, row: Row, sure: Sure, i: int) -> bool:
        """Not within a character: half of one is not text to hand over."""
        if not row.request.others or np.isnan(sure.top[i]):
            return False
        ends = self.base.is_end(sure.first[i])
        return needs_guide(self.rule, sure.top[i], ends) and self._text(row) is not None

    def _agrees(self, word: _Word | None, first: int, top: float) -> bool:
        """Whether the base's own choice stands: it is sure of an end, and the guide ends, too."""
        if word is None or word.error or top < self.rule.gamma or not self.base.is_end(first):
            return False
        return not word.text

    def _text(self, row: Row) -> str | None:
        """The answer so far; None in the middle of a character."""
        raw = b"".join(self.base.piece(token) for token in answer_of(row))
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            return None if error.end == len(raw) else raw.decode("utf-8", "replace")

    def _words(self, rows: Sequence[Row]) -> dict[int, _Word]:
        """The guide's next word for each row, by the row's number; none where it has no room."""
        words = {}
        for row in rows:
            prompt = [int(token) for token in row.request.others[0]]
            answer = self.guide.continuation(
                self.guide.detokenize(prompt[-_TAIL:]), self._text(row) or ""
            )
            before = [*prompt, *(int(token) for token in answer)]
            if len(before) + LONGEST <= self.room:
                words[row.index] = word = _Word(row, before)
                told, token = self._ahead.get(row.index, ([], -1))
                if token >= 0 and told == before:  # a word right after a word
                    word.take(token, self.guide.piece(token), self.guide.is_end(token))
        while writing := [word for word in words.values() if not word.done]:
            heard = self.voice.logits([(w.row.index, [*w.before, *w.written]) for w in writing])
            for word, logits in zip(writing, heard, strict=True):
                token = int(logits.argmax())
                if not np.isfinite(logits[token]):
                    word.error, word.done = NOT_FINITE, True
                    continue
                word.take(token, self.guide.piece(token), self.guide.is_end(token))
        for index, word in words.items():
            if word.ahead >= 0:
                self._ahead[index] = [*word.before, *word.written], word.ahead
        return words

    def _nudged(self, row: Row, word: _Word | None, top: float) -> Choice:
        """The guide's word as the base's tokens, or its end."""
        if word is None:
            return FULL
        if word.error:
            return Choice((), (), error=word.error)
        spent = self.voice.spent(row.index)
        text = word.text.decode("utf-8", "ignore")
        tail = self.base.detokenize([int(t) for t in row.tokens[-_TAIL:]])
        found = self.base.continuation(tail, text) if text else ()
        tokens = tuple(int(token) for token in found) or (self.ends.end,)
        at = tuple(range(len(tokens)))
        guidance = Guidance(at, (top,) * len(at), spent)
        if text and self._loops.third(row.index, answer_of(row), tokens):
            return Choice((), (), ends="loop", guidance=Guidance(decoded=spent))
        return Choice(tokens, (None,) * len(at), guidance=guidance)
