"""A small Llama: RMS norms, rotary positions, grouped heads left out, tied embeddings.

Rotary pairs are neighbouring dimensions, which is what llama.cpp expects of the ``llama``
architecture; so weights are exported as they are.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Shape:
    """The sizes of the model."""

    vocabulary: int = 2560
    width: int = 320
    layers: int = 6
    heads: int = 5
    hidden: int = 672
    context: int = 2048
    rope_base: float = 50_000.0
    norm_eps: float = 1e-5

    def as_dict(self) -> dict[str, int | float]:
        """The sizes for a checkpoint."""
        return asdict(self)


def rotary_table(shape: Shape) -> Tensor:
    """Cosines and sines for every position: (2, context, width of a head / 2)."""
    half = shape.width // shape.heads // 2
    speeds = shape.rope_base ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = torch.arange(shape.context, dtype=torch.float64)[:, None] * speeds
    return torch.stack((angles.cos(), angles.sin())).float()


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Turn neighbouring pairs of the last dimension by the angle of their position."""
    cos, sin = table[0], table[1]
    even, odd = x[..., 0::2], x[..., 1::2]
    turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    return turned.flatten(-2).to(x.dtype)


class Norm(nn.Module):
    """Root mean square norm with a gain."""

    def __init__(self, shape: Shape) -> None:
        """Start with a gain of one."""
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape.width))
        self.eps = shape.norm_eps

    def forward(self, x: Tensor) -> Tensor:
        """Scale to unit root mean square in full precision."""
        wide = x.float()
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)) * self.weight


_PARTS = 4


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention, the queries in a few parts, each with the keys that it may see.

    On a CPU this takes half as long as the built-in function, which was half of a step.
    """
    length, mixed = q.shape[2], []
    part = max(1, length // _PARTS)
    for start in range(0, length, part):
        seen = min(start + part, length)
        hidden = q.new_full((seen - start, seen), float("-inf")).triu(1 + start)
        scores = (q[:, :, start:seen] @ k[:, :, :seen].mT) * q.shape[-1] ** -0.5 + hidden
        mixed.append(torch.softmax(scores, -1).to(v.dtype) @ v[:, :, :seen])
    return torch.cat(mixed, 2)


class Block(nn.Module):
    """Attention and a gated feed-forward layer, each behind a norm."""

    def __init__(self, shape: Shape) -> None:
        """Make the matrices."""
        super().__init__()
        self.heads = shape.heads
        width, hidden = shape.width, shape.hidden
        self.attention_norm, self.forward_norm = Norm(shape), Norm(shape)
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def _split(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        return x.view(batch, length, self.heads, -1).transpose(1, 2)

    def forward(self, x: Tensor, table: Tensor) -> Tensor:
        """One layer."""
        y = self.attention_norm(x)
        q, k = rotate(self._split(self.q(y)), table), rotate(self._split(self.k(y)), table)
        mixed = attend(q, k, self._split(self.v(y)))
        x = x + self.o(mixed.transpose(1, 2).flatten(2))
        y = self.forward_norm(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Llama(nn.Module):
    """The whole model."""

    def __init__(self, shape: Shape) -> None:
        """Make the layers; matrices that write into the stream start small."""
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = Norm(shape)
        self.register_buffer("table", rotary_table(shape), persistent=False)
        nn.init.normal_(self.embedding.weight, std=0.02)
        for block in self.blocks:
            for name, weight in block.named_parameters():
                if weight.ndim == 2:
                    scale = (2 * shape.layers) ** -0.5 if name.startswith(("o.", "down.")) else 1
                    nn.init.normal_(weight, std=scale * weight.shape[1] ** -0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        """The logits of every position."""
        table = self.table[:, : tokens.shape[1]]
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, table)
        return F.linear(self.norm(x), self.embedding.weight)

    def loss(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy over the targets that are not masked by -100."""
        logits = self(tokens).float()
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)
