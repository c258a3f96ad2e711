"""What there is to know of a model before it is run: from its header, and, for the prompts, from
its vocabulary. The weights are not loaded, but for the first try of an unknown file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from urial_local.base import gguf_facts, hub
from urial_local.base.errors import PromptError, TokenizeError
from urial_local.base.registry import Registry
from urial_local.prompting.library import load_prompt, prompt_files
from urial_local.runtime.vocabulary import Vocabulary
from urial_local.tasks.model_file import model_file
from urial_local.tasks.prompt_choice import ANSWER_ROOM


def describe(
    name: str,
    ctx_size: int = 0,
    kv_type: str = "f16",
    gpu_memory: int | None = None,
    on_check: Callable[[Path], None] = lambda path: None,
) -> dict[str, Any]:
    """All of `models show`, as JSON can hold it; sizes in bytes.

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
    return {
        "name": name,
        "path": str(path),
        "title": file.title,
        "architecture": header.architecture,
        "parameters": gguf_facts.parameters(header),
        "quantisation": gguf_facts.quantisation(header),
        "types": {
            kind: {"tensors": count, "bytes": size}
            for kind, (count, size) in gguf_facts.bytes_by_type(header).items()
        },
        "context": trained,
        "vocabulary": {"tokens": tokens, "tokeniser": tokeniser},
        "chat_template": bool(file.chat_template),
        "layers": layers,
        "kv_bytes_per_token": gguf_facts.kv_bytes_per_token(header, kv_type),
        "kv_at_most": gguf_facts.kv_at_most(header),
        "file_size": header.file_size,
        "ctx_size": ctx,
        "kv_type": kv_type,
        "memory": {**asdict(needed), "total": needed.total},
        "gpu": {"free": free, "layers": fits, "all": fits > layers} if free else None,
        "prompts": prompts,
        "fingerprint": file.fingerprint,
    }


def _gpu_memory() -> int:
    """Free bytes of the GPU with the most, or 0."""
    from urial_local.runtime.devices import gpus

    return max((gpu.free for gpu in gpus()), default=0)


def _prompts(vocab: Vocabulary, ctx_size: int) -> list[dict[str, Any]]:
    """Each prompt's constant text in this vocabulary's tokens, and whether it leaves room for a
    question and an answer of 256 tokens together."""
    found = []
    for name in sorted(prompt_files()):
        try:
            text = load_prompt(name).prefix()
            tokens = len(vocab.tokenize(text)) if text else 0
        except (PromptError, TokenizeError):
            tokens = None
        fits = tokens is not None and tokens + ANSWER_ROOM <= ctx_size
        found.append({"name": name, "tokens": tokens, "fits": fits})
    return found


def listed(name: str, known: Registry) -> dict[str, Any] | None:
    """What the registry says of a model that is not on this machine; None for any other name."""
    entry = known.entries.get(name)
    if entry is None or entry.file in hub.cached_files(entry.repo):
        return None
    return asdict(entry)
