"""The answers of one request as they are written: steps and scores in, pieces out. A stream sends
the pieces, everything else joins them, so that both have the same bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from urial_local.runtime.choices import FinishReason
from urial_local.runtime.prompt_scores import Scored, ScoreJob
from urial_local.runtime.rows import Completion, Request, Step
from urial_local.runtime.text_stream import TextStream
from urial_local.server.entries import Entry, Names, Offsets, laid_out, moved


@dataclass(frozen=True, slots=True)
class Piece:
    """What became certain of one answer. `done` comes with the last."""

    choice: int
    text: str
    entries: tuple[Entry, ...] = ()
    done: Completion | None = None


class Writing:
    """One answer's tokens and where they stand in its text. A token is told of with the text that
    it begins in, so that nothing is told of a frame's closing."""

    def __init__(self, names: Names, request: Request) -> None:
        self._names = names
        self._begun = request.tokens[len(request.tokens) - request.begun :] if request.begun else ()
        self._request = request
        self._begin()

    def _begin(self) -> None:
        self._offsets = Offsets(self._names.piece)
        stream = TextStream(self._names.piece, self._request.stop)
        for token in self._begun:
            stream.feed(token)
            self._offsets.take(token)
        # In characters: where the answer begins in what was written, how much of it is shown or was
        # known before, and how much was known.
        self._base, self._known = stream.begun()
        self._shown = self._known
        self._waiting: list[Entry] = []

    def take(self, step: Step) -> tuple[str, tuple[Entry, ...]]:
        """The step's text, and the entries of the tokens that begin in what is shown by now."""
        if step.again:
            self._begin()
            return "", ()
        ended = step.completion.end_token if step.completion else None
        for i, token in enumerate(step.tokens):
            if token != ended or i < len(step.tokens) - 1:
                self._waiting.append(Entry.chosen(step, i, self._offsets.take(token)))
        if step.text and self._shown == self._known == 0 and self._request.stop.framed:
            written = self._offsets.text
            self._base = len(written) - len(written.lstrip())
        self._shown += len(step.text)
        return step.text, self._told(step)

    def _told(self, step: Step) -> tuple[Entry, ...]:
        done = step.completion
        all_of_it = done is not None and done.finish_reason not in ("frame", "stop")
        end = self._base + self._shown
        told = [entry for entry in self._waiting if all_of_it or entry.offset < end]
        self._waiting = self._waiting[len(told) :]
        entries = [moved(entry, -self._base - self._known) for entry in told]
        if done is not None and done.end_token is not None:
            last = len(step.tokens) - 1
            entries.append(Entry.chosen(step, last, self._shown - self._known))
        return tuple(entries)


@dataclass(frozen=True, slots=True)
class Given:
    """A prompt that is repeated before its answer. `said`: its text, where it came as one."""

    tokens: Sequence[int]
    said: str | None


class Choice:
    """One answer of a request: its prompt's text and scores where they were asked for, then what
    the model writes."""

    def __init__(
        self,
        number: int,
        names: Names,
        request: Request | None,
        echoed: Given | None = None,
        scored: bool = False,
        asks_next: bool = False,
        echo: bool = False,
    ) -> None:
        """request: None where nothing is written, or only the one token that scoring the prompt
        tells (`asks_next`). echoed: the prompt, where its text is wanted (`echo`) or it is all
        there is. scored: the prompt's scores come first."""
        self.number, self.request = number, request
        self._names, self._echoed, self._asks_next = names, echoed, asks_next
        self._echo = echo
        self._blocked = scored
        self._later: list[Step] = []
        self._writing = Writing(names, request) if request else None
        self._base = 0  # characters of the prompt's text, which entries are counted from
        self.open = True

    def begin(self) -> Iterator[Piece]:
        """What is known at once."""
        if self._blocked:
            return
        text = ""
        if self._echoed and self._echo:
            text, _ = laid_out(self._names, self._echoed.tokens, self._echoed.said)
            self._base = len(text)
        if self._writing is None:
            tokens = len(self._echoed.tokens) if self._echoed else 0
            yield self._last(text, (), _stub("length", tokens))
        elif text:
            yield Piece(self.number, text)

    def scored(self, job: ScoreJob) -> Iterator[Piece]:
        """The prompt's scores are there."""
        assert self._echoed is not None
        text, starts = laid_out(self._names, self._echoed.tokens, self._echoed.said)
        self._base, self._blocked = len(text), False
        entries = [
            Entry.given(token, start, score)
            for token, start, score in zip(job.tokens, starts, job.scores, strict=True)
        ]
        if self._writing is None:
            yield self._ended_by_scores(job, text, entries)
            return
        yield Piece(self.number, text, tuple(entries))
        for step in self._later:
            yield from self.step(step)

    def _ended_by_scores(self, job: ScoreJob, text: str, entries: list[Entry]) -> Piece:
        done = _stub("length", len(job.tokens), job.cached)
        if self._asks_next:
            assert job.next is not None
            # Always there, the end token's, too: clients count N + 1 entries.
            entries = [*entries, Entry.given(job.next.token, len(text), job.next)]
            done = _one(self._names, job.next, done)
            text += done.text
        return self._last(text, tuple(entries), done)

    def step(self, step: Step) -> Iterator[Piece]:
        """The engine's step for its row."""
        if self._blocked:
            self._later.append(step)
            return
        assert self._writing is not None
        text, entries = self._writing.take(step)
        if self._base:
            entries = tuple(moved(entry, self._base) for entry in entries)
        if step.completion is not None:
            yield self._last(text, entries, step.completion)
        elif text or entries:
            yield Piece(self.number, text, entries)

    def _last(self, text: str, entries: tuple[Entry, ...], done: Completion) -> Piece:
        self.open = False
        return Piece(self.number, text, entries, done)


def _stub(reason: FinishReason, tokens: int, cached: int = 0) -> Completion:
    return Completion(finish_reason=reason, prompt_tokens=tokens, cached_tokens=cached)


def _one(names: Names, best: Scored, done: Completion) -> Completion:
    """The answer of one token, as the engine would have told of it."""
    ends = names.is_end(best.token)
    text = "" if ends else names.piece(best.token).decode("utf-8", "replace")
    return Completion(
        text=text,
        raw_text=text,
        tokens=() if ends else (best.token,),
        logprobs=() if ends else (best.logprob,),
        finish_reason="eos" if ends else "length",
        end_token=best.token if ends else None,
        prompt_tokens=done.prompt_tokens,
        cached_tokens=done.cached_tokens,
    )
