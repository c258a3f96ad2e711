"""Models in the hub's cache: one process at a time for each, which files they have, and how they
are taken out again."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import filelock

from urial_local.base import hub
from urial_local.base.errors import ModelError, UsageError
from urial_local.base.files import private_folder
from urial_local.base.hub_fetch import SUFFIX
from urial_local.base.model_names import single
from urial_local.base.paths import cache_dir
from urial_local.base.registry import find_model, hub_name, part_paths, parts
from urial_local.tasks.models import pulled


@contextlib.contextmanager
def alone(repo: str, content: str) -> Iterator[None]:
    """One process at a time has to do with some content (its sha256, or a file's name): none finds
    it while another removes it, and two names of the same bytes are not fetched twice at once."""
    folder = private_folder(cache_dir() / "pulling")
    key = hashlib.sha256(f"{repo}/{content}".encode()).hexdigest()[:32]
    with filelock.FileLock(folder / key):
        yield


def all_parts(name: str) -> list[Path]:
    """The files that a name stands for, those of a model in parts, too. Raises ModelError."""
    return part_paths(find_model(name).path)


def place(path: Path) -> tuple[str, str] | None:
    """(repository, name in it) of a file in the hub's cache; None for one that lies elsewhere."""
    cache = os.path.abspath(hub.cache_folder())
    inside = Path(os.path.abspath(path))
    if not inside.is_relative_to(cache):
        return None
    names = inside.relative_to(cache).parts
    if len(names) < 4 or not names[0].startswith("models--") or names[1] != "snapshots":
        return None
    return _repository(names[0]), "/".join(names[3:])


def _repository(folder: str) -> str:
    """The name of the repository that a folder of the cache is for."""
    return folder.removeprefix("models--").replace("--", "/", 1)


def removable(name: str) -> list[Path]:
    """The files of a pulled model, or those of its parts that are there; where there are none, what
    interrupted pulls left of its repository. Raises ModelError where there is nothing, UsageError
    for a file of the user's own."""
    wanted = hub_name(single(name))
    if wanted is None:
        path = find_model(name).path
        if os.path.lexists(path):
            raise UsageError(f"{path} is a file of yours.", f"rm {path}")
        raise ModelError(f"There is no model file {path}.")
    there = hub.cached_files(wanted.repo)
    first = wanted.choose(list(there)) or [wanted.file or ""]
    if len(first) > 1:
        raise ModelError(
            f"{name} could be any of {', '.join(first)}.", f"Name one: hf:{wanted.repo}:{first[0]}"
        )
    found = [there[part] for part in parts(first[0]) if part in there]
    found = found or sorted((hub.model_folder(wanted.repo) / "blobs").glob("*" + SUFFIX))
    if not found:
        raise ModelError(
            f"The model {name} is not on this machine, so there is nothing to remove.",
            "`urial-local models list --local` shows what is.",
        )
    return found


def remove(path: Path) -> int:
    """Take a file out of the hub's cache: its links in all snapshots, and the bytes that they lead
    to unless another link there needs them. Returns the bytes freed. A blob that is itself a link,
    into a store that several caches share, is unlinked, and its bytes stay.

    Raises UsageError for a file that lies elsewhere, ModelError where there is none.
    """
    if path.name.endswith(SUFFIX) and path.is_relative_to(hub.cache_folder()):
        return _unlink(path)
    where = place(path)
    if where is None:
        raise UsageError(f"{path} is not in the hub's cache, so it is not removed.")
    repo, name = where
    folder = Path(os.path.abspath(hub.model_folder(repo)))
    links = [p for s in (folder / "snapshots").glob("*") if os.path.lexists(p := s / name)]
    if not links:
        raise ModelError(f"There is no model file {path}.")
    blobs = {_target(link) for link in links} - set(links)
    freed = sum(_unlink(link) for link in links)
    blobs -= {_target(p) for p in (folder / "snapshots").rglob("*") if p.is_symlink()}
    return freed + sum(_unlink(b) for b in blobs if b.parent == folder / "blobs")


def remove_model(path: Path) -> int:
    """As `remove`, while nobody fetches the same bytes, and with what is recorded of the file."""
    where = place(path)
    repo = where[0] if where else _repository(path.parents[1].name)
    with alone(repo, _target(path).name.removesuffix(SUFFIX)):
        freed = remove(path)
        if where:
            pulled.forget(*where)
    return freed


def _target(link: Path) -> Path:
    """Where a link leads, one step; a file that is none is itself."""
    if not link.is_symlink():
        return link
    return Path(os.path.normpath(link.parent / os.readlink(link)))


def _unlink(path: Path) -> int:
    """Bytes freed: none by a link, or by what is gone already."""
    with contextlib.suppress(FileNotFoundError):
        size = 0 if path.is_symlink() else path.stat().st_size
        path.unlink()
        return size
    return 0
