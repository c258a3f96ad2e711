"""Fetches a model from the Hugging Face hub into its cache, and keeps it only if it is the one
that was vouched for: by the registry, by an earlier pull, or by the hub's own metadata."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from urial_local.base import formats, hub, hub_fetch
from urial_local.base.errors import ModelError, UsageError, near
from urial_local.base.gguf_header import read_header
from urial_local.base.gguf_parts import read_model
from urial_local.base.model_names import single
from urial_local.base.registry import (
    EMBEDDED,
    Entry,
    HubName,
    is_file,
    parse_hub_name,
    parts,
    registry,
)
from urial_local.tasks.models import pulled
from urial_local.tasks.models.cached import alone, remove

SPARE = 256 << 20  # bytes that stay free on the disk
_PIECE = 1 << 22
DEFAULT_QUANT = "Q4_K_M"  # where a repository has several files and none was named

Progress = Callable[[str, int, int], None]  # what, bytes done, bytes in all


@dataclass(frozen=True, slots=True)
class Wanted:
    """One file to have, and what its bytes must be."""

    repo: str
    file: str
    commit: str
    size: int | None  # bytes
    sha256: str | None
    vouched: str  # who says so: the registry, an earlier pull, the hub, nobody
    blob: str | None = None  # the sha256 that the hub says, which names its bytes in the cache

    @property
    def goes_on(self) -> bool:
        """Whether an interrupted download is taken up again."""
        return hub_fetch.goes_on(self.blob, self.size)


@dataclass(frozen=True, slots=True)
class Pulled:
    """A file that is here and is what it should be."""

    wanted: Wanted
    path: Path
    sha256: str
    size: int
    fresh: bool  # it was downloaded just now


def resolve(name: str) -> list[Wanted]:
    """The files that a name stands for, from the hub's metadata; several for a model in parts.

    Raises UsageError for a name that cannot be pulled, HubError where the hub does not answer or
    has no such file, ModelError where what it has is not what the registry means.
    """
    entry = _entry(single(name))
    wanted = HubName(entry.repo, entry.file) if entry else parse_hub_name(name)
    there = hub.repository(wanted.repo)
    names = [file.name for file in there.files if is_file(file.name)]
    found = wanted.choose(names)
    if wanted.file and not found:
        there.file(wanted.file)  # raises, with the nearest names
    if not found:
        models = HubName(wanted.repo).choose(names)
        what = f"no {wanted.quant} file" if wanted.quant else "no GGUF file"
        raise hub.HubError(
            f"{wanted.repo} has {what}.", f"It has {', '.join(models[:12]) or 'no model at all'}."
        )
    if len(found) > 1 and not wanted.quant:
        found = HubName(wanted.repo, quant=DEFAULT_QUANT).choose(names) or found
    if len(found) > 1:
        raise UsageError(
            f"{wanted.repo} has {len(found)} models that {name} may mean.",
            f"Name one, as in hf:{wanted.repo}:{found[0]}. It has {', '.join(found[:12])}.",
        )
    return [_wanted(there, there.file(part), entry) for part in parts(found[0])]


def _entry(name: str) -> Entry | None:
    if name in EMBEDDED:
        raise UsageError(f"{name} is shipped with urial-local; there is nothing to pull.")
    if name.startswith("hf:"):
        return None
    known = registry()
    if name not in known.entries:
        raise UsageError(
            f"The registry has no model {name!r}.",
            f"{near(name, list(known.entries))} Any repository is named as hf:user/repo:Q4_K_M."
            f"{known.troubles()}".lstrip(),
        )
    return known.entries[name]


def _wanted(there: hub.Repository, file: hub.RemoteFile, entry: Entry | None) -> Wanted:
    """Registry before earlier pull before hub; where two that speak differ, nothing is fetched."""
    meant = entry.sha256 if entry and file.name == entry.file else None
    earlier = pulled.records().get(f"{there.name}/{file.name}", {}).get("sha256")
    for sha256, who in ((meant, "the registry"), (earlier, "an earlier pull")):
        if sha256 and file.sha256 and sha256 != file.sha256:
            raise ModelError(
                f"{there.name} now has another {file.name} than {who} says:"
                f" sha256 {file.sha256[:12]}… instead of {sha256[:12]}….",
                f"If you want the new one: urial-local models pull hf:{there.name}:{file.name}"
                if sha256 == meant
                else f"If you want the new one: urial-local models rm hf:{there.name}:{file.name},"
                " then the same command.",
            )
    sources = ((meant, "the registry"), (file.sha256, "the hub"), (earlier, "an earlier pull"))
    known, who = next(((s, w) for s, w in sources if s), (None, "nobody"))
    return Wanted(there.name, file.name, there.commit, file.size, known, who, file.sha256)


def pull_all(wanted: list[Wanted], tell: Progress = lambda what, done, total: None) -> list[Pulled]:
    """Have a model: one file, or all its parts. Raises as `pull`."""
    pulled.check_writable()
    found = [pull(file, tell) for file in wanted]
    if len(found) > 1:
        read_model(found[0].path)  # a part alone is not a whole model
    return found


def pull(wanted: Wanted, tell: Progress = lambda what, done, total: None) -> Pulled:
    """Have one file. Raises HubError where the download fails (the same call goes on with it), and
    ModelError where there is no room, where the file is not what was vouched for (it is removed
    then), or where it is no usable GGUF file."""
    with alone(wanted.repo, wanted.sha256 or wanted.file):
        have = _resumed if wanted.goes_on else _by_the_hub
        path, sha256, fresh = have(wanted, tell)
        if len(parts(wanted.file)) == 1:
            read_header(path)
        size = path.stat().st_size
        pulled.record(wanted.repo, wanted.file, sha256, size, wanted.commit)
        return Pulled(wanted, path, sha256, size, fresh)


def _resumed(wanted: Wanted, tell: Progress) -> tuple[Path, str, bool]:
    """(path, sha256, was it fetched). The file is checked before anybody else can find it."""
    repo, file, commit = wanted.repo, wanted.file, wanted.commit
    assert wanted.blob is not None
    assert wanted.size is not None
    folder = hub.model_folder(repo)
    link, blob = folder / "snapshots" / commit / file, folder / "blobs" / wanted.blob
    copied = link.exists() and not link.is_symlink()  # on a disk without links
    there = blob if blob.exists() else link if copied else None
    if there is None:
        _need_room(wanted)
    path = there or hub_fetch.fetch(repo, file, commit, wanted.blob, wanted.size)
    sha256 = _digest(path, wanted, tell)
    if sha256 != wanted.sha256:
        path.unlink()  # links to it lead nowhere now, and count as no files
        raise _another(wanted, sha256)
    return hub_fetch.adopt(repo, file, commit, wanted.blob, path), sha256, there is None


def _by_the_hub(wanted: Wanted, tell: Progress) -> tuple[Path, str, bool]:
    """The same where the hub says no sha256, or sends the file by Xet only: an interrupted download
    begins anew, and the file is checked after huggingface_hub put it into its cache."""
    there = hub.cached_files(wanted.repo).get(wanted.file)
    if there is None:
        _need_room(wanted)
    path = hub.download(wanted.repo, wanted.file, revision=wanted.commit)
    hub_fetch.remember_main(wanted.repo, wanted.commit)
    sha256 = _digest(path, wanted, tell)
    if wanted.sha256 and sha256 != wanted.sha256:
        remove(path)
        raise _another(wanted, sha256)
    return path, sha256, there is None


def _digest(path: Path, wanted: Wanted, tell: Progress) -> str:
    size, name = path.stat().st_size, Path(wanted.file).name
    return digest(path, lambda done: tell(f"Checking {name}", done, size))


def _another(wanted: Wanted, sha256: str) -> ModelError:
    return ModelError(
        f"{wanted.file} is not what {wanted.vouched} says: sha256 {sha256[:12]}… instead of"
        f" {(wanted.sha256 or '')[:12]}…, so it was removed.",
        "It was damaged in transit or replaced; run the same command again to fetch it.",
    )


def _need_room(wanted: Wanted) -> None:
    folder = hub.cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    need = (wanted.size or 0) - _begun(wanted)
    if need + SPARE > free:
        raise ModelError(
            f"{wanted.file} needs {formats.size(need)} more, and {folder} has"
            f" {formats.size(free)} free.",
            "Make room (`urial-local models list --local`), or set HF_HOME to another disk.",
        )


def _begun(wanted: Wanted) -> int:
    """Bytes of an interrupted download that are there already."""
    if wanted.blob and wanted.goes_on:
        with contextlib.suppress(OSError):
            return hub_fetch.begun(wanted.repo, wanted.blob).stat().st_size
    return 0


def digest(path: Path, tell: Callable[[int], None] = lambda done: None) -> str:
    """sha256 of a file, as 64 hex digits. `tell` hears of the bytes done."""
    found, done = hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            found.update(piece)
            done += len(piece)
            tell(done)
    return found.hexdigest()
