"""What clients ask for, checked and frozen. A field that would change the answer, and that is not
supported, is an error that names it; harmless ones pass, since every client has some of its own."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import Any

from urial_local.base import limits
from urial_local.base.errors import UsageError
from urial_local.runtime.sampling import Sampling
from urial_local.runtime.tilt import MOST_BIAS, MOST_PENALTY, Tilt
from urial_local.server.errors import ApiError, wrong
from urial_local.server.fields import Fields, token_ids

MAX_N, MAX_PROMPTS, MAX_CHOICES, MAX_LOGPROBS, MAX_MESSAGES = 32, 1024, 4096, 20, 10_000
MAX_BIAS = 1024  # tokens
COMPLETION_TOKENS = 16  # OpenAI's default
# Fields that change the answer, and the values with which they do not.
UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "suffix": ("",),
    "audio": (),
    "prediction": (),
    "modalities": (["text"], []),
    "web_search_options": (),
    "json_schema": ({}, ""),
    "grammar": ("",),
    "guided_json": ({}, ""),
    "guided_regex": ("",),
    "guided_choice": ([],),
    "guided_grammar": ("",),
    "structured_outputs": ({},),
    "min_tokens": (0,),
    "ignore_eos": (False,),
    "use_beam_search": (False,),
    "stop_token_ids": ([],),
    "bad_words": ([],),
    "typical_p": (0, 1),
    "mirostat": (0,),
    "dry_multiplier": (0,),
    "xtc_probability": (0,),
    "length_penalty": (1,),
    "prompt_logprobs": (0, False),
    "chat_template": ("",),
    "images": ([],),
}


@dataclass(frozen=True, slots=True)
class Draw:
    """How tokens are drawn, as far as the client said; None where the prompt's recommendation and
    our defaults stand."""

    temperature: float | None = None
    top_p: float | None = None
    min_p: float | None = None
    top_k: int | None = None
    repeat_penalty: float | None = None
    seed: int = 0

    def over(self, recommended: Sampling) -> Sampling:
        """Raises ApiError for numbers that no sampling has."""
        chosen = {
            name: value
            for name in ("temperature", "top_p", "min_p", "top_k", "repeat_penalty")
            if (value := getattr(self, name)) is not None
        }
        try:
            return replace(recommended, seed=self.seed, **chosen)
        except UsageError as error:
            name = next((n for n in chosen if f"`{n}`" in error.message), None)
            raise wrong(error.message.replace("`", ""), name) from None


@dataclass(frozen=True, slots=True)
class Common:
    """What both endpoints take."""

    model: str
    draw: Draw
    tilt: Tilt
    max_tokens: int | None  # None: the default; -1: as long as the context allows
    n: int
    stop: tuple[str, ...]
    stream: bool
    usage: bool  # at the end of a stream
    tokens: bool  # our own data of each token
    guide: bool = True  # whether the guide has a say, where there is one


@dataclass(frozen=True, slots=True)
class Completion:
    """POST /v1/completions. `prompts` are texts or ids."""

    common: Common
    prompts: tuple[str | list[int], ...]
    echo: bool
    logprobs: int | None  # how many of the most probable tokens; None for no log-probabilities
    names_as_ids: bool


@dataclass(frozen=True, slots=True)
class Said:
    """A message, with its place in the request."""

    role: str  # system, user or assistant
    content: str
    param: str


@dataclass(frozen=True, slots=True)
class Chat:
    """POST /v1/chat/completions. `go_on`: the last message is the beginning of the answer;
    `prefill`: ids that the answer begins with."""

    common: Common
    messages: tuple[Said, ...]
    logprobs: int | None
    go_on: bool
    prefill: tuple[int, ...]


def completion(fields: Fields) -> Completion:
    """Raises ApiError."""
    common = _common(fields, ("max_tokens",), 0)
    best_of = fields.whole("best_of", 1, MAX_N, common.n)
    if best_of != common.n:
        raise wrong("best_of other than n is not supported.", "best_of")
    logprobs = fields.get("logprobs")
    count = None
    if logprobs is not None and logprobs is not False:
        count = fields.whole("logprobs", 0, MAX_LOGPROBS, 0)
    prompts = _prompts(fields.get("prompt"))
    if len(prompts) * common.n > MAX_CHOICES:
        raise wrong(f"A request may have {MAX_CHOICES:,} answers in all.", "n")
    return Completion(
        common,
        prompts,
        fields.flag("echo"),
        count,
        fields.flag("return_tokens_as_token_ids"),
    )


def chat(fields: Fields) -> Chat:
    """Raises ApiError."""
    common = _common(fields, ("max_completion_tokens", "max_tokens"), 1)
    if fields.flag("echo"):
        raise wrong("echo is for /v1/completions only.", "echo")
    asked = fields.flag("logprobs")
    top = fields.whole("top_logprobs", 0, MAX_LOGPROBS, 0)
    if top and not asked:
        raise wrong("top_logprobs needs logprobs to be true.", "top_logprobs")
    prefill = tuple(fields.ids("prefill_ids", limits.TOKENS))
    go_on = fields.flag("continue_final_message")
    if go_on and prefill:
        raise wrong("continue_final_message and prefill_ids exclude each other.", "prefill_ids")
    return Chat(common, messages(fields), top if asked else None, go_on, prefill)


def messages(fields: Fields) -> tuple[Said, ...]:
    """The messages of a conversation. Raises ApiError."""
    found = tuple(
        _message(item, f"messages[{i}]")
        for i, item in enumerate(fields.items("messages", MAX_MESSAGES))
    )
    if not found:
        raise wrong("messages must hold at least one message.", "messages")
    return found


def _common(fields: Fields, lengths: tuple[str, ...], least: int) -> Common:
    for name, harmless in UNSUPPORTED.items():
        value = fields.get(name)
        if value is not None and value not in harmless:
            raise wrong(f"{name} is not supported here.", name, "unsupported_parameter")
    given = [name for name in lengths if fields.has(name)]
    most: int | None = None
    if given:
        most = fields.whole(given[0], -1, limits.TOKENS, 0)
        if 0 <= most < least:
            raise wrong(f"{given[0]} must be at least {least}, or -1.", given[0])
    streaming = fields.flag("stream")
    options = fields.inner("stream_options")
    if options.all and not streaming:
        raise wrong("stream_options needs stream to be true.", "stream_options")
    own = fields.inner("urial")
    return Common(
        model=fields.text("model"),
        draw=_draw(fields),
        tilt=_tilt(fields),
        max_tokens=most,
        n=fields.whole("n", 1, MAX_N, 1),
        stop=fields.stops(),
        stream=streaming,
        usage=options.flag("include_usage"),
        tokens=own.flag("tokens"),
        guide=own.flag("guide") if own.has("guide") else True,
    )


def _tilt(fields: Fields) -> Tilt:
    """`logit_bias` maps ids to numbers. Whether the vocabulary has them is seen later."""
    given = fields.get("logit_bias")
    pairs = Fields({} if given == [] else fields.inner("logit_bias").all, "logit_bias.")
    if len(pairs.all) > MAX_BIAS:
        raise wrong(f"logit_bias may have {MAX_BIAS:,} tokens.", "logit_bias")
    bias: dict[int, float] = {}
    for key in pairs.all:
        if not key.isascii() or not key.isdecimal() or len(key) > 9:
            raise wrong('logit_bias must map token ids, such as "15", to numbers.', "logit_bias")
        value = pairs.number(key, -MOST_BIAS, MOST_BIAS)
        if value is None or int(key) in bias:
            raise wrong(f"logit_bias must have one number for the token {int(key)}.", "logit_bias")
        bias[int(key)] = value
    return Tilt(
        tuple((token, value) for token, value in bias.items() if value),
        fields.number("presence_penalty", -MOST_PENALTY, MOST_PENALTY) or 0.0,
        fields.number("frequency_penalty", -MOST_PENALTY, MOST_PENALTY) or 0.0,
    )


def _draw(fields: Fields) -> Draw:
    temperature = fields.number("temperature", 0, 1e6)
    if temperature is not None and temperature < limits.COLDEST:
        temperature = 0.0
    penalty = "repeat_penalty" if fields.has("repeat_penalty") else "repetition_penalty"
    top_k = fields.whole("top_k", -1, limits.TOKENS, -2)
    # Without a seed, to ask again is to draw again.
    seed = fields.whole("seed", -limits.SEED, limits.SEED, secrets.randbits(63))
    return Draw(
        temperature,
        fields.number("top_p", 0, 1),
        fields.number("min_p", 0, 1),
        None if top_k == -2 else max(0, top_k),
        fields.number(penalty, *limits.PENALTY),
        seed,
    )


def _prompts(value: Any) -> tuple[str | list[int], ...]:
    """A text, several, ids, or several of them."""
    expected: ApiError = wrong(
        "prompt must be a text, a list of texts, token ids or a list of lists of them.", "prompt"
    )
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not value:
        raise expected
    if all(isinstance(item, int) for item in value):
        return (token_ids(value, "prompt"),)
    if len(value) > MAX_PROMPTS:
        raise wrong(f"A request may have {MAX_PROMPTS:,} prompts.", "prompt")
    for item in value:
        if isinstance(item, list):
            token_ids(item, "prompt")
        elif not isinstance(item, str):
            raise expected
    return tuple(value)


def _message(item: Any, param: str) -> Said:
    if not isinstance(item, dict):
        raise wrong(f"{param} must be an object.", param)
    role = item.get("role")
    if role == "developer":
        role = "system"
    if role not in ("system", "user", "assistant"):
        raise wrong(f"{param}.role must be system, user or assistant.", f"{param}.role")
    if item.get("tool_calls"):
        raise wrong("Tools are not supported here.", f"{param}.tool_calls", "unsupported_parameter")
    return Said(role, _content(item.get("content"), f"{param}.content"), param)


def _content(value: Any, param: str) -> str:
    """A text, or a list of parts that are texts."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise wrong(f"{param} must be a text or a list of parts.", param)
    texts = []
    for part in value:
        if (
            not isinstance(part, dict)
            or part.get("type") != "text"
            or not isinstance(part.get("text"), str)
        ):
            raise wrong(f"{param} may hold parts of type text only.", param)
        texts.append(part["text"])
    return "".join(texts)
