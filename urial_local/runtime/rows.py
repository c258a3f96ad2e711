"""What is asked of the engine, one row's course through it, and what comes of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from urial_local.runtime.draw_rows import DrawTask
from urial_local.runtime.forms import Field, Filling, Form
from urial_local.runtime.sampling import Sampler, Sampling
from urial_local.runtime.stops import StopPolicy
from urial_local.runtime.text_stream import TextStream


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


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer. `finish_reason`: eos (the model ended it), frame (closing fence or next turn),
    stop (a stop string), length (max_tokens), context (no room left), form (filled in), error."""

    text: str
    raw_text: str  # all that was decoded, the frame's ending included
    tokens: tuple[int, ...]  # without the end token
    logprobs: tuple[float, ...]  # nats, of each token that the model chose, before any changes
    finish_reason: str
    end_token: int | None  # the id that ended it, where one did
    prompt_tokens: int
    cached_tokens: int  # of the prompt, not decoded for this row
    prefill_seconds: float
    decode_seconds: float
    error: str = ""
    fields: tuple[Field, ...] = ()  # of a form that was filled in

    @staticmethod
    def failed(request: Request, error: str) -> Completion:
        return Completion(
            "", "", (), (), "error", None, len(request.tokens), 0, 0.0, 0.0, error=error
        )

    @property
    def tokens_per_second(self) -> float:
        """Rate after the first token, which belongs to the prefill."""
        if len(self.tokens) < 2 or self.decode_seconds <= 0:
            return 0.0
        return (len(self.tokens) - 1) / self.decode_seconds


class Row:
    """A request on its way: its tokens so far and its place in the cache."""

    def __init__(
        self, index: int, request: Request, piece: Callable[[int], bytes], ctx_size: int
    ) -> None:
        self.index, self.request = index, request
        self.tokens = [int(t) for t in request.tokens]  # prompt, then the answer
        self.n_prompt = len(self.tokens)
        room = ctx_size - self.n_prompt
        longest = request.form.max_tokens if request.form else request.max_tokens
        self.limit = min(longest, room) if longest >= 0 else room
        self.limit_reason = "length" if self.limit == longest else "context"
        self._filling = Filling(request.form) if request.form else None
        self.sequence = -1
        self.n_past = 0  # tokens whose keys and values are in the cache
        self.cached = 0
        self.error = ""
        self.rest = ""  # text that became certain only when the row ended
        self._sampler = Sampler(request.sampling, self.tokens)
        self._text = TextStream(piece, request.stop)
        self._logprobs: list[float] = []
        self._chunk = 0
        self._end_token: int | None = None
        self._started = self._first = self._last = 0.0

    @property
    def reserved(self) -> int:
        """Cells that the row may come to need."""
        return self.n_prompt + self.limit

    @property
    def prompt_done(self) -> bool:
        return self.n_past >= self.n_prompt

    def start(self, sequence: int, kept: int, cached: int) -> None:
        self.sequence, self.n_past, self.cached = sequence, kept, cached
        self._started = self._started or time.perf_counter()

    def next_tokens(self, room: int) -> list[int]:
        """Tokens to decode next: the answer's last one, or a piece of the prompt."""
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
        view = self._filling.masked(logits) if self._filling else logits
        return DrawTask(logits, view, sampler.sampling, sampler.seen(), sampler.uniform())

    def accept(self, token: int, logprob: float, is_end: bool, now: float) -> tuple[str, str]:
        """Take the token chosen. Returns the text it made certain, and why the row ended or ""."""
        self._first = self._first or now
        self._last = now
        self._sampler.accept(token)
        if self._filling is not None:
            return self._fill(self._filling, token, logprob)
        if is_end:
            self._end_token = token
            return "", "eos"
        self.tokens.append(token)
        self._logprobs.append(logprob)
        text = self._text.feed(token)
        if self._text.scanner.reason:
            return text, self._text.scanner.reason
        full = len(self.tokens) - self.n_prompt >= self.limit
        return text, self.limit_reason if full else ""

    def _fill(self, filling: Filling, token: int, logprob: float) -> tuple[str, str]:
        """The token and the fixed text that follows it; the next step decodes them at once."""
        appended = filling.take(token)
        self.tokens += appended
        self._logprobs.append(logprob)
        text = "".join(self._text.feed(t) for t in appended)
        if filling.done:
            return text, "form"
        full = len(self.tokens) - self.n_prompt >= self.limit
        return text, self.limit_reason if full else ""

    def finish(self, reason: str) -> Completion:
        self.rest = self._text.close()
        end = time.perf_counter()
        first = self._first or end
        return Completion(
            text=self._text.text,
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
            fields=tuple(self._filling.fields) if self._filling else (),
        )


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the longest common prefix."""
    n = min(len(a), len(b))
    if a[:n] == b[:n]:
        return n
    return next(i for i in range(n) if a[i] != b[i])
