"""Puts the shards of a run together into one run folder."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from urial_local.base.errors import UsageError
from urial_local.records.runlog import Row, RunLog, latest_rows, read_run, refuse_other


@dataclass(frozen=True, slots=True)
class Merged:
    """How many rows the merged run has now, and which shards of it were not given."""

    rows: int
    errors: int
    missing_shards: tuple[str, ...]


def merge_runs(output: Path, folders: Sequence[Path], key: tuple[str, ...]) -> Merged:
    """Append the rows of several runs to one; merging again adds only what is new.

    `key` names the fields that tell rows apart. Raises UsageError where the configurations differ
    in more than the shard, or where a row was made twice with different results; RunError as
    RunLog does.
    """
    infos = [read_run(folder) for folder in folders]
    configs = [info["config"] for info in infos]
    whole = {**configs[0], "shard": None}
    for folder, config in zip(folders, configs, strict=True):
        refuse_other(whole, {**config, "shard": None}, folder)
    refuse_conflicts(folders, key)
    with RunLog(output, whole, key) as log:
        for folder in folders:
            if folder.resolve() == output.resolve():
                raise UsageError("A run cannot be merged into itself; choose another -o.")
            for row in latest_rows(folder, key):
                names = tuple(str(row.get(name, "")) for name in key)
                if not log.has(*names):
                    log.append(row)
            for path in folder.glob("tokens-*.json"):
                if not (output / path.name).exists():
                    shutil.copyfile(path, output / path.name)
        shards = [str(c["shard"]) for c in configs if c.get("shard")]
        log.add_sessions([s for info in infos for s in info["sessions"]], shards)
        missing = _missing(log.merged_shards) if len(shards) == len(configs) else ()
        return Merged(len(log.keys), log.count_errors(), missing)


def refuse_conflicts(folders: Sequence[Path], key: tuple[str, ...]) -> None:
    """Raises UsageError where two runs hold the same row with different answers."""
    seen: dict[tuple[str, ...], tuple[Path, Any]] = {}
    for folder in folders:
        for row in latest_rows(folder, key):
            if row.get("error"):
                continue
            names = tuple(str(row.get(name, "")) for name in key)
            first, other = seen.setdefault(names, (folder, _content(row)))
            if other != _content(row):
                raise UsageError(
                    f"The row {' / '.join(names)} is in {first} and in {folder}, and differs.",
                    "Leave one of the two runs out.",
                )


def _content(row: Row) -> bytes:
    """A digest of all of a row but when and where it was made."""
    same = {k: v for k, v in row.items() if k not in ("seconds", "number", "cached_tokens")}
    return hashlib.sha256(json.dumps(same, sort_keys=True).encode()).digest()


def _missing(names: Sequence[str]) -> tuple[str, ...]:
    """Shards i/n that are not among those merged, where all are shards of the same n."""
    shards = [name.split("/") for name in names]
    if len({n for _, n in shards}) != 1:
        return ()
    given = {int(i) for i, _ in shards}
    n = int(shards[0][1])
    return tuple(f"{i}/{n}" for i in range(1, n + 1) if i not in given)
