"""From what a client asked to token ids: messages go through the prompt, completions are raw.

A system message goes into the prompt's system text, behind the prompt's own, where the frame has
its system text; a chat template gets it as its system message. Nothing is dropped: what does not
fit the context is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from urial_local.base.errors import UrialError
from urial_local.prompting.markers import contain
from urial_local.prompting.prompts import Prompt, Rendered, Turn
from urial_local.runtime.rows import Request
from urial_local.runtime.sampling import Sampling, row_seed
from urial_local.runtime.tilt import Tilt
from urial_local.server.errors import told, too_long, wrong
from urial_local.server.fields import token_ids
from urial_local.server.lanes import Lane
from urial_local.server.requests import COMPLETION_TOKENS, Chat, Common, Completion, Said
from urial_local.tasks.prompted import PromptedModel

EMPTY = "The prompt is empty, so there is nothing to continue."
DETAILS = 10  # most probable tokens in our own data of each token


@dataclass(frozen=True, slots=True)
class Talk:
    """A conversation as the frame has it."""

    system: str
    turns: tuple[Turn, ...]
    query: str
    begun: str = ""  # of the answer


def talk_of(messages: Sequence[Said], go_on: bool = False) -> Talk:
    """Raises ApiError for an order of roles that is not a conversation. Neighbours of one role are
    one message, with a blank line between them."""
    merged: list[Said] = []
    for message in messages:
        if merged and merged[-1].role == message.role:
            before = merged[-1]
            merged[-1] = replace(before, content=f"{before.content}\n\n{message.content}")
        else:
            merged.append(message)
    system = merged.pop(0).content if merged and merged[0].role == "system" else ""
    for i, message in enumerate(merged):
        if message.role == "system":
            raise wrong(
                "A system message can only come first: the prompt's frame has no place for"
                " it between turns.",
                message.param,
            )
        if message.role != ("user", "assistant")[i % 2]:
            raise wrong("The conversation must begin with a user message.", message.param)
    if not merged:
        raise wrong("There is no user message.", "messages")
    begun = ""
    if merged[-1].role == "assistant":
        if not go_on:
            raise wrong(
                "The last message is the assistant's. To have it continued, set"
                " continue_final_message to true.",
                merged[-1].param,
            )
        begun = merged.pop().content
    elif go_on:
        raise wrong("The last message is not the assistant's.", "continue_final_message")
    pairs = zip(merged[:-1:2], merged[1::2], strict=True)
    turns = tuple(Turn(query.content, answer.content) for query, answer in pairs)
    return Talk(system, turns, merged[-1].content, begun)


def asker_for(lane: Lane, prompt: str, system: str) -> PromptedModel:
    """The model under a prompt, with a client's system text in it. A guide sees that, too."""
    asker = lane.asker(prompt)
    if not system:
        return asker
    # Where the guide is asked under the base's prompt, that has the text already.
    follows = lane.guide is not None and lane.guide.follows
    changed = None if follows else lambda guide: with_system(guide.prompt, system, guide)
    return lane.under(with_system(asker.prompt, system, asker), changed)


def with_system(prompt: Prompt, text: str, asker: PromptedModel) -> Prompt:
    text = contain(text, prompt.frame.markers, asker.markers)
    own = prompt.system.rstrip("\n")
    joined = f"{own}\n\n{text}" if own else text
    return replace(prompt, system=joined if prompt.frame.template == "model" else f"{joined}\n")


def chat_tokens(
    lane: Lane, prompt: str, talk: Talk, prefill: Sequence[int] = ()
) -> tuple[Request, Rendered]:
    """What the engine is asked, with what the answer begins with. Raises ApiError."""
    try:
        asker = asker_for(lane, prompt, talk.system)
        request = asker.request(talk.query, talk.turns)
        rendered = asker.render(talk.query, talk.turns)
        begun = list(token_ids(list(prefill), "prefill_ids", lane.model.vocab.size))
        if talk.begun:
            begun = lane.model.vocab.continuation(
                rendered.text,
                talk.begun,
                parse_special=rendered.parse_special,
                literals=rendered.literals,
            ).tolist()
    except UrialError as error:
        raise told(error, "messages") from None
    tokens = [*request.tokens, *begun]
    if not tokens:
        raise wrong(EMPTY, "messages")
    if len(tokens) >= lane.ctx_size:
        raise too_long(len(tokens), lane.ctx_size, "messages")
    # A client's own system text is not kept on disk: only a shared prefix is.
    shared = 0 if talk.system else request.shared
    return replace(request, tokens=tokens, begun=len(begun), shared=shared), rendered


def chat_requests(lane: Lane, prompt: str, asked: Chat) -> list[Request]:
    """One for each answer."""
    talk = talk_of(asked.messages, asked.go_on)
    request, _ = chat_tokens(lane, prompt, talk, asked.prefill)
    common = asked.common
    most = request.max_tokens if common.max_tokens is None else common.max_tokens
    top = max(asked.logprobs or 0, DETAILS if common.tokens else 0)
    request = replace(
        request,
        max_tokens=most,
        sampling=common.draw.over(request.sampling),
        stop=replace(request.stop, strings=(*request.stop.strings, *common.stop)),
        keep=True,
        alone=lane.plan.exact,
        top_logprobs=top,
        measured=common.tokens,
        others=request.others if common.guide else (),
        tilt=tilt_for(lane, common),
    )
    return seeded(request, common)


def tilt_for(lane: Lane, common: Common) -> Tilt:
    """Raises ApiError for ids that the vocabulary lacks."""
    token_ids([token for token, _ in common.tilt.bias], "logit_bias", lane.model.vocab.size)
    return common.tilt


def completion_tokens(lane: Lane, asked: Completion) -> list[list[int]]:
    """The ids of each prompt. A text is read with its control tokens, and gets BOS where the model
    wants it; ids stay as they are. Raises ApiError."""
    vocab = lane.model.vocab
    found = []
    for prompt in asked.prompts:
        if isinstance(prompt, str):
            try:
                ids = vocab.tokenize(prompt, parse_special=True).tolist()
            except UrialError as error:
                raise told(error, "prompt") from None
        else:
            ids = token_ids(prompt, "prompt", vocab.size)
        if not ids:
            raise wrong(EMPTY, "prompt")
        # Where only scores are wanted, no room for an answer is needed.
        if len(ids) >= lane.ctx_size + (asked.common.max_tokens == 0):
            raise too_long(len(ids), lane.ctx_size, "prompt")
        found.append(ids)
    return found


def completion_requests(lane: Lane, asked: Completion, tokens: list[int]) -> list[Request]:
    """One for each answer to a prompt; none where only its text or scores are wanted. Raises
    ApiError."""
    common = asked.common
    most = COMPLETION_TOKENS if common.max_tokens is None else common.max_tokens
    if most == 0:
        return []
    request = Request(
        tokens,
        common.draw.over(Sampling()),
        max_tokens=most,
        alone=lane.plan.exact,
        top_logprobs=max(asked.logprobs or 0, DETAILS if common.tokens else 0),
        measured=common.tokens,
        tilt=tilt_for(lane, common),
    )
    request = replace(request, stop=replace(request.stop, strings=common.stop))
    return seeded(request, common)


def seeded(request: Request, common: Common) -> list[Request]:
    """n of them, each with draws of its own; the first has the client's seed."""
    requests = [request]
    for i in range(1, common.n):
        seed = row_seed(request.sampling.seed, "choice", i)
        requests.append(replace(request, sampling=replace(request.sampling, seed=seed)))
    return requests
