"""What an adapter's file must be before llama.cpp sees it, and what its header says of it.

A LoRA adapter has, for each matrix W of a model that it changes, two thin ones: with rank r,
A [r, in] and B [out, r], and W x becomes W x + scale · (alpha / r) · B A x. As llama.cpp takes it,
an alpha of 0 means that alpha / r is left out. Its tensors are called as the matrix is, with
`.lora_a` or `.lora_b` behind. A control vector has, for layers from the second on, one vector
`direction.N` as wide as the model, which is added, times its scale, to what layer N hands on.
Format: https://github.com/ggml-org/llama.cpp, src/llama-adapter.cpp and common/common.cpp.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from urial_local.base.errors import ModelError
from urial_local.base.gguf_header import GGUFHeader, TensorInfo, read_header
from urial_local.base.model_names import AdapterKind

_A, _B, _NORM, _EMBEDDING = ".lora_a", ".lora_b", "_norm.weight", "token_embd.weight"
_DIRECTION = re.compile(r"direction\.([1-9][0-9]{0,4})")
_WHOLE_NUMBERS = (24, 25, 26, 27)  # ggml's types I8, I16, I32, I64
_F32 = 0
_CONVERT = "llama.cpp's convert_lora_to_gguf.py converts a PEFT adapter."
_VECTOR = "llama.cpp's llama-cvector-generator makes such a file."
_BASE = "Name the model that it was trained on, in any quantisation."
_MERGE = (
    "Merge it with Hugging Face's PEFT (merge_and_unload), and convert the result to GGUF, or"
    " train the adapter without modules_to_save and new tokens."
)


@dataclass(frozen=True, slots=True)
class Pair:
    """The two tensors that change one of a model's."""

    a: TensorInfo
    b: TensorInfo

    @property
    def rank(self) -> int:
        return self.b.shape[0]  # as llama.cpp takes it


@dataclass(frozen=True, slots=True)
class AdapterFacts:
    """What an adapter's header says. Of a LoRA: alpha, and by the model's tensors the pairs; of a
    control vector: the layers that have a direction, and its width."""

    kind: AdapterKind
    architecture: str  # of its model; empty where it does not say
    alpha: float = 0.0
    pairs: Mapping[str, Pair] | None = None
    ignored: tuple[str, ...] = ()  # tensors that llama.cpp passes over
    layers: tuple[int, ...] = ()
    width: int = 0

    @property
    def ranks(self) -> tuple[int, ...]:
        return tuple(sorted({pair.rank for pair in (self.pairs or {}).values()}))

    @property
    def modules(self) -> dict[str, int]:
        """How many layers have each kind of changed tensor: attn_q in 12."""
        found: dict[str, int] = {}
        for name in self.pairs or {}:
            module = re.sub(r"^blk\.\d+\.", "", name).removesuffix(".weight")
            found[module] = found.get(module, 0) + 1
        return found


def read_adapter(path: Path, kind: AdapterKind = "lora") -> tuple[GGUFHeader, AdapterFacts]:
    """Read and check an adapter's header by itself. Raises ModelError where it is malformed, or
    something else than the name says."""
    header = read_header(path, adapter=True)
    found = adapter_kind(header)
    if found is None:
        raise ModelError(
            f"{path} is not an adapter: it names neither the type adapter nor controlvector.",
            f"Write the model before the plus, and adapters after it. {_CONVERT}",
        )
    if found != kind:
        wrong = "a control vector" if found == "cvec" else "a LoRA adapter"
        raise ModelError(
            f"{path} is {wrong}.",
            f"Write {'cvec:' if found == 'cvec' else ''}{path} after the plus.",
        )
    return header, _vector(path, header) if kind == "cvec" else _lora(path, header)


def adapter_kind(header: GGUFHeader) -> AdapterKind | None:
    """What an adapter's header says that it is; None where it is of no kind known here."""
    if header.architecture == "controlvector":
        return "cvec"
    return "lora" if header.metadata.get("general.type") == "adapter" else None


def _refuse(path: Path, what: str, hint: str = _CONVERT) -> ModelError:
    return ModelError(f"{path} is not a usable adapter: {what}.", hint)


def _lora(path: Path, header: GGUFHeader) -> AdapterFacts:
    metadata = header.metadata
    kind = metadata.get("adapter.type")
    if kind != "lora":
        raise _refuse(path, f"its adapter.type is {str(kind)[:40]!r}, not 'lora'")
    architecture = metadata.get("general.architecture")
    if not (isinstance(architecture, str) and architecture):
        raise _refuse(path, "it does not name its model's architecture")
    if any(key.startswith("adapter.alora.") for key in metadata):
        raise _refuse(
            path,
            "it is an activated LoRA (aLoRA), which applies only after certain tokens",
            "urial-local applies adapters to all tokens. Use a plain LoRA.",
        )
    alpha = metadata.get("adapter.lora.alpha", 0.0)
    if type(alpha) is not float or not math.isfinite(alpha):
        raise _refuse(path, f"its alpha is {str(alpha)[:40]}, not a finite decimal number")
    pairs, ignored = _paired(path, header)
    for name, pair in pairs.items():
        _check_pair(path, name, pair)
    return AdapterFacts("lora", architecture, alpha, pairs, ignored)


def _paired(path: Path, header: GGUFHeader) -> tuple[dict[str, Pair], tuple[str, ...]]:
    halves: dict[str, dict[str, TensorInfo]] = {}
    ignored = []
    for tensor in header.tensors:
        stem, suffix = tensor.name[: -len(_A)], tensor.name[-len(_A) :]
        if suffix in (_A, _B):
            halves.setdefault(stem, {})[suffix] = tensor
        elif tensor.name.endswith(_NORM):
            ignored.append(tensor.name)
        else:
            raise _refuse(
                path,
                f"{tensor.name!r} is a whole tensor, as PEFT writes for modules_to_save and"
                " new tokens, but llama.cpp adds only low-rank changes",
                _MERGE,
            )
        if _A in stem or _B in stem:
            raise _refuse(path, f"the name {tensor.name!r} says lora twice")
    for name, found in halves.items():
        if missing := {_A, _B} - found.keys():
            raise _refuse(path, f"{name + missing.pop()!r} is missing, but its other half is there")
    if not halves:
        raise _refuse(path, "it changes no matrix of a model")
    return {name: Pair(found[_A], found[_B]) for name, found in halves.items()}, tuple(ignored)


def _check_pair(path: Path, name: str, pair: Pair) -> None:
    for tensor in (pair.a, pair.b):
        if tensor.type in _WHOLE_NUMBERS:
            raise _refuse(path, f"{tensor.name!r} holds whole numbers")
        if len(tensor.shape) < 2:
            raise _refuse(path, f"{tensor.name!r} has the shape {tensor.shape}, not a matrix's")
    # A table of embeddings is read by rows, so its A stands the other way round.
    inner = pair.a.shape[0] if name.endswith(_EMBEDDING) else pair.a.shape[1]
    if inner != pair.rank or pair.a.shape[2:] != pair.b.shape[2:]:
        raise _refuse(
            path,
            f"the shapes {pair.a.shape} and {pair.b.shape} of the two halves of {name!r} do not fit"
            " together",
        )


def _vector(path: Path, header: GGUFHeader) -> AdapterFacts:
    layers = []
    widths = set()
    for tensor in header.tensors:
        match = _DIRECTION.fullmatch(tensor.name)
        if not match:
            raise _refuse(path, f"{tensor.name!r} is not named direction.N, N from 1", _VECTOR)
        if tensor.type != _F32 or len(tensor.shape) != 1:
            raise _refuse(path, f"{tensor.name} is not a vector in F32", _VECTOR)
        layers.append(int(match[1]))
        widths.add(tensor.shape[0])
    if len(widths) != 1:
        raise _refuse(path, "its directions have different widths", _VECTOR)
    hint = header.metadata.get("controlvector.model_hint")
    architecture = hint if isinstance(hint, str) else ""
    return AdapterFacts("cvec", architecture, layers=tuple(sorted(layers)), width=widths.pop())


def check_fits(path: Path, facts: AdapterFacts, model: GGUFHeader) -> None:
    """Hold an adapter against the header of the model that it is to change. Raises ModelError where
    it is one for another model."""
    name = model.architecture
    if facts.architecture and facts.architecture != name:
        raise ModelError(
            f"{path} is an adapter for the architecture {facts.architecture[:64]!r}, but the"
            f" model's is {name}.",
            _BASE,
        )
    if facts.kind == "cvec":
        _check_layers(path, facts, model)
        return
    tensors = {tensor.name: tensor for tensor in model.tensors}
    for changed, pair in (facts.pairs or {}).items():
        if changed not in tensors:
            raise ModelError(
                f"{path} changes {changed!r}, but the model has no tensor of that name.", _BASE
            )
        _check_shapes(path, changed, pair, tensors[changed])
        if changed.endswith(_EMBEDDING) and "output.weight" not in tensors:
            raise ModelError(
                f"{path} changes the token embeddings, which this model also uses for its"
                " output; llama.cpp cannot do both.",
                _MERGE,
            )


def _check_shapes(path: Path, name: str, pair: Pair, tensor: TensorInfo) -> None:
    if len(tensor.shape) < 2:
        raise ModelError(
            f"{path} changes {name!r}, which is a vector; llama.cpp would not apply it.",
            _MERGE,
        )
    a, b = pair.a.shape, pair.b.shape
    made = (b[1], a[1]) if name.endswith(_EMBEDDING) else (a[0], b[1])
    if (*made, *a[2:]) != tensor.shape:
        raise ModelError(
            f"{path} changes {name!r} in the shape {(*made, *a[2:])}, but the model's is"
            f" {tensor.shape}.",
            _BASE,
        )


def _check_layers(path: Path, facts: AdapterFacts, model: GGUFHeader) -> None:
    width = model.metadata.get(f"{model.architecture}.embedding_length")
    if facts.width != width:
        raise ModelError(
            f"{path} is a control vector of the width {facts.width:,}, but the model's is {width}.",
            _BASE,
        )
    count = model.metadata.get(f"{model.architecture}.block_count")
    if type(count) is not int or facts.layers[-1] >= count:
        raise ModelError(
            f"{path} has a direction for layer {facts.layers[-1]}, but the model's layers are 0 to"
            f" {count - 1 if type(count) is int else '?'}.",
            _BASE,
        )
