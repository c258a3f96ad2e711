"""What `-m` may name: a model of the registry, `hf:user/repo[:quant or file]`, a file, or one of
the two embedded demo models.

The registry is `models.txt`, one model a line; the user's own is read after the shipped one and may
replace its lines. Names, repositories and files are checked, so that none leads out of the cache.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from urial_local.base.errors import ModelError, UsageError, near
from urial_local.base.hub import cached_files
from urial_local.base.model_names import AdapterName, parse_name
from urial_local.base.paths import config_dir, shipped

DEMO_NOTE = (
    "No model was named, so the embedded demo model answers: 8 MB, trained on a small invented"
    " world, it shows how URIAL works and knows nothing else. For a real one:\n"
    "  urial-local models list\n"
    "  urial-local models pull mistral-7b"
)
COLUMNS = 11
MAX_LINE, MAX_FILE = 4096, 1 << 20  # characters, bytes
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,199}")
_QUANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,22}[A-Za-z0-9]")
_WORD = re.compile(r"[A-Za-z0-9._+-]{1,64}")
_SPLIT = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of a registry."""

    name: str
    repo: str
    file: str
    quant: str
    sha256: str | None
    size: int | None  # bytes
    context: int | None  # tokens trained on
    licence: str
    role: Literal["base", "aligned"]
    pair: str | None  # name of the counterpart
    source: str  # how the line was established; see the file's header


@dataclass(frozen=True, slots=True)
class Registry:
    """All models by name, and what is wrong with the files: one sentence each."""

    entries: Mapping[str, Entry]
    problems: tuple[str, ...] = ()

    def troubles(self) -> str:
        """The first problems, for the hint where a name is not found: its line may be malformed."""
        return "".join(f"\n{problem}" for problem in self.problems[:3])


@dataclass(frozen=True, slots=True)
class HubName:
    """`hf:user/repo[:quant or file]`."""

    repo: str
    file: str | None = None
    quant: str | None = None

    def choose(self, files: list[str]) -> list[str]:
        """The files of a repository that are meant; none, one, or several that could be. Of a model
        in parts, the first part."""
        models = sorted(f for f in files if f.endswith(".gguf") and "mmproj" not in f.lower())
        models = [f for f in models if not (m := _SPLIT.search(f)) or int(m[1]) == 1]
        if self.file:
            return [f for f in models if f == self.file]
        if self.quant:
            ends = re.compile(rf"(^|[^a-z0-9]){self.quant.lower()}([^a-z0-9_]|$)")
            return [f for f in models if ends.search(f.lower())]
        return models


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A model file, the prompt that suits it where one is known, and the adapters named with it."""

    path: Path
    prompt: str | None = None
    adapters: tuple[AdapterName, ...] = ()


_EMBEDDED = {
    "demo": ("demo-base-q8_0.gguf", "urial-demo"),
    "demo-aligned": ("demo-aligned-q8_0.gguf", "chat"),
}
EMBEDDED = tuple(_EMBEDDED)
_ROLES = {"demo": "base", "demo-aligned": "aligned"}


def find_model(name: str) -> NamedModel:
    """The model that a name stands for, also with adapters (base.model_names). Raises ModelError
    where the name is not a file's, or where the model has not been pulled. No network is used.

    A file called `demo`, or like a model of the registry, is reached as `./demo`.
    """
    named = parse_name(name)
    return replace(_find(named.base), adapters=named.adapters)


def _find(name: str) -> NamedModel:
    if name in _EMBEDDED:
        file, prompt = _EMBEDDED[name]
        return NamedModel(shipped("demo") / file, prompt)
    if wanted := hub_name(name):
        return NamedModel(_cached(name, wanted))
    if "/" not in name and not name.endswith(".gguf") and not os.path.lexists(name):
        known = registry()
        raise ModelError(
            f"There is no model {name!r}.",
            f"{near(name, [*_EMBEDDED, *known.entries])} `urial-local models list` shows them all;"
            f" a .gguf file is named by its path.{known.troubles()}",
        )
    return NamedModel(Path(name).expanduser())


def hub_name(name: str) -> HubName | None:
    """What a name of the registry, or one with hf:, means at the hub; None for a file's name.
    Raises UsageError."""
    if name.startswith("hf:"):
        return parse_hub_name(name)
    if "/" in name or name.endswith(".gguf") or name in _EMBEDDED:
        return None
    entry = registry().entries.get(name)
    return HubName(entry.repo, entry.file) if entry else None


def _cached(name: str, wanted: HubName) -> Path:
    there = cached_files(wanted.repo)
    found = wanted.choose(list(there))
    if not found:
        raise ModelError(
            f"The model {name} is not on this machine yet.", f"urial-local models pull {name}"
        )
    if len(found) > 1:
        raise ModelError(
            f"{name} could be any of {', '.join(found)}.",
            f"Name one: hf:{wanted.repo}:{found[0]}",
        )
    missing = [part.name for part in part_paths(there[found[0]]) if not part.exists()]
    if missing:
        raise ModelError(
            f"Of the model {name}, {len(missing)} parts are missing, {missing[0]} for one.",
            f"urial-local models pull {name}",
        )
    return there[found[0]]


def counterpart(name: str) -> str | None:
    """The model with the other role that makes a pair with this one, where one is known."""
    if name in _EMBEDDED:
        return next(other for other in _EMBEDDED if other != name)
    entry = registry().entries.get(name)
    return entry.pair if entry else None


def parse_hub_name(name: str) -> HubName:
    """hf:user/repo, hf:user/repo:Q4_K_M or hf:user/repo:folder/file.gguf. Raises UsageError."""
    repo, _, wanted = name.removeprefix("hf:").partition(":")
    if not _REPO.fullmatch(repo) or ".." in repo:
        raise UsageError(f"{name!r} names no repository.", "Write hf:user/repo[:quant or file].")
    if not wanted:
        return HubName(repo)
    if wanted.endswith(".gguf"):
        if not is_file(wanted):
            raise UsageError(f"{wanted!r} is not the name of a GGUF file in a repository.")
        if (first := parts(wanted)[0]) != wanted:
            raise UsageError(
                f"{wanted} is a part of a model.", f"Name the first: hf:{repo}:{first}"
            )
        return HubName(repo, file=wanted)
    if not _QUANT.fullmatch(wanted):
        raise UsageError(
            f"{wanted!r} is neither a quantisation such as Q4_K_M nor a .gguf file.",
            "Write hf:user/repo[:quant or file].",
        )
    return HubName(repo, quant=wanted)


def parts(file: str) -> list[str]:
    """The files of a model: itself, or all its parts where it is one of several."""
    match = _SPLIT.search(file)
    if not match or not 1 <= int(match[1]) <= int(match[2]) <= 999:
        return [file]
    stem = file[: match.start()]
    return [f"{stem}-{i:05}-of-{match[2]}.gguf" for i in range(1, int(match[2]) + 1)]


def part_paths(first: Path) -> list[Path]:
    """The files of a model whose first one is given: llama.cpp finds the others beside it."""
    return [first.with_name(part) for part in parts(first.name)]


def user_registry() -> Path:
    return config_dir() / "models.txt"


def registry() -> Registry:
    """The shipped registry and the user's own, read anew."""
    entries: dict[str, Entry] = {}
    problems: list[str] = []
    for path in (shipped("models.txt"), user_registry()):
        if path.exists():
            found, malformed = read_registry(path)
            entries.update(found)
            problems += malformed
    for entry in entries.values():
        known = entries.get(entry.pair or "")
        role = known.role if known else _ROLES.get(entry.pair or "")
        if entry.pair and (role is None or role == entry.role):
            wrong = f"is also {role}" if role else "is not there"
            problems.append(f"{entry.name} names {entry.pair} as its counterpart, which {wrong}.")
    return Registry(entries, tuple(problems))


def read_registry(path: Path) -> tuple[dict[str, Entry], list[str]]:
    """The entries of one file, and a sentence for each line that is malformed."""
    entries: dict[str, Entry] = {}
    problems = []
    try:
        if not path.is_file() or path.stat().st_size > MAX_FILE:
            return {}, [f"{path} is not a file of at most 1 MB, so it is not read."]
        lines = path.read_text("utf-8-sig").split("\n")  # editors know no other line ends
    except (OSError, UnicodeDecodeError) as error:
        return {}, [f"{path} cannot be read: {error}"]
    for number, line in enumerate(lines, 1):
        text = line.split("#", 1)[0].strip()
        if not text:
            continue
        try:
            entry = parse_line(text)
            if entry.name in entries:
                raise ValueError(f"the name {entry.name} appears twice")
            entries[entry.name] = entry
        except ValueError as error:
            problems.append(f"{path}, line {number}: {error}.")
    return entries, problems


def parse_line(text: str) -> Entry:
    """One line of a registry. Raises ValueError that says what is wrong with it."""

    def need(ok: object, what: str) -> None:
        if not ok:
            raise ValueError(what)

    need(len(text) <= MAX_LINE, f"it has more than {MAX_LINE} characters")
    cells = text.split()
    need(len(cells) == COLUMNS, f"it has {len(cells)} columns instead of {COLUMNS}")
    name, repo, file, quant, sha256, size, context, licence, role, pair, source = cells
    need(_NAME.fullmatch(name), f"{name!r} is not a name (lower case, digits and . _ -)")
    need(name not in _EMBEDDED, f"{name!r} is an embedded model")
    need(_REPO.fullmatch(repo) and ".." not in repo, f"{repo!r} is not a repository (user/name)")
    need(is_file(file), f"{file!r} is not the name of a GGUF file in a repository")
    need(parts(file)[0] == file, f"{file!r} is not the first part of its model")
    need(_QUANT.fullmatch(quant), f"{quant!r} is not a quantisation")
    need(sha256 == "-" or re.fullmatch("[0-9a-f]{64}", sha256), f"{sha256!r} is not a sha256")
    for value, what in ((size, "size in bytes"), (context, "number of tokens")):
        need(value == "-" or re.fullmatch("[1-9][0-9]{0,14}", value), f"{value!r} is not a {what}")
    need(role in ("base", "aligned"), f"the role is {role!r} instead of base or aligned")
    need(pair == "-" or _NAME.fullmatch(pair), f"{pair!r} is not a name")
    for word, what in ((licence, "licence"), (source, "source")):
        need(_WORD.fullmatch(word), f"{word!r} is not a {what}")
    return Entry(
        name=name,
        repo=repo,
        file=file,
        quant=quant,
        sha256=None if sha256 == "-" else sha256,
        size=None if size == "-" else int(size),
        context=None if context == "-" else int(context),
        licence=licence,
        role="base" if role == "base" else "aligned",
        pair=None if pair == "-" else pair,
        source=source,
    )


def is_file(name: str) -> bool:
    """Whether a name may be that of a GGUF file in a repository."""
    inside = name.split("/")
    return (
        name.endswith(".gguf")
        and len(inside) <= 4
        and all(_PART.fullmatch(part) and ".." not in part for part in inside)
    )
