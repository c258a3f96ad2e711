"""What `models show` says of a model and of an adapter, line by line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from urial_local.base.formats import counted, parameters, size
from urial_local.cli.plumbing.cells import padded

if TYPE_CHECKING:
    from urial_local.tasks.models.describe import AdapterDescription, Description

_KINDS = {"lora": "LoRA", "cvec": "control vector"}


def described(f: Description) -> list[tuple[str, str]]:
    types = ", ".join(f"{kind} {v.tensors}× {size(v.bytes)}" for kind, v in f.types.items())
    most = "at most " if f.kv_at_most else ""
    gpu = "no GPU is seen here; --gpu-memory GB tells for another machine"
    if f.gpu:
        layers = "all" if f.gpu.all else str(f.gpu.layers)
        gpu = f"--gpu-layers {layers} fits {size(f.gpu.free)} ({f.layers} layers)"
    lines = [
        ("model", f.title[:200]),
        ("file", f"{f.path} ({size(f.file_size)})"),
        ("architecture", f.architecture),
        ("parameters", parameters(f.parameters)),
        ("quantisation", f"{f.quantisation} ({types})"),
        ("context", f"{f.context:,} tokens" if f.context else "not said"),
        ("vocabulary", f"{f.vocabulary:,} tokens, {f.tokeniser[:80]}"),
        ("chat template", "yes, so it is probably aligned" if f.chat_template else "no"),
        ("cache", f"{most}{f.kv_bytes_per_token:,} bytes a token ({f.kv_type})"),
        ("memory", f"about {size(f.memory.total)} for {f.ctx_size:,} tokens: weights"
                   f" {size(f.memory.weights)}, cache {size(f.memory.cache)}, computing"
                   f" about {size(f.memory.compute)}"),
        ("GPU", gpu),
    ]  # fmt: skip
    for adapter in f.adapters:
        lines += adapter_lines(adapter)
    for i, prompt in enumerate(f.prompts):
        said = "does not suit this vocabulary"
        if prompt.tokens is not None:
            said = f"{prompt.tokens:>6,} tokens{'' if prompt.fits else ', does not fit'}"
        lines.append(("prompts" if not i else "", f"{padded(prompt.name, 14)} {said}"))
    return lines


def adapter_lines(a: AdapterDescription) -> list[tuple[str, str]]:
    """A LoRA's ranks and which tensors it changes, a control vector's layers."""
    types = ", ".join(f"{kind} {v.tensors}× {size(v.bytes)}" for kind, v in a.types.items())
    scale = "" if a.scale is None else f", scale {a.scale:g}"
    lines = [
        ("adapter", f"{_KINDS[a.kind]}{scale}"),
        ("file", f"{a.path} ({size(a.file_size)})"),
        ("architecture", a.architecture[:80] or "not said"),
        ("parameters", f"{parameters(a.parameters)} ({types})"),
    ]
    if a.kind == "cvec":
        lines.append(("layers", f"{_ranges(a.layers)}, each of the width {a.width:,}"))
        return lines
    alpha = f"alpha {a.alpha:g}" if a.alpha else "no alpha, so its product counts as it is"
    lines.append(("rank", f"{_ranges(a.ranks)}, {alpha}"))
    changed = ", ".join(f"{name} ({counted(n, 'tensor')})" for name, n in a.modules.items())
    lines.append(("changes", changed[:2000]))
    if a.ignored:
        lines.append(("ignored", f"{counted(len(a.ignored), 'norm')}, as llama.cpp does"))
    return lines


def _ranges(numbers: tuple[int, ...]) -> str:
    """1, 2, 3, 5 as 1–3, 5."""
    runs: list[list[int]] = []
    for n in numbers:
        if runs and runs[-1][1] == n - 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in runs)
