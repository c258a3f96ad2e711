"""A start for copying: two kinds of heads that a small model is slow to find are set by hand.

Copying what the context has done before needs a head that looks one token back and, a layer
above, heads that find the place where the present token stood before and bring what came after it.
At this size that pair is not found within a few million tokens of training, so the model starts
with it; like all other weights, these are then trained on.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tools.demo_pair.model import Llama

EMBEDDING_SCALE = 0.1
_CONSTANT = 4.0  # how far the constant channel stands out from the others
_SHARPNESS = 6.0  # of the look one token back
_FAST_PAIRS = 8  # rotary pairs that tell neighbours apart
_SLOW_FROM = 14  # rotary pairs from here on hardly turn within a document
_MATCH = 2.2  # strength of the search for the same token
_COPY = 3.0  # strength of what is brought back


def _orthonormal(rows: int, width: int, generator: torch.Generator) -> Tensor:
    square = torch.randn(width, width, generator=generator)
    return torch.linalg.qr(square).Q[:rows]


@torch.no_grad()
def set_copying_heads(model: Llama, seed: int) -> None:
    """Set one head of the first layer and most of the second; other outputs start at zero."""
    shape = model.shape
    size = shape.width // shape.heads
    half = size // 2
    generator = torch.Generator().manual_seed(seed)
    embedding = model.embedding.weight
    embedding.copy_(torch.randn(embedding.shape, generator=generator) * EMBEDDING_SCALE)
    embedding[:, 0] = _CONSTANT * EMBEDDING_SCALE
    model.norm.weight.fill_(0.02 / EMBEDDING_SCALE)
    for block in model.blocks:
        block.o.weight.zero_()
        block.down.weight.zero_()

    first, second = model.blocks[0], model.blocks[1]
    head = slice(0, size)
    read = _orthonormal(size, shape.width, generator)  # what is known of a token, in 64 numbers
    read[:, 0] = 0
    write = _orthonormal(size, shape.width, generator)
    write[:, 0] = 0
    constant = _CONSTANT / (1 + _CONSTANT**2 / shape.width) ** 0.5
    strength = (_SHARPNESS * size**0.5) ** 0.5 / constant
    speeds = shape.rope_base ** (-torch.arange(half) / half)[:_FAST_PAIRS]
    query, key = torch.zeros(size), torch.zeros(size)
    key[0 : 2 * _FAST_PAIRS : 2] = 1
    query[0 : 2 * _FAST_PAIRS : 2] = torch.cos(speeds)
    query[1 : 2 * _FAST_PAIRS : 2] = -torch.sin(speeds)
    for weight, vector in ((first.q.weight, query), (first.k.weight, key)):
        weight[head] = 0
        weight[head, 0] = strength * vector
    first.v.weight[head] = read
    first.o.weight[:, head] = 1.5 * EMBEDDING_SCALE * write.T

    slow = torch.arange(2 * _SLOW_FROM, size)
    for number in range(shape.heads - 1):
        head = slice(number * size, (number + 1) * size)
        for weight, source in ((second.q.weight, read), (second.k.weight, write)):
            weight[head] = 0
            weight[number * size + slow] = _MATCH * source[slow]
        bring = _orthonormal(size, shape.width, generator)
        bring[:, 0] = 0
        second.v.weight[head] = bring
        second.o.weight[:, head] = _COPY * EMBEDDING_SCALE * bring.T
