"""What a chooser returns for a row, and what is kept of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from urial_local.runtime.guidance import Guidance

# eos: the model ended its answer; frame: its closing fence, or the next turn; stop: a stop string;
# length: max_tokens; context: no room is left; form: it is filled in; loop: a guide put the same
# again and again; error.
FinishReason = Literal["eos", "frame", "stop", "length", "context", "form", "loop", "error"]
ENDED: tuple[FinishReason, ...] = ("eos", "frame", "stop")  # by itself


@dataclass(frozen=True, slots=True)
class Top:
    """A token that the model chose, and the most probable ones in its place, by the model's own
    distribution, before any change to it."""

    token: int
    logprob: float  # nats
    ids: tuple[int, ...]  # the most probable first; of equals the lower id
    logprobs: tuple[float, ...]  # nats
    rank: int = 0  # of the token, from 1; 0 where it was not asked for
    entropy: float | None = None  # nats, of the distribution; None where it was not asked for


@dataclass(frozen=True, slots=True)
class Choice:
    """What a row goes on with: one token, or several in order."""

    tokens: tuple[int, ...]
    # nats, of each, before any change to the distribution that it was drawn from; None for a token
    # that no distribution over this vocabulary gave
    logprobs: tuple[float | None, ...]
    top: tuple[Top, ...] = ()  # where asked for, of each
    error: str = ""  # why there is none
    ends: FinishReason | None = None  # the row is over after these tokens
    guidance: Guidance | None = None  # where a guide had a say; places count from the first token
