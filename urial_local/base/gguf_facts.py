"""What a checked header says of a model: size, types, cache, layers. No weights are read."""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from urial_local.base import formats
from urial_local.base.errors import ModelError
from urial_local.base.gguf_header import ArrayInfo, GGUFHeader

_LAYER = re.compile(r"blk\.(\d+)\.")
# Bytes of one cached number. q8_0 keeps 32 numbers in 34 bytes.
KV_BYTES = {"f16": 2.0, "f32": 4.0, "q8_0": 34 / 32}
MOST, MOST_LAYERS = 1 << 31, 1 << 14  # what a header may claim of itself and be believed
UBATCH = 512  # tokens that llama.cpp computes at once


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that a model needs while it runs; `compute` is an estimate."""

    weights: int
    cache: int
    compute: int

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.compute


def parameters(header: GGUFHeader) -> int:
    """Numbers in all tensors."""
    return sum(math.prod(t.shape) for t in header.tensors)


def type_name(kind: int) -> str:
    """A tensor type's name, such as Q8_0."""
    from gguf import GGMLQuantizationType

    with contextlib.suppress(ValueError):  # newer than the library
        return str(GGMLQuantizationType(kind).name)
    return "unknown"


def bytes_by_type(header: GGUFHeader) -> dict[str, tuple[int, int]]:
    """Tensor types: (tensors, bytes) of each, the most bytes first."""
    count: Counter[str] = Counter()
    size: Counter[str] = Counter()
    for tensor in header.tensors:
        name = type_name(tensor.type)
        count[name] += 1
        size[name] += tensor.size
    return {name: (count[name], total) for name, total in size.most_common()}


def quantisation(header: GGUFHeader) -> str:
    """The type that most bytes of the weights have, such as Q8_0."""
    return next(iter(bytes_by_type(header)), "unknown")


def context(header: GGUFHeader) -> int | None:
    """Tokens that the model was trained on."""
    return _number(header, "context_length")


def vocabulary(header: GGUFHeader) -> tuple[int, str]:
    """(tokens, kind of tokeniser)."""
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    kind = header.metadata.get("tokenizer.ggml.model")
    return tokens.count if isinstance(tokens, ArrayInfo) else 0, str(kind or "unknown")


def kv_bytes_per_token(header: GGUFHeader, kv_type: str = "f16") -> int:
    """Bytes of keys and values that one token takes, all layers together: bytes of a number ·
    Σ over layers of KV heads · (key length + value length).

    0 for a model without attention. Layers without a cache of their own do not count: those between
    full attention in a hybrid, and the last ones where they use an earlier layer's. At most so many
    where `kv_at_most`.
    """
    heads = _by_layer(header, "attention.head_count")
    kv_heads = _by_layer(header, "attention.head_count_kv") or heads
    if not heads or not max(heads):
        return 0
    if every := _number(header, "full_attention_interval"):
        kv_heads = kv_heads[every - 1 :: every]
    if shared := _number(header, "attention.shared_kv_layers"):
        kv_heads = kv_heads[:-shared]
    width = _number(header, "embedding_length") or 0
    length = width // max(heads)
    key = _number(header, "attention.key_length") or length
    value = _number(header, "attention.value_length") or length
    return int(sum(kv_heads) * (key + value) * KV_BYTES[kv_type])


def kv_at_most(header: GGUFHeader) -> bool:
    """Whether the cache may take less than `kv_bytes_per_token` says: sliding windows, layers that
    predict further tokens, and compressed keys and values (MLA) are not taken into account."""
    less = ("attention.sliding_window", "nextn_predict_layers", "attention.kv_lora_rank",
            "attention.key_length_mla")  # fmt: skip
    return any(header.metadata.get(f"{header.architecture}.{name}") for name in less)


def memory(header: GGUFHeader, ctx_size: int, kv_type: str = "f16") -> Memory:
    """Memory for one row of `ctx_size` tokens.

    The compute buffer is estimated as the two largest things that llama.cpp holds for a piece of
    512 tokens in float32: their logits (512 · vocabulary) or their attention scores (512 · heads ·
    context), whichever is more, and four activations of the feed-forward layer's width.
    """
    weights = sum(t.size for t in header.tensors)
    heads = max(_by_layer(header, "attention.head_count") or [0])
    hidden = max(_by_layer(header, "feed_forward_length") or [0])
    widest = max(vocabulary(header)[0], heads * ctx_size)
    compute = 4 * UBATCH * (widest + 4 * hidden)
    return Memory(weights, kv_bytes_per_token(header, kv_type) * ctx_size, compute)


def refuse_beyond_memory(header: GGUFHeader, cells: int, kv_type: str) -> None:
    """Raises ModelError where keys and values would need more than all of this machine's memory:
    llama.cpp would fill it, and the system end the process."""
    if kv_at_most(header) or not hasattr(os, "sysconf"):
        return
    need = cells * kv_bytes_per_token(header, kv_type)
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if need > there > 0:
        raise ModelError(
            f"A context of {cells:,} tokens needs {formats.size(need)} for the KV cache, and"
            f" this machine has {formats.size(there)} of memory.",
            "Choose a smaller `ctx_size`, or fewer rows at a time.",
        )


def fitting_layers(header: GGUFHeader, ctx_size: int, free: int, kv_type: str = "f16") -> int:
    """How many layers `--gpu-layers` may put on a GPU with so many free bytes; as llama.cpp counts,
    the output layer is one more, so all of them are `layers(header) + 1`.

    A layer takes its weights and its share of the cache; the compute buffer goes first.
    """
    needed = memory(header, ctx_size, kv_type)
    sizes = layer_sizes(header)
    if not sizes:
        return 0
    left = float(free - needed.compute)
    share = needed.cache / len(sizes)
    count = 0
    for size in reversed(sizes):  # llama.cpp offloads from the last layer
        if (left := left - size - share) < 0:
            return count
        count += 1
    output = needed.weights - sum(sizes)
    return count + 1 if left >= output else count


def layer_sizes(header: GGUFHeader) -> list[int]:
    """Bytes of each layer's weights."""
    sizes: Counter[int] = Counter()
    for tensor in header.tensors:
        if match := _LAYER.match(tensor.name):
            sizes[int(match[1])] += tensor.size
    return [sizes[i] for i in sorted(sizes)]


def _number(header: GGUFHeader, name: str) -> int | None:
    """A positive whole number; None for what is absent or makes no sense, as strangers' may."""
    value = header.metadata.get(f"{header.architecture}.{name}")
    return value if type(value) is int and 0 < value <= MOST else None


def _by_layer(header: GGUFHeader, name: str) -> list[int]:
    """A number of each layer: the metadata give one for all, or one a layer."""
    value: Any = header.metadata.get(f"{header.architecture}.{name}")
    if isinstance(value, ArrayInfo):
        return [v if type(v) is int and 0 <= v <= MOST else 0 for v in value.items]
    number, layers = _number(header, name), _number(header, "block_count") or 0
    return [number] * min(layers, MOST_LAYERS) if number else []
