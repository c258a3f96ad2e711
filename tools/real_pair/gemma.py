"""Gemma 3's text model in PyTorch over the weights of a GGUF file, with LoRA where it is wanted.

For x_0 = √d · E[tokens] (E: vocabulary × d, tied) and each layer l:

    h = x + N(W_o · A(N(W_q n), N(W_k n), W_v n)),   n = N(x)
    x' = h + N(W_down · (gelu(W_gate m) ⊙ W_up m)),  m = N(h)
    logits = E · N(x_L)

N(z) = g ⊙ z / √(mean z² + ε), each with a gain g of its own; the GGUF file holds the gain itself,
not the gain less one as in the published weights. A is causal attention with queries in `heads`
groups over `kv_heads` keys, scaled by head_dim^-½; queries and keys are turned by their positions
in halves (NEOX): dimension i pairs with i + head_dim/2. Of `pattern` layers the last attends to all
positions with the base `rope_base`; the others attend to `window` positions, their own included,
with the base 10,000. gelu is the tanh approximation. Source: llama.cpp's graph of `gemma3`, against
which tests/test_real_pair.py holds the logits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

LOCAL_ROPE_BASE, PATTERN = 10_000.0, 6  # constants of the architecture, no keys of the file


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of the model, as the file's metadata has them."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    window: int
    rope_base: float
    eps: float
    pattern: int = PATTERN

    def windowed(self, layer: int) -> bool:
        """Whether a layer attends to the last `window` positions only."""
        return layer % self.pattern < self.pattern - 1


@dataclass(frozen=True, slots=True)
class Lora:
    """Matrices A (rank × inputs) and B (outputs × rank) by the name of the weight that they change:
    y = W x + scale · B A x."""

    pairs: Mapping[str, tuple[Tensor, Tensor]]
    scale: float


class Gemma:
    """The frozen base. `dtype` is what its matrices are kept and multiplied in; sums, norms and
    attention are float32."""

    def __init__(self, shape: Shape, weights: Mapping[str, Tensor], dtype: torch.dtype) -> None:
        self.shape, self.dtype = shape, dtype
        self.weights = {n: w.to(dtype) if w.ndim == 2 else w for n, w in weights.items()}

    def embedding(self) -> Tensor:
        """E [vocabulary, width], the output matrix as well."""
        return self.weights["token_embd.weight"]

    def matrix_shapes(self) -> dict[str, tuple[int, int]]:
        """(outputs, inputs) of every matrix inside the layers."""
        return {
            name: (weight.shape[0], weight.shape[1])
            for name, weight in self.weights.items()
            if weight.ndim == 2 and name.startswith("blk.")
        }

    def hidden(self, tokens: Tensor, lora: Lora | None = None) -> Tensor:
        """What the output matrix is applied to, float32 [n, width], for tokens [n] of one text."""
        shape, n = self.shape, len(tokens)
        at = torch.arange(n)
        back = at[:, None] - at[None, :]
        causal = torch.where(back >= 0, 0.0, float("-inf"))
        near = torch.where(back < shape.window, causal, float("-inf"))
        turns = {
            True: _angles(n, shape.head_dim, LOCAL_ROPE_BASE),
            False: _angles(n, shape.head_dim, shape.rope_base),
        }
        x = F.embedding(tokens, self.embedding()).float() * shape.width**0.5
        for layer in range(shape.layers):
            windowed = shape.windowed(layer)
            x = self._layer(layer, x, near if windowed else causal, turns[windowed], lora)
        return self._norm("output_norm", x)

    def logits(self, tokens: Tensor, lora: Lora | None = None) -> Tensor:
        """float32 [n, vocabulary]; for texts short enough that all of them fit the memory."""
        return self._multiply(self.hidden(tokens, lora), self.embedding())

    def _layer(
        self, layer: int, x: Tensor, mask: Tensor, turn: Tensor, lora: Lora | None
    ) -> Tensor:
        def linear(name: str, inputs: Tensor) -> Tensor:
            return self._linear(f"blk.{layer}.{name}.weight", inputs, lora)

        def norm(name: str, inputs: Tensor) -> Tensor:
            return self._norm(f"blk.{layer}.{name}", inputs)

        n, size = len(x), self.shape.head_dim
        y = norm("attn_norm", x)
        q = norm("attn_q_norm", linear("attn_q", y).view(n, -1, size)).transpose(0, 1)
        k = norm("attn_k_norm", linear("attn_k", y).view(n, -1, size)).transpose(0, 1)
        v = linear("attn_v", y).view(n, -1, size).transpose(0, 1)
        share = self.shape.heads // self.shape.kv_heads
        k, v = _turned(k, turn).repeat_interleave(share, 0), v.repeat_interleave(share, 0)
        scores = _turned(q, turn) @ k.mT * size**-0.5 + mask
        mixed = (torch.softmax(scores, -1) @ v).transpose(0, 1).flatten(1)
        x = x + norm("post_attention_norm", linear("attn_output", mixed))
        y = norm("ffn_norm", x)
        gated = F.gelu(linear("ffn_gate", y), approximate="tanh") * linear("ffn_up", y)
        return x + norm("post_ffw_norm", linear("ffn_down", gated))

    def _linear(self, name: str, inputs: Tensor, lora: Lora | None) -> Tensor:
        out = self._multiply(inputs, self.weights[name])
        if lora is not None and name in lora.pairs:
            a, b = lora.pairs[name]
            out = out + lora.scale * self._multiply(self._multiply(inputs, a), b)
        return out

    def _multiply(self, inputs: Tensor, matrix: Tensor) -> Tensor:
        return F.linear(inputs.to(self.dtype), matrix.to(self.dtype)).float()

    def _norm(self, name: str, x: Tensor) -> Tensor:
        gain = self.weights[f"{name}.weight"]
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.shape.eps) * gain


def _angles(n: int, size: int, base: float) -> Tensor:
    """Cosines and sines of the positions 0 … n-1, float32 [2, n, size / 2]."""
    speeds = base ** (-torch.arange(size // 2, dtype=torch.float64) * 2 / size)
    angles = torch.arange(n, dtype=torch.float64)[:, None] * speeds
    return torch.stack((angles.cos(), angles.sin())).float()


def _turned(x: Tensor, turn: Tensor) -> Tensor:
    """Rotary positions over the two halves of the last dimension."""
    first, second = x.chunk(2, -1)
    cos, sin = turn
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)


def load(path: Path, dtype: torch.dtype = torch.float32) -> Gemma:
    """The model of a GGUF file, its weights taken out of their quantised form.

    Raises ValueError for a file of another architecture, or one that asks for what is not here.
    """
    reader = gguf.GGUFReader(path)

    def has(name: str) -> bool:
        return reader.get_field(name) is not None

    def key(name: str, default: float | None = None) -> float:
        field = reader.get_field(f"gemma3.{name}")
        if field is None and default is None:
            raise ValueError(f"{path.name} does not say gemma3.{name}.")
        return default if field is None else field.contents()

    architecture = reader.get_field("general.architecture")
    if architecture is None or architecture.contents() != "gemma3":
        raise ValueError(f"{path.name} is not a Gemma 3 text model, the only kind known here.")
    if has("gemma3.rope.scaling.type") or has("gemma3.final_logit_softcapping"):
        raise ValueError(f"{path.name} scales its positions or caps its logits: not known here.")
    shape = Shape(
        width=int(key("embedding_length")),
        layers=int(key("block_count")),
        heads=int(key("attention.head_count")),
        kv_heads=int(key("attention.head_count_kv", key("attention.head_count"))),
        head_dim=int(key("attention.key_length")),
        window=int(key("attention.sliding_window")),
        rope_base=float(key("rope.freq_base", LOCAL_ROPE_BASE)),
        eps=float(key("attention.layer_norm_rms_epsilon")),
    )
    weights = {}
    for tensor in reader.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False)
        weights[tensor.name] = torch.from_numpy(np.array(values)).to(
            dtype if values.ndim == 2 else torch.float32
        )
    return Gemma(shape, weights, dtype)
