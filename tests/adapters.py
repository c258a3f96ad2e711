"""Writes adapters for tests' models, merges them into weights, and computes a Llama's logits in
float64, by the equations and without llama.cpp."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from urial_local.base.gguf_parts import read_model

RANK, ALPHA = 4, 8.0
# Every kind of matrix that a LoRA of all linear layers changes, the output's among them.
_KINDS = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
ALL = (*(f"blk.{i}.{name}.weight" for i in range(2) for name in _KINDS), "output.weight")
Tensors = dict[str, np.ndarray]


def weights(model: Path) -> Tensors:
    """A model's tensors, float64 [out, in]."""
    reader = gguf.GGUFReader(model)
    return {
        t.name: gguf.dequantize(t.data, t.tensor_type).astype(np.float64) for t in reader.tensors
    }


def write(path: Path, metadata: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> Path:
    """A GGUF file of whole metadata: texts, floats, lists of whole numbers."""
    writer = gguf.GGUFWriter(path, str(metadata.get("general.architecture", "llama")))
    for key, value in metadata.items():
        if key == "general.architecture":
            continue
        if isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        else:
            writer.add_array(key, value)
    for name, data in tensors.items():
        writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def lora_tensors(
    model: Path, names: Sequence[str] = ALL, rank: int = RANK, seed: int = 1, size: float = 0.1
) -> Tensors:
    """Random halves for these tensors of a model: A [rank, in], B [out, rank]; of a table of
    embeddings, whose rows are read, A [vocabulary, rank] and B [width, rank]."""
    rng = np.random.default_rng(seed)
    shapes = {t.name: t.shape[::-1] for t in read_model(model).tensors}
    found: Tensors = {}
    for name in names:
        out, inner = shapes[name]
        a, b = (rank, inner), (out, rank)
        if name.endswith("token_embd.weight"):
            a, b = (out, rank), (inner, rank)
        found[f"{name}.lora_a"] = (rng.normal(size=a) * size).astype(np.float32)
        found[f"{name}.lora_b"] = (rng.normal(size=b) * size).astype(np.float32)
    return found


def lora_metadata(architecture: str = "llama", alpha: float = ALPHA) -> dict[str, Any]:
    return {
        "general.architecture": architecture,
        "general.type": "adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": alpha,
    }


def write_lora(path: Path, model: Path, *, architecture: str = "llama", alpha: float = ALPHA,
               **more: Any) -> Path:  # fmt: skip
    return write(path, lora_metadata(architecture, alpha), lora_tensors(model, **more))


def change(tensors: Tensors, name: str, alpha: float) -> np.ndarray:
    """What an adapter at scale 1 adds to a matrix, in float64: alpha / rank · B A."""
    a = tensors[f"{name}.lora_a"].astype(np.float64)
    b = tensors[f"{name}.lora_b"].astype(np.float64)
    rank = b.shape[1]
    product = a @ b.T if name.endswith("token_embd.weight") else b @ a
    return product * (alpha / rank if alpha else 1.0)


def merged(model: Tensors, *adapters: tuple[Path, float]) -> Tensors:
    """A model's weights with adapters merged in, each with its scale."""
    found = dict(model)
    for path, scale in adapters:
        reader = gguf.GGUFReader(path)
        alpha = float(reader.fields["adapter.lora.alpha"].contents())
        tensors = {t.name: np.array(t.data) for t in reader.tensors}
        for key in tensors:
            name = key.removesuffix(".lora_a")
            if name != key:
                found[name] = found[name] + scale * change(tensors, name, alpha)
    return found


def with_weights(source: Path, path: Path, tensors: Tensors) -> Path:
    """A copy of a model of F32 tensors with other numbers in them."""
    path.write_bytes(source.read_bytes())
    reader = gguf.GGUFReader(path, "r+")
    for tensor in reader.tensors:
        assert tensor.tensor_type == gguf.GGMLQuantizationType.F32
        tensor.data[:] = tensors[tensor.name].astype(np.float32)
    for array in {id(t.data.base): t.data.base for t in reader.tensors}.values():
        if isinstance(array, np.memmap):
            array.flush()
    reader.data.flush()
    return path


def write_vector(path: Path, directions: Mapping[int, np.ndarray], hint: str = "llama") -> Path:
    return write(
        path,
        {
            "general.architecture": "controlvector",
            "controlvector.model_hint": hint,
            "controlvector.layer_count": len(directions),
        },
        {f"direction.{layer}": v.astype(np.float32) for layer, v in directions.items()},
    )


def forward(
    w: Tensors, ids: Sequence[int], directions: Mapping[int, np.ndarray] | None = None
) -> np.ndarray:
    """A Llama's logits after each token, float64 [tokens, vocabulary], of `tiny_gguf.write_llama`'s
    shape: 4 heads, rotations of neighbouring pairs at base 10,000, RMS norms, SwiGLU.
    `directions`: what is added to what a layer hands on."""
    x = w["token_embd.weight"][list(ids)]
    n, width = x.shape
    heads = 4
    size = width // heads
    angles = np.arange(n)[:, None] * 10000.0 ** (-np.arange(0, size, 2) / size)
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]

    def norm(v: np.ndarray, gain: np.ndarray) -> np.ndarray:
        return v / np.sqrt((v * v).mean(-1, keepdims=True) + 1e-5) * gain

    def rotated(v: np.ndarray) -> np.ndarray:
        v = v.reshape(n, heads, size)
        even, odd = v[..., 0::2], v[..., 1::2]
        return np.stack([even * cos - odd * sin, even * sin + odd * cos], -1).reshape(v.shape)

    for i in range(sum(name.endswith("attn_q.weight") for name in w)):
        layer = {
            k.removeprefix(f"blk.{i}.").removesuffix(".weight"): v
            for k, v in w.items()
            if k.startswith(f"blk.{i}.")
        }
        h = norm(x, layer["attn_norm"])
        q, k = rotated(h @ layer["attn_q"].T), rotated(h @ layer["attn_k"].T)
        v = (h @ layer["attn_v"].T).reshape(n, heads, size)
        scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(size)
        scores[:, np.triu(np.ones((n, n), bool), 1)] = -np.inf
        p = np.exp(scores - scores.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        x = x + np.einsum("hqk,khd->qhd", p, v).reshape(n, width) @ layer["attn_output"].T
        h = norm(x, layer["ffn_norm"])
        gate = h @ layer["ffn_gate"].T
        x = x + (gate / (1 + np.exp(-gate)) * (h @ layer["ffn_up"].T)) @ layer["ffn_down"].T
        if directions and i in directions:
            x = x + directions[i]
    return norm(x, w["output_norm.weight"]) @ w["output.weight"].T
