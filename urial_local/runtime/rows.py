"""What is asked of the engine, one row's course through it, and what comes of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt

from urial_local.runtime.choices import ENDED, Choice, FinishReason, Top
from urial_local.runtime.draw_rows import DrawTask
from urial_local.runtime.forms import Field, Form
from urial_local.runtime.guidance import Guidance, GuidanceLog
from urial_local.runtime.sampling import Sampler, Sampling
from urial_local.runtime.stops import StopPolicy
from urial_local.runtime.text_stream import TextStream
from urial_local.runtime.tilt import Tilt

RESTARTS = 3  # of an answer that ends before it begins


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt to go on from. `shared` says how many of its leading tokens other requests have
    too: those are decoded once and kept."""

    tokens: Sequence[int]
    sampling: Sampling = Sampling()
    stop: StopPolicy = StopPolicy()
    max_tokens: int = 512
    shared: int = 0
    form: Form | None = None  # fill this in; its opening ends the tokens, and max_tokens is its own
    tag: Hashable = None  # the caller's own; its steps carry it
    keep: bool = False  # its cells, once it has ended: another request will go on from them
    top_logprobs: int = 0  # how many of the most probable tokens are told with each token
    retry_empty: bool = False  # an answer that ends before it begins is begun again; see Row.again
    prefill: Sequence[int] = ()  # the answer begins with these
    others: Sequence[Sequence[int]] = ()  # the prompts that a chooser's further models see
    begun: int = 0  # how many of the last tokens are the answer's own beginning; its text is known
    alone: bool = False  # it begins with its shared prefix and nothing else that is at hand
    measured: bool = False  # rank and entropy are told with each token's top
    tilt: Tilt = Tilt()  # of single tokens' logits

    @property
    def given(self) -> int:
        """Tokens that are there before anything is chosen."""
        return len(self.tokens) + len(self.prefill)


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer, and how it came about."""

    text: str = ""
    raw_text: str = ""  # all that was decoded, the frame's ending included
    tokens: tuple[int, ...] = ()  # without the end token
    logprobs: tuple[float, ...] = ()  # nats, of each token that the model chose, before any changes
    finish_reason: FinishReason = "error"
    end_token: int | None = None  # the id that ended it, where one did
    prompt_tokens: int = 0
    cached_tokens: int = 0  # of the prompt, not decoded for this row
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    error: str = ""
    fields: tuple[Field, ...] = ()  # of a form that was filled in
    top: tuple[Top, ...] = ()  # where asked for: of each token chosen, the end token included
    restarts: int = 0  # how often it ended before it began, and was begun again
    prefill_tokens: int = 0  # of `tokens`, how many it was given to begin with
    guidance: Guidance | None = None  # where a guide had a say

    @staticmethod
    def failed(request: Request, error: str) -> Completion:
        return Completion(prompt_tokens=len(request.tokens), error=error)

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        text = f'<div style="white-space:pre-wrap">{escape(self.text)}</div>'
        said = f"{len(self.tokens):,} tokens, {self.finish_reason}"
        return f"{text}<small>{escape(said)}</small>"

    @property
    def ended(self) -> bool:
        """Whether the model ended its answer, rather than a limit or a fault."""
        return self.finish_reason in ENDED

    @property
    def mean_logprob(self) -> float | None:
        """Nats a token; None without tokens."""
        return sum(self.logprobs) / len(self.logprobs) if self.logprobs else None

    @property
    def tokens_per_second(self) -> float:
        """Rate after the first token, which belongs to the prefill."""
        written = len(self.tokens) - self.prefill_tokens
        if written < 2 or self.decode_seconds <= 0:
            return 0.0
        return (written - 1) / self.decode_seconds

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the answer and how it came about."""
        return {
            "text": self.text,
            "finish_reason": self.finish_reason,
            "prompt_tokens": self.prompt_tokens,
            "cached_tokens": self.cached_tokens,
            "completion_tokens": len(self.tokens),
            "prefill_tokens": self.prefill_tokens,
            "mean_logprob": self.mean_logprob,
            "timings": {
                "prefill_seconds": round(self.prefill_seconds, 6),
                "decode_seconds": round(self.decode_seconds, 6),
                "prefill_tokens": self.prompt_tokens - self.cached_tokens,
                "tokens_per_second": round(self.tokens_per_second, 2),
            },
            "restarts": self.restarts,
            **({"guide": self.guidance.as_dict()} if self.guidance else {}),
            "error": self.error or None,
        }


@dataclass(frozen=True, slots=True)
class Step:
    """What one decoded batch did for one row. `completion` is there once the row has ended."""

    index: int  # the request's number, in the order of asking
    tag: Hashable  # the request's
    tokens: tuple[int, ...]  # chosen now; none for a row that failed
    text: str  # text that became certain, often empty
    completion: Completion | None = None
    logprobs: tuple[float | None, ...] = ()  # nats, of each token chosen now; see Choice
    top: tuple[Top, ...] = ()  # where asked for, of each
    again: bool = False  # the answer had ended before it began: what was chosen for it is void
    guidance: Guidance | None = None  # where a guide had a say; places count from the first token

    @property
    def guided(self) -> bool:
        """Whether a guide wrote some of the tokens."""
        return self.guidance is not None and bool(self.guidance.at)


class Row:
    """A request on its way: its tokens so far and its place in the cache."""

    def __init__(
        self, index: int, request: Request, piece: Callable[[int], bytes], ctx_size: int
    ) -> None:
        self.index, self.request = index, request
        self.n_prompt = len(request.tokens)
        self.n_given = request.given  # prompt and prefill
        room = ctx_size - self.n_given
        longest = self._longest()
        self.limit = min(longest, room) if longest >= 0 else room
        self.limit_reason: FinishReason = "length" if self.limit == longest else "context"
        self.cached = 0
        self.error = ""
        self._piece = piece
        self._guidance = GuidanceLog(self.n_given - self.n_prompt)
        self.held = False  # live, but not decoded for now
        self._barred: list[int] = []  # tokens that the answer may not begin with
        self._started = self._first = self._last = 0.0
        self._begin()

    def _begin(self) -> None:
        """As it stands before its first token."""
        given = (*self.request.tokens, *self.request.prefill)
        self.tokens = [int(t) for t in given]  # prompt, then the answer
        self.sequence = -1
        self.n_past = 0  # tokens whose keys and values are in the cache
        self.rest = ""  # text that became certain only when the row ended
        self._sampler = Sampler(self.request.sampling, self.tokens)
        self._text = TextStream(self._piece, self.request.stop)
        self._logprobs: list[float] = []
        self._guidance.begin()
        self._top: list[Top] = []
        self._chunk = 0
        self._end_token: int | None = None
        # What was there before is read for where the answer stands (in a block of code?) only.
        for token in self.tokens[self.n_prompt - self.request.begun : self.n_prompt]:
            self._text.feed(token)
        self._known = self._text.begun()[1]  # characters
        self._skip = self._known - len(self._text.text)
        self._fresh = "".join(self._text.feed(t) for t in self.tokens[self.n_prompt :])

    @property
    def reserved(self) -> int:
        """Cells that the row may come to need."""
        return self.n_given + self.limit

    @property
    def prompt_done(self) -> bool:
        return self.n_past >= self.n_given

    @property
    def over(self) -> bool:
        """Whether what the answer begins with ends it."""
        return bool(self._text.scanner.reason)

    def start(self, sequence: int, kept: int, cached: int) -> None:
        self.sequence, self.n_past, self.cached = sequence, kept, cached
        self._started = self._started or time.perf_counter()

    def next_tokens(self, room: int) -> list[int]:
        """Tokens to decode next: what was chosen last, or a piece of the prompt."""
        chunk = self.tokens[self.n_past : self.n_past + room]
        self._chunk = len(chunk)
        return chunk

    def commit(self) -> list[int]:
        """The chunk was decoded: it is in the cache now."""
        chunk = self.tokens[self.n_past : self.n_past + self._chunk]
        self.n_past += self._chunk
        self._chunk = 0
        return chunk

    def draw(self, logits: npt.NDArray[np.float32]) -> DrawTask:
        """What the next token is drawn from. logits: float32 [n_vocab]."""
        sampler = self._sampler
        top = self.request.top_logprobs
        view = self._view(logits)
        return DrawTask(logits, view, sampler.sampling, sampler.seen(), sampler.uniform(), top)

    def accept(
        self, choice: Choice, is_end: Callable[[int], bool], now: float
    ) -> tuple[str, FinishReason | None]:
        """Take what was chosen. Returns the text that it made certain, and why the row ended."""
        text, reason = self._accepted(choice, is_end, now)
        return self._new(text), reason

    def _new(self, text: str) -> str:
        """Without what had been written before the row began, and was held back till now."""
        known = min(self._skip, len(text))
        self._skip -= known
        return text[known:]

    def _accepted(
        self, choice: Choice, is_end: Callable[[int], bool], now: float
    ) -> tuple[str, FinishReason | None]:
        if choice.error:
            self.error = choice.error
            return "", "error"
        self._first = self._first or now
        self._last = now
        self._guidance.take(choice.guidance, len(self.tokens) - self.n_prompt)
        text, self._fresh = self._fresh, ""  # what was given is told with what follows it
        for i, (token, logprob) in enumerate(zip(choice.tokens, choice.logprobs, strict=True)):
            self._sampler.accept(token)
            self._top += choice.top[i : i + 1]
            piece, reason = self._take(token, logprob, is_end(token))
            text += piece
            if reason:
                return text, reason
        return text, choice.ends

    def again(self, reason: FinishReason) -> bool:
        """Begin anew, where the answer has ended and is empty: with a fence, or the next turn's
        marker, or an end as the first thing written. What it began with is barred as its first
        token from now on. False where that was not asked for, or was tried RESTARTS times.

        Nothing of it was shown: a framed answer's text appears once there is more than fences.
        """
        if not self.request.retry_empty or self.request.begun or reason not in ("eos", "frame"):
            return False
        self.rest = self._text.close()
        if self._text.text or len(self._barred) == RESTARTS:
            return False
        written = self.tokens[self.n_given :]
        first = written[0] if written else self._end_token
        if first is None:
            return False
        self._barred.append(first)
        self._begin()
        return True

    def finish(self, reason: FinishReason) -> Completion:
        self.rest = self._new(self.rest + self._text.close())
        end = time.perf_counter()
        first = self._first or end
        return Completion(
            text=self._text.text[self._known :],
            raw_text=self._text.raw,
            tokens=tuple(self.tokens[self.n_prompt :]),
            logprobs=tuple(self._logprobs),
            finish_reason=reason,
            end_token=self._end_token,
            prompt_tokens=self.n_prompt,
            cached_tokens=self.cached,
            prefill_seconds=first - self._started,
            decode_seconds=max(0.0, self._last - first),
            error=self.error,
            fields=self._fields(),
            top=tuple(self._top),
            restarts=len(self._barred),
            prefill_tokens=self.n_given - self.n_prompt,
            guidance=self._guidance.whole(
                self.tokens[self.n_prompt - self.request.begun :],
                self._text,
                self._piece,
                self.request.begun,
                self._known,
            ),
        )

    def _take(
        self, token: int, logprob: float | None, is_end: bool
    ) -> tuple[str, FinishReason | None]:
        if is_end:
            self._end_token = token
            return "", "eos"
        self.tokens.append(token)
        if logprob is not None:
            self._logprobs.append(logprob)
        text = self._text.feed(token)
        return text, self._text.scanner.reason or self._full()

    def _full(self) -> FinishReason | None:
        return self.limit_reason if len(self.tokens) - self.n_given >= self.limit else None

    def _longest(self) -> int:
        return self.request.max_tokens

    def _view(self, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """What may be chosen from."""
        view = logits
        if self.request.tilt:
            answer = self.tokens[self.n_prompt - self.request.begun :]
            view = self.request.tilt.over(logits, answer)
        if self._barred and len(self.tokens) == self.n_given:
            view = view.copy()
            view[self._barred] = -np.inf
        return view

    def _fields(self) -> tuple[Field, ...]:
        return ()
