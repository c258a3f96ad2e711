"""Files that somebody may take for a model and that are none, by name, and what to do instead."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from urial_local.base.errors import ModelError

HEAD = 64  # bytes that tell the kind of a file
_CONVERT = "llama.cpp's convert_hf_to_gguf.py makes one from Hugging Face weights."
_ITSELF = "Name the model's own file."
_COMPRESSED = ("is compressed", "Unpack it first.")
LFS_POINTER = b"version https://git-lfs"
LFS_ADVICE = "`git lfs pull` in its folder fetches the file itself."
_OLD = ("has llama.cpp's format from before GGUF", "Look for a conversion of the model to GGUF.")
_KINDS = {  # of GGUF files
    "adapter": (
        "an adapter (LoRA), which changes a model",
        "Name it behind the model that it was trained on: MODEL+{path}",
    ),
    "mmproj": ("the projector (mmproj) of a model that takes images or sound", _ITSELF),
    "imatrix": ("an importance matrix (imatrix), which helps to quantise a model", _ITSELF),
    "controlvector": (
        "a control vector, which steers a model",
        "Name it behind the model that it was made for: MODEL+cvec:{path}",
    ),
}
_KINDS["clip"] = _KINDS["mmproj"]  # by the architecture, as older ones say it
_HEADS = {
    LFS_POINTER: ("is a Git LFS pointer, which stands for a file", LFS_ADVICE),
    b"PK\x03\x04": ("is a ZIP archive, as PyTorch's weights are", _CONVERT),
    b"\x1f\x8b": _COMPRESSED,
    b"BZh": _COMPRESSED,
    b"\xfd7zXZ": _COMPRESSED,
    b"\x28\xb5\x2f\xfd": _COMPRESSED,
    b"lmgg": _OLD,
    b"fmgg": _OLD,
    b"tjgg": _OLD,
    b"algg": _OLD,
}
_PAGE = (
    "is a web page",
    "It was fetched instead of the file: `urial-local models pull hf:user/repo:FILE` fetches that.",
)


def other_kind(path: Path, metadata: Mapping[str, Any]) -> ModelError | None:
    """What a GGUF file is by its metadata, where that is something else than a model."""
    for name in (metadata.get("general.type"), metadata.get("general.architecture")):
        if isinstance(name, str) and name in _KINDS:
            what, hint = _KINDS[name]
            return ModelError(f"{path} is not a model but {what}.", hint.format(path=path))
    return None


def other_format(path: Path, head: bytes) -> ModelError:
    """What a file is by its first bytes, which are not those of a GGUF file."""
    what = f"starts with {head[:4]!r}, not with b'GGUF'" if head else "is empty"
    hint = _CONVERT
    for start, (named, advice) in _HEADS.items():
        if head.startswith(start):
            what, hint = named, advice
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        what, hint = _PAGE
    if head[8:10] == b'{"':
        what = "holds weights in safetensors"
    return ModelError(f"{path} is not a GGUF file: it {what}.", hint)


def not_there(path: Path) -> ModelError:
    """Why there is no file of that name: a link may lead nowhere, its own or that of a folder."""
    for place in (path, *path.parents):
        if place.is_symlink() and not os.path.exists(place):
            target = os.path.join(place.parent, os.readlink(place))
            return ModelError(
                f"{place} is a link to {os.path.normpath(target)}, which is not there.",
                "Put the file there, or name another one.",
            )
    others = ", ".join(sorted(p.name for p in path.parent.glob("*.gguf") if p.exists())[:5])
    hint = f"In {path.parent} there is {others}." if others else "Check the path."
    return ModelError(f"There is no model file {path}.", hint)
