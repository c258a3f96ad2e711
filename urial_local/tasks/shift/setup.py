"""What a shift run is asked to do, and the checks that need no weights: files, prompts, ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from urial_local.base.errors import UsageError
from urial_local.base.registry import counterpart
from urial_local.prompting.library import load_prompt
from urial_local.prompting.prompts import Prompt
from urial_local.runtime.open import RuntimeOptions
from urial_local.runtime.sampling import Sampling
from urial_local.runtime.shift_rows import TOP
from urial_local.runtime.vocabulary_pair import VocabularyPair, compare_vocabularies
from urial_local.tasks.model_file import ModelFile, model_file
from urial_local.tasks.prompt_choice import base_prompts, choose_prompt
from urial_local.tasks.prompted import try_prompt


@dataclass(frozen=True, slots=True)
class ShiftOptions:
    """What the user chose. `max_tokens` bounds an answer; contexts are names of prompts."""

    base: str
    aligned: tuple[str, ...]
    base_prompts: tuple[str, ...] = ()
    aligned_prompt: str | None = None
    chat_template: str | None = None  # a file: the aligned models', in place of their own
    noise_floor: str | None = None
    sampling: Sampling = Sampling()
    samples: int = 1  # answers to each question
    max_tokens: int = 512
    shard: tuple[int, int] | None = None  # (i, n), i from 1
    allow_vocab_mismatch: bool = False
    save_prompts: bool = False
    runtime: RuntimeOptions = field(default_factory=lambda: RuntimeOptions(parallel=4))


@dataclass(frozen=True, slots=True)
class Setup:
    """All that is known before weights are loaded."""

    options: ShiftOptions
    base: ModelFile
    aligned: tuple[ModelFile, ...]
    noise: ModelFile | None
    contexts: Mapping[str, Prompt]  # the base model's, by name
    aligned_prompts: Mapping[str, Prompt]  # by the aligned model's name
    pairs: Mapping[str, VocabularyPair]  # by the aligned model's name
    remarks: tuple[str, ...]

    def config(self, given_answers: bool) -> dict[str, Any]:
        """All that decides a row; another one is refused when a run is resumed."""
        o = self.options
        prompt = {n: {"name": p.name, "sha": p.fingerprint()} for n, p in self.contexts.items()}
        return {
            "task": "shift",
            "base": self.base.about(),
            "aligned": [
                {
                    **m.about(),
                    "prompt": self.aligned_prompts[m.name].name,
                    "prompt_sha": self.aligned_prompts[m.name].fingerprint(),
                }
                for m in self.aligned
            ],
            "contexts": prompt,
            "noise_floor": self.noise.about() if self.noise else None,
            "answers": "given" if given_answers else "generated",
            "sampling": None if given_answers else asdict(o.sampling),
            "max_tokens": None if given_answers else o.max_tokens,
            "kv_type": o.runtime.kv_type,
            "allow_vocab_mismatch": o.allow_vocab_mismatch,
            "top": TOP,
            "shard": "/".join(map(str, o.shard)) if o.shard else None,
            # Where there is one, as in runs of earlier releases, nothing is said.
            **({"samples": o.samples} if o.samples > 1 else {}),
        }


def set_up(options: ShiftOptions, on_check: Callable[[Path], None] = lambda path: None) -> Setup:
    """Check files, prompts and vocabularies. Raises ModelError, PromptError or UsageError."""
    other = counterpart(options.base)
    names = options.aligned or ((other,) if other else ())
    if not names:
        raise UsageError(
            f"No aligned counterpart of {options.base} is known.", "Name one with `aligned`."
        )
    base = model_file(options.base, on_check)
    contexts = _contexts(options.base_prompts or ("zero-shot", base_prompts(base)[0]))
    aligned = tuple(model_file(name, on_check, options.chat_template) for name in names)
    if len({m.name for m in aligned}) < len(aligned):
        aligned = tuple(replace(m, name=f"{m.name}-{i}") for i, m in enumerate(aligned, 1))
    noise = model_file(options.noise_floor, on_check) if options.noise_floor else None
    pairs, remarks = _compare(base, aligned, noise, options.allow_vocab_mismatch)
    prompts = {m.name: _aligned_prompt(m, options.aligned_prompt) for m in aligned}
    for prompt in contexts.values():
        try_prompt(prompt, base.chat_template)
    return Setup(options, base, aligned, noise, contexts, prompts, pairs, tuple(remarks))


def _contexts(names: Sequence[str]) -> dict[str, Prompt]:
    found: dict[str, Prompt] = {}
    for name in names:
        prompt = load_prompt(name, None)
        label = prompt.name
        if label in found:
            raise UsageError(f"The base prompt {label!r} was given twice.")
        found[label] = prompt
    return found


def _aligned_prompt(model: ModelFile, name: str | None) -> Prompt:
    if not (name or model.aligned_prompt):
        raise UsageError(
            f"{model.title} carries no chat template, so how to ask it is unknown.",
            "Name a prompt with `aligned_prompt`, such as vanilla or zero-shot; or a file with its"
            " template, with `chat_template`.",
        )
    return choose_prompt(model, name).candidates[0]


def _compare(
    base: ModelFile, aligned: Sequence[ModelFile], noise: ModelFile | None, allowed: bool
) -> tuple[dict[str, VocabularyPair], list[str]]:
    pairs: dict[str, VocabularyPair] = {}
    remarks: list[str] = []
    with base.vocabulary() as ours:
        for model in aligned:
            with model.vocabulary() as theirs:
                pair = compare_vocabularies(ours, theirs)
            if pair.difference and not allowed:
                raise UsageError(
                    f"{base.path.name} and {model.path.name} have different vocabularies."
                    f" {pair.difference}",
                    f"{len(pair.shared):,} ids mean the same in both;"
                    " `allow_vocab_mismatch` compares the models on those.",
                )
            if pair.difference:
                remarks.append(
                    f"Compared on {len(pair.shared):,} shared token ids. {pair.difference}"
                )
            if pair.remark:
                remarks.append(f"{pair.remark}.")
            pairs[model.name] = pair
        if noise:
            with noise.vocabulary() as theirs:
                pair = compare_vocabularies(ours, theirs)
            if pair.difference:
                raise UsageError(
                    f"`noise_floor` {noise.path.name} is not another quantisation of"
                    f" {base.path.name}. {pair.difference}"
                )
    return pairs, remarks
