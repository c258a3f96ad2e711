"""A model under a prompt: turns a query and its history into a request for the engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from urial_local.base.errors import ContextOverflow, TokenizeError
from urial_local.prompting.chat_template import ChatTemplate
from urial_local.prompting.markers import MarkerPolicy
from urial_local.prompting.prompts import Prompt, Rendered, Turn
from urial_local.runtime.engine import shared_length
from urial_local.runtime.model import Model
from urial_local.runtime.rows import Request
from urial_local.runtime.sampling import Sampling
from urial_local.runtime.stops import StopPolicy
from urial_local.runtime.vocabulary import Ids

SHORTEST = "urial-mini"  # of the prompts with examples
DEFAULT_MAX_TOKENS = 1024  # of an answer


class Others(Protocol):
    """What further models see of a question; see tasks.guide."""

    def others(
        self, query: str, history: Sequence[Turn], base: Sequence[int]
    ) -> tuple[Sequence[int], ...]: ...


@dataclass
class PromptedModel:
    """Model, prompt and the user's choices of how to decode; knows how to ask."""

    model: Model
    prompt: Prompt
    sampling: Sampling = Sampling()
    max_tokens: int = 1024
    markers: MarkerPolicy = "escape"
    stop_strings: tuple[str, ...] = ()
    prefill: str = ""  # every answer begins with it
    guide: Others | None = None
    _prefixes: dict[str, Ids] = field(default_factory=dict)

    def render(self, query: str, history: Sequence[Turn] = ()) -> Rendered:
        """Exactly the text that the model will see."""
        # Control tokens are gathered from the whole vocabulary: only for the frame that needs them.
        chat = chat_template(self.model) if self.prompt.frame.template == "model" else None
        return self.prompt.render(query, history, self.markers, chat)

    def request(
        self,
        query: str,
        history: Sequence[Turn] = (),
        sampling: Sampling | None = None,
        constant: str = "",
    ) -> Request:
        """What to ask of the engine. `constant` is how the queries of many requests begin: it is
        decoded once with the prompt's own constant prefix.

        Raises TokenizeError, UnsafeText or PromptError.
        """
        rendered = self.render(query, history)
        end = rendered.prefix_end
        if constant and (at := rendered.text.find(constant, end)) >= 0:
            end = at + len(constant)
        vocab = self.model.vocab
        try:
            tokens = vocab.tokenize(
                rendered.text, parse_special=rendered.parse_special, literals=rendered.literals
            )
        except TokenizeError as error:
            vocab.tokenize(query)  # is it the question's own fault? Then this says so.
            raise TokenizeError(
                f"The prompt {self.prompt.name!r} does not suit this model. {error.message}",
                "Use `prompt=raw`, or a prompt in the characters that the model knows.",
            ) from None
        prefix = self._prefix_tokens(rendered.text[:end], rendered)
        return Request(
            tokens=tokens.tolist(),
            sampling=sampling or self.sampling,
            stop=StopPolicy(rendered.fence, rendered.marker, self.stop_strings),
            max_tokens=self.max_tokens,
            # The last token of a prompt is decoded for its logits, so it is never shared.
            shared=min(shared_length(prefix, tokens), len(tokens) - 1) if len(prefix) else 0,
            retry_empty=rendered.framed,
            prefill=self._prefill_tokens(rendered),
            others=self.guide.others(query, history, tokens.tolist()) if self.guide else (),
        )

    def _prefill_tokens(self, rendered: Rendered) -> list[int]:
        """The answer's beginning, as it stands after the prompt."""
        if not self.prefill:
            return []
        ids = self.model.vocab.continuation(
            rendered.text,
            self.prefill,
            parse_special=rendered.parse_special,
            literals=rendered.literals,
        )
        return [int(token) for token in ids]

    def _prefix_tokens(self, text: str, rendered: Rendered) -> Ids:
        if text not in self._prefixes:
            tokens = self.model.vocab.tokenize(
                text, parse_special=rendered.parse_special, literals=rendered.literals
            )
            self._prefixes = {text: tokens}
        return self._prefixes[text]

    def fit(
        self, query: str, history: Sequence[Turn], ctx_size: int
    ) -> tuple[Request, tuple[Turn, ...]]:
        """A request that leaves room for an answer, and the turns it holds.

        The oldest turns go where they must; the constant prefix always stays. Once turns must go,
        enough go that the next turns need not drop again at once. Raises ContextOverflow when the
        query does not fit even alone.
        """
        reserve = min(self.max_tokens if self.max_tokens >= 0 else ctx_size, ctx_size // 4)
        turns = tuple(history)
        request = self._within(query, turns, ctx_size - reserve) if turns else None
        if turns and request is None:
            turns = self._dropping(query, turns, ctx_size - 2 * reserve)
        request = request or self.request(query, turns)
        if request.given >= ctx_size:
            hint = "Use a shorter question or a larger `ctx_size`."
            if self.prompt.name != SHORTEST:
                hint = f"{hint} `prompt={SHORTEST}` is short."
            raise ContextOverflow(
                f"The prompt {self.prompt.name!r} and the question have {request.given:,}"
                f" tokens together, and the context {ctx_size:,}: no room for an answer.",
                hint,
            )
        return request, turns

    def _within(self, query: str, turns: tuple[Turn, ...], room: int) -> Request | None:
        """The request if it has at most `room` tokens."""
        try:
            request = self.request(query, turns)
        except ContextOverflow:
            return None
        return request if request.given <= room else None

    def _dropping(self, query: str, turns: tuple[Turn, ...], room: int) -> tuple[Turn, ...]:
        """What is left of the turns when the fewest oldest are dropped, and at least one, that
        leave at most `room` tokens."""
        low, high = 1, len(turns)  # the number dropped, found by bisection
        while low < high:
            middle = (low + high) // 2
            if self._within(query, turns[middle:], room) is not None:
                high = middle
            else:
                low = middle + 1
        return turns[low:]


def try_prompt(prompt: Prompt, template: str) -> None:
    """Ask a trial question under a prompt, before any weights are loaded. `template`: the model's
    own, or an empty string.

    Raises PromptError where every question would fail: for want of a template, or by it or a frame.
    """
    # What stands for BOS and EOS is in the vocabulary; any two texts will do here.
    prompt.render("A trial?", chat=ChatTemplate(template, "<s>", "</s>") if template else None)


def chat_template(model: Model) -> ChatTemplate | None:
    """The model's own chat template with what it needs of the vocabulary, or None."""
    if not model.chat_template:
        return None
    vocab = model.vocab
    return ChatTemplate(
        model.chat_template,
        vocab.text(vocab.bos),
        vocab.text(vocab.eos),
        tuple(vocab.controls.values()),
    )


def answer_limit(prompt: Prompt, chosen: int | None) -> int:
    """Longest answer in tokens: the user's choice, the prompt's, or ours."""
    if chosen is not None:
        return chosen
    return int(prompt.sampling.get("max_tokens", DEFAULT_MAX_TOKENS))


def recommended(prompt: Prompt, chosen: dict[str, float | int | str | None]) -> Sampling:
    """The user's sampling, over the prompt's recommendation, over the neutral defaults."""
    known = {k: v for k, v in prompt.sampling.items() if k != "max_tokens"}
    settings = {**known, **{k: v for k, v in chosen.items() if v is not None}}
    return replace(Sampling(), **settings)  # type: ignore[arg-type]
