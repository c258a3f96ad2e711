"""The trained part: a pair of matrices for every matrix inside the layers, and its GGUF file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np
import torch

from tools.real_pair.gemma import Gemma, Lora


def fresh(base: Gemma, rank: int, alpha: float, seed: int) -> Lora:
    """A at random with variance 1 / inputs, B zero: to begin with, the base is unchanged."""
    drawn = torch.Generator().manual_seed(seed)
    pairs = {}
    for name, (outputs, inputs) in base.matrix_shapes().items():
        a = torch.randn(rank, inputs, generator=drawn) * inputs**-0.5
        pairs[name] = (a.requires_grad_(), torch.zeros(outputs, rank, requires_grad=True))
    return Lora(pairs, alpha / rank)


def write_gguf(
    lora: Lora, alpha: float, path: Path, name: str, provenance: Mapping[str, str | int | float]
) -> None:
    """The adapter as llama.cpp reads it: NAME.lora_a [rank, inputs] and NAME.lora_b [outputs, rank]
    in float32, of which it adds scale · alpha / rank · B A to the weight NAME. `provenance` goes
    into keys that begin with real_pair. The file is moved to its place once it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".unfinished")
    writer = gguf.GGUFWriter(str(unfinished), "gemma3")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", alpha)
    writer.add_name(name)
    for key, value in provenance.items():
        add = {str: writer.add_string, int: writer.add_uint32, float: writer.add_float32}
        add[type(value)](f"real_pair.{key}", value)
    for weight, pair in lora.pairs.items():
        for side, matrix in zip("ab", pair, strict=True):
            values = matrix.detach().numpy().astype(np.float32)
            writer.add_tensor(f"{weight}.lora_{side}", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.replace(unfinished, path)
