"""A model class for lm-evaluation-harness: its tasks on a GGUF file, under any prompt.

`urial-local lm-eval` registers it as `urial`. Log-likelihoods are exact, of given tokens (see
runtime.prompt_scores), and a context that many requests share is decoded once. Without a prompt
texts go to the model as the harness lays them out. With one, `--apply_chat_template` has the
harness hand over the conversation, and the prompt's frame, examples and history lay it out; then an
answer that is scored begins where the frame has it begin, without the blanks before it, and an
answer that is written ends where the frame ends it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Literal

from lm_eval import utils
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model

from urial_local.base.errors import UsageError
from urial_local.prompting.prompts import Rendered, Turn
from urial_local.runtime.model import GpuLayers
from urial_local.runtime.open import RuntimeOptions, open_scorer
from urial_local.runtime.prompt_scores import ScoreJob
from urial_local.runtime.rows import Request
from urial_local.runtime.sampling import Sampling
from urial_local.tasks.model_file import model_file
from urial_local.tasks.prompt_choice import choose_prompt
from urial_local.tasks.prompted import PromptedModel, recommended

LONGEST = 256  # tokens of an answer where the task does not say, as the harness has it
Pair = tuple[tuple[str, str], list[int], list[int]]  # texts, ids of the context, of what follows


@dataclass(frozen=True, slots=True)
class _LaidOut:
    """A conversation under the prompt."""

    rendered: Rendered
    request: Request


@register_model("urial")
class UrialLM(TemplateLM):  # type: ignore[misc]  # the harness has no types
    """One model, and at most one prompt."""

    def __init__(
        self,
        model: str = "demo",
        prompt: str | None = None,
        *,
        parallel: int = 8,
        exact: bool = False,
        ctx_size: int = 0,
        batch: int = 512,
        threads: int | None = None,
        gpu_layers: GpuLayers = "auto",
        kv_type: Literal["f16", "f32", "q8_0"] = "f16",
        disk_cache: bool = True,
        **_: Any,
    ) -> None:
        """model: a name or a file's path. prompt: one of the library, or a file; without one texts
        stay as they are. parallel: answers written at a time. exact: one at a time, and scores that
        do not hang on what was asked before. Others: see runtime.open; what the harness says to any
        model (`batch_size`, `device`) is passed over.

        Raises ModelError, PromptError or UsageError.
        """
        super().__init__()
        self.file = model_file(model)
        runtime = RuntimeOptions(
            ctx_size=ctx_size,
            parallel=1 if exact else parallel,
            batch=batch,
            threads=threads,
            gpu_layers=gpu_layers,
            kv_type=kv_type,
            disk_cache=disk_cache,
        )
        choice = choose_prompt(self.file, prompt) if prompt else None
        self._stack = ExitStack()
        self.lm, self.engine = self._stack.enter_context(self.file.open(runtime))
        self.scorer, close = open_scorer(self.lm, self.engine.ctx_size, runtime, exact)
        self._stack.callback(close)
        self.asker: PromptedModel | None = None
        if choice:
            (found,) = choice.fitting(self.lm.vocab.count, self.engine.ctx_size).candidates
            self.asker = PromptedModel(self.lm, found, sampling=recommended(found, {}))
        self._laid_out: dict[str, _LaidOut] = {}  # by their texts, those of a run

    def close(self) -> None:
        self._stack.close()

    # --- tokens -----------------------------------------------------------------------------------

    @property
    def max_length(self) -> int:
        return self.engine.ctx_size

    @property
    def eot_token_id(self) -> int:
        return self.lm.vocab.eos

    @property
    def prefix_token_id(self) -> int:
        vocab = self.lm.vocab
        return vocab.bos if vocab.bos >= 0 else vocab.eos

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **_: Any
    ) -> list[int]:
        """Ids of a text, with BOS where the model wants it, unless told otherwise."""
        ids: list[int] = self.lm.vocab.tokenize(string, any_length=True).tolist()
        return ids[1:] if add_special_tokens is False and self.lm.vocab.add_bos else ids

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        laid_out = self._laid_out.get(context)
        if laid_out is None:
            found: tuple[list[int], list[int]] = super()._encode_pair(context, continuation)
            return found
        rendered = laid_out.rendered
        answer = self.lm.vocab.continuation(
            rendered.text,
            continuation.lstrip(),
            parse_special=rendered.parse_special,
            literals=rendered.literals,
        )
        return list(laid_out.request.tokens), answer.tolist()

    # --- the prompt -------------------------------------------------------------------------------

    @property
    def tokenizer_name(self) -> str:
        """What the harness tells apart its caches of requests by."""
        prompt = self.asker.prompt.fingerprint() if self.asker else "raw"
        return f"urial-{self.file.fingerprint}-{prompt}"

    def chat_template(self, chat_template: bool | str = False) -> str:
        """What the harness records."""
        return f"urial-local: {self.asker.prompt.name}" if chat_template and self.asker else ""

    def apply_chat_template(
        self, chat_history: Sequence[Mapping[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """A conversation as the prompt lays it out. What an assistant has begun is not gone on
        with, and a system message stands before the first question."""
        if self.asker is None:
            raise UsageError("There is no prompt to lay a conversation out.", "Name one with -p.")
        system = [m["content"] for m in chat_history if m["role"] == "system"]
        rest = [m["content"] for m in chat_history if m["role"] != "system"]
        *turns, query = rest
        if len(turns) % 2:
            raise UsageError("A conversation must end with a question.")
        if system:
            first = "\n\n".join([*system, turns[0] if turns else query])
            turns, query = ([first, *turns[1:]], query) if turns else ([], first)
        history = [Turn(q, a) for q, a in zip(turns[::2], turns[1::2], strict=True)]
        rendered = self.asker.render(query, history)
        request = self.asker.request(query, history)
        self._laid_out[rendered.text] = _LaidOut(rendered, request)
        return rendered.text

    # --- what the harness asks --------------------------------------------------------------------

    def _loglikelihood_tokens(
        self, requests: Sequence[Pair], disable_tqdm: bool = False, **_: Any
    ) -> list[tuple[float, bool]]:
        """For each the sum of ln p over what follows, in nats, and whether each of its tokens is
        the most probable one. A context that is too long loses its beginning, as in the harness."""
        found: dict[int, tuple[float, bool]] = {}
        order = sorted(range(len(requests)), key=lambda i: [*requests[i][1], *requests[i][2]])
        for i in _bar(order, "scores", disable_tqdm):
            _, context, continuation = requests[i]
            ids = [*context, *continuation][-self.max_length :]
            job = ScoreJob(ids, first=len(ids) - len(continuation))
            while not job.done:
                self.scorer.advance(job)
            scores = [s for s in job.scores[-len(continuation) :] if s is not None]
            found[i] = sum(s.logprob for s in scores), all(s.rank == 1 for s in scores)
        return [found[i] for i in range(len(requests))]

    def loglikelihood_rolling(
        self, requests: Sequence[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Of whole texts, in windows that do not overlap, as they are: no prompt."""
        sums = []
        for (text,) in [request.args for request in requests]:
            windows = utils.get_rolling_token_windows(
                token_list=self.tok_encode(text, add_special_tokens=False),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length - 1,
                context_len=1,
            )
            pairs = [(("", text), *utils.make_disjoint_window(window)) for window in windows]
            sums.append(sum(s for s, _ in self._loglikelihood_tokens(pairs, disable_tqdm=True)))
        return sums

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """Answers, many at a time over one shared prefix; one that does not fit is empty."""
        asked = (self._request(i, *request.args[:2]) for i, request in enumerate(requests))
        answers = [""] * len(requests)
        ended = (s for s in self.engine.stream(asked) if s.completion is not None)
        for step in _bar(ended, "answers", disable_tqdm, len(requests)):
            if step.completion.error:
                raise UsageError(f"A question cannot be answered: {step.completion.error}")
            answers[step.tag] = step.completion.text
        return answers

    def _request(self, tag: int, context: str, how: Mapping[str, Any]) -> Request:
        """How: the task's generation_kwargs."""
        until = how.get("until") or []
        strings = tuple(filter(None, [until] if isinstance(until, str) else until))
        longest = int(how.get("max_gen_toks") or how.get("max_tokens") or LONGEST)
        laid_out = self._laid_out.get(context)
        if laid_out:
            request = laid_out.request
        else:  # a text that is too long loses its beginning, as in the harness
            request = Request(self.tok_encode(context)[-max(1, self.max_length - longest) :])
        sampling = request.sampling
        if how.get("do_sample") or float(how.get("temperature") or 0) > 0:
            sampling = Sampling(
                temperature=float(how.get("temperature") or 1.0),
                top_p=float(how.get("top_p") or 1.0),
                seed=int(how.get("seed") or 0) + tag,
            )
        return replace(
            request,
            sampling=sampling,
            stop=replace(request.stop, strings=strings),
            max_tokens=longest,
            tag=tag,
        )


def _bar(items: Iterable[Any], unit: str, hidden: bool, total: int | None = None) -> Iterator[Any]:
    from tqdm import tqdm

    yield from tqdm(items, unit=unit, disable=hidden, total=total)
