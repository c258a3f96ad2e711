"""What there is to know of a model before it is run: from its header, and, for the prompts, from
its vocabulary. The weights are not loaded, but for the first try of an unknown file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from urial_local.base import gguf_facts, hub
from urial_local.base.adapter_file import AdapterFacts, adapter_kind, read_adapter
from urial_local.base.errors import ModelError, PromptError, TokenizeError
from urial_local.base.gguf_facts import Memory
from urial_local.base.gguf_header import GGUFHeader, read_header
from urial_local.base.model_names import AdapterKind
from urial_local.base.registry import Entry, Registry
from urial_local.prompting.library import load_prompt, prompt_files
from urial_local.runtime.vocabulary import Vocabulary
from urial_local.tasks.model_file import model_file
from urial_local.tasks.prompt_choice import ANSWER_ROOM


@dataclass(frozen=True, slots=True)
class TensorType:
    """How many of a model's tensors have a type, and their bytes."""

    tensors: int
    bytes: int


@dataclass(frozen=True, slots=True)
class PromptSize:
    """A prompt's constant text in a model's tokens, None where the vocabulary lacks some of it, and
    whether it leaves room for a question and an answer of 256 tokens together."""

    name: str
    tokens: int | None
    fits: bool


@dataclass(frozen=True, slots=True)
class GpuFit:
    """How many layers fit into the free bytes of a GPU. `all`: the output's, too."""

    free: int
    layers: int
    all: bool


@dataclass(frozen=True, slots=True)
class AdapterDescription:
    """All of `models show` of an adapter; sizes in bytes. Of a LoRA: alpha, ranks, and how many
    tensors of each kind it changes; of a control vector: its layers and its width."""

    kind: AdapterKind
    path: str
    scale: float | None  # None where it is not named with a model
    architecture: str  # empty where it does not say
    parameters: int
    types: Mapping[str, TensorType]
    file_size: int
    alpha: float
    ranks: tuple[int, ...]
    modules: Mapping[str, int]
    ignored: tuple[str, ...]
    layers: tuple[int, ...]
    width: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Description:
    """All of `models show`; sizes in bytes."""

    name: str
    path: str
    title: str
    architecture: str
    parameters: int
    quantisation: str
    types: Mapping[str, TensorType]  # by ggml's name
    context: int | None  # tokens trained on
    vocabulary: int  # tokens
    tokeniser: str
    chat_template: bool
    layers: int
    kv_bytes_per_token: int
    kv_at_most: bool  # the cache may take less
    file_size: int
    ctx_size: int
    kv_type: str
    memory: Memory  # for a row of `ctx_size` tokens
    gpu: GpuFit | None  # None where no GPU is seen or told
    prompts: tuple[PromptSize, ...]
    fingerprint: str
    adapters: tuple[AdapterDescription, ...] = ()

    def as_json(self) -> dict[str, Any]:
        found = asdict(self)
        del found["tokeniser"]
        found["vocabulary"] = {"tokens": self.vocabulary, "tokeniser": self.tokeniser}
        found["memory"]["total"] = self.memory.total
        return found


def describe(
    name: str,
    ctx_size: int = 0,
    kv_type: str = "f16",
    gpu_memory: int | None = None,
    on_check: Callable[[Path], None] = lambda path: None,
) -> Description:
    """What a header says of a model, and what follows from it.

    ctx_size: 0 for what the other commands take: the model's own, up to 4096. gpu_memory: free
    bytes of a GPU; None for those that llama.cpp sees here, if any. Raises ModelError.
    """
    file = model_file(name, on_check)
    path, header = file.path, file.header
    trained = gguf_facts.context(header)
    ctx = file.context(ctx_size)
    tokens, tokeniser = gguf_facts.vocabulary(header)
    needed = gguf_facts.memory(header, ctx, kv_type)
    free = _gpu_memory() if gpu_memory is None else gpu_memory
    layers = len(gguf_facts.layer_sizes(header))
    fits = gguf_facts.fitting_layers(header, ctx, free, kv_type) if free else 0
    with file.vocabulary() as vocab:
        prompts = _prompts(vocab, ctx)
    return Description(
        name=name,
        path=str(path),
        title=file.title,
        architecture=header.architecture,
        parameters=gguf_facts.parameters(header),
        quantisation=gguf_facts.quantisation(header),
        types=_types(header),
        context=trained,
        vocabulary=tokens,
        tokeniser=tokeniser,
        chat_template=bool(file.chat_template),
        layers=layers,
        kv_bytes_per_token=gguf_facts.kv_bytes_per_token(header, kv_type),
        kv_at_most=gguf_facts.kv_at_most(header),
        file_size=header.file_size,
        ctx_size=ctx,
        kv_type=kv_type,
        memory=needed,
        gpu=GpuFit(free, fits, fits > layers) if free else None,
        prompts=prompts,
        fingerprint=file.fingerprint,
        adapters=tuple(_adapter(a.path, a.header, a.facts, a.scale) for a in file.adapters),
    )


def adapter_alone(name: str) -> AdapterDescription | None:
    """What there is to know of an adapter's file by itself; None where the name is not of one.
    Raises ModelError where it is malformed."""
    path = Path(name).expanduser()
    try:
        kind = adapter_kind(read_header(path, adapter=True))
    except ModelError:
        return None  # or a model's name; what it is then is said where models are looked for
    return None if kind is None else _adapter(path, *read_adapter(path, kind))


def _adapter(
    path: Path, header: GGUFHeader, facts: AdapterFacts, scale: float | None = None
) -> AdapterDescription:
    return AdapterDescription(
        kind=facts.kind,
        path=str(path),
        scale=scale,
        architecture=facts.architecture,
        parameters=gguf_facts.parameters(header),
        types=_types(header),
        file_size=header.file_size,
        alpha=facts.alpha,
        ranks=facts.ranks,
        modules=facts.modules,
        ignored=facts.ignored,
        layers=facts.layers,
        width=facts.width,
    )


def _types(header: GGUFHeader) -> dict[str, TensorType]:
    found = gguf_facts.bytes_by_type(header)
    return {kind: TensorType(count, size) for kind, (count, size) in found.items()}


def _gpu_memory() -> int:
    """Free bytes of the GPU with the most, or 0."""
    from urial_local.runtime.devices import gpus

    return max((gpu.free for gpu in gpus()), default=0)


def _prompts(vocab: Vocabulary, ctx_size: int) -> tuple[PromptSize, ...]:
    found = []
    for name in sorted(prompt_files()):
        try:
            text = load_prompt(name).prefix()
            tokens = len(vocab.tokenize(text)) if text else 0
        except (PromptError, TokenizeError):
            tokens = None
        fits = tokens is not None and tokens + ANSWER_ROOM <= ctx_size
        found.append(PromptSize(name, tokens, fits))
    return tuple(found)


def listed(name: str, known: Registry) -> Entry | None:
    """What the registry says of a model that is not on this machine; None for any other name."""
    entry = known.entries.get(name)
    return None if entry is None or entry.file in hub.cached_files(entry.repo) else entry
