"""How a model is named together with adapters: `MODEL+adapter.gguf[@scale]`, several of them one
after the other, and control vectors as `+cvec:vector.gguf@scale`.

This is the only place that takes such a name apart. What stands before the first plus is looked up
as any model's name is (base.registry). A file whose own name holds a plus or an @ and is there is
taken as it stands.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from urial_local.base.errors import UsageError

AdapterKind = Literal["lora", "cvec"]
MOST_ADAPTERS, MOST_SCALE = 16, 100.0
_HOW = "Write MODEL+adapter.gguf, MODEL+adapter.gguf@0.5 or MODEL+cvec:vector.gguf@0.5."
_QUANTISATION = re.compile(r"[A-Z0-9_]+|[a-z]{1,4}[0-9][a-z0-9_]*")  # Q4_K_M, IQ2_XS, q8_0, f16
_NUMBER = re.compile(r"[+-]?(\d{1,20}(\.\d{0,20})?|\.\d{1,20})(e-?\d{1,3})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class AdapterName:
    """An adapter's file, what it is taken for, and how strongly it is applied."""

    path: Path
    kind: AdapterKind = "lora"
    scale: float = 1.0

    @property
    def label(self) -> str:
        """What stands for it in a model's name: lora@0.5."""
        return self.path.stem + self._suffix()

    @property
    def argument(self) -> str:
        """As the user writes it behind a plus."""
        return f"{'cvec:' if self.kind == 'cvec' else ''}{self.path}{self._suffix()}"

    def _suffix(self) -> str:
        return "" if self.scale == 1 else f"@{self.scale:.12g}"


@dataclass(frozen=True, slots=True)
class ModelName:
    """A model's name, and the adapters that change it, in the order given."""

    base: str
    adapters: tuple[AdapterName, ...] = ()

    @property
    def label(self) -> str:
        """A short name, of the files' names without their folders and endings."""
        return "+".join([Path(self.base).stem, *(a.label for a in self.adapters)])

    def scaled(self, factor: float) -> str:
        """The whole name, with each adapter's scale times a factor."""
        scaled = (replace(a, scale=a.scale * factor) for a in self.adapters)
        return "+".join([self.base, *(a.argument for a in scaled)])


def parse_name(name: str) -> ModelName:
    """Take a model's name apart. Raises UsageError for an adapter without a file, or with a scale
    that is not a number between -100 and 100."""
    pieces = name.split("+")
    if len(pieces) == 1:
        return ModelName(name)
    base, rest = _first(pieces, name.startswith("hf:"))
    adapters = []
    while rest:
        at = next((n for n in range(len(rest), 0, -1) if _is_adapter("+".join(rest[:n]))), 1)
        adapters.append(parse_adapter("+".join(rest[:at]), name))
        rest = rest[at:]
    if len(adapters) > MOST_ADAPTERS:
        raise UsageError(f"{name[:200]!r} names more than {MOST_ADAPTERS} adapters.")
    return ModelName(base, tuple(adapters))


def _first(pieces: list[str], at_hub: bool) -> tuple[str, list[str]]:
    """The model's own part and the rest: the longest beginning that is a file, or, at the hub,
    the shortest that ends as one."""
    for n in range(len(pieces), 0, -1):
        if not at_hub and _exists("+".join(pieces[:n])):
            return "+".join(pieces[:n]), pieces[n:]
    if at_hub and pieces[0].count(":") == 2 and not pieces[0].endswith(".gguf"):
        wanted = pieces[0].rpartition(":")[2]
        ends = [n for n, piece in enumerate(pieces, 1) if piece.endswith(".gguf")]
        # hf:user/repo:a+b.gguf is a file's name, hf:user/repo:Q4_K_M+b.gguf is not.
        if ends and not _QUANTISATION.fullmatch(wanted):
            return "+".join(pieces[: ends[0]]), pieces[ends[0] :]
    return pieces[0], pieces[1:]


def _exists(path: str) -> bool:
    return bool(path) and os.path.lexists(os.path.expanduser(path))


def _is_adapter(piece: str) -> bool:
    """Whether it is that of a file that is there, with or without a scale."""
    file = _file(piece)[1]
    path, _, number = file.rpartition("@")
    return _exists(file) or bool(_NUMBER.fullmatch(number) and _exists(path))


def _file(piece: str) -> tuple[AdapterKind, str]:
    if piece.startswith("cvec:") and not _exists(piece):
        return "cvec", piece.removeprefix("cvec:")
    return "lora", piece


def single(name: str) -> str:
    """A name for what has to do with one file only. Raises UsageError where it names adapters."""
    named = parse_name(name)
    if named.adapters:
        raise UsageError(
            f"{name[:200]!r} names several files, but one model is needed here.",
            f"Name the model alone: {named.base}",
        )
    return name


def parse_adapter(piece: str, name: str = "") -> AdapterName:
    """What stands behind a plus: [cvec:]FILE[@scale], of a name or by itself. Raises UsageError."""
    name = name or piece
    kind, file = _file(piece)
    path, at, number = file.rpartition("@")
    scale = 1.0
    if not at or _exists(file):
        path = file
    else:
        scale = float(number) if _NUMBER.fullmatch(number) else math.nan
        if not abs(scale) <= MOST_SCALE:
            raise UsageError(
                f"{number[:40]!r} in {name[:200]!r} is not an adapter's scale, a number from"
                f" -{MOST_SCALE:g} to {MOST_SCALE:g}.",
                _HOW,
            )
    if not path:
        raise UsageError(f"{name[:200]!r} names an adapter without a file.", _HOW)
    return AdapterName(Path(path).expanduser(), kind, scale)
