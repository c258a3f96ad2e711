"""Puts the shards of a run together into one run folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from urial_local.base.errors import UsageError
from urial_local.records.known import key_digest
from urial_local.records.runlog import RunLog, refuse_other, write_json
from urial_local.records.runs import (
    Row,
    RunInfo,
    any_row,
    key_of,
    latest_rows,
    read_run,
    read_token_texts,
)


@dataclass(frozen=True, slots=True)
class Merged:
    """How many rows the merged run has now, and which shards of it were not given, or lack rows."""

    rows: int
    errors: int
    missing_shards: tuple[str, ...]
    unfinished: tuple[RunInfo, ...] = ()  # runs that ended before their last row


def merge_runs(
    output: Path,
    folders: Sequence[Path],
    key: tuple[str, ...],
    read: Callable[[Row], object] = any_row,
) -> Merged:
    """Append the rows of several runs to one; merging again adds only what is new.

    `key` and `read` are those of RunLog. Raises UsageError where the configurations differ in more
    than the shard, or where a row was made twice with different results; RunError as RunLog does,
    and where a run holds what is not a row, before anything is written.
    """

    def whole(row: Row) -> Row:
        if not row.get("error"):
            read(row)
        return any_row(row)  # with what no record looks at, since all of it is copied

    infos = [read_run(folder) for folder in folders]
    configs = [info.config for info in infos]
    merged = {**configs[0], "shard": None}
    for folder, config in zip(folders, configs, strict=True):
        refuse_other(merged, {**config, "shard": None}, folder)
    refuse_conflicts(folders, key, whole)
    with RunLog(output, merged, key, read) as log:
        for folder in folders:
            if folder.resolve() == output.resolve():
                raise UsageError("A run cannot be merged into itself; choose another -o.")
            for row in latest_rows(folder, key, whole):
                if not log.has(*key_of(row, key)):
                    log.append(row)
            _copy_token_texts(folder, output)
        shards = [info.shard for info in infos if info.shard]
        log.add_sessions([s for i in infos for s in i.raw.get("sessions") or ()], shards)
        missing = _missing(log.merged_shards) if len(shards) == len(configs) else ()
        unfinished = tuple(info for info in infos if unfinished_run(info))
        log.end_session(finished=not missing and not unfinished)
        done, errors = log.count_done(), log.count_errors()
        return Merged(done + errors, errors, missing, unfinished)


def unfinished_run(info: RunInfo) -> bool:
    """Whether a run ended before its last row. Runs of earlier releases do not say."""
    return bool(info.sessions) and info.sessions[-1].finished is False


def command_for(info: RunInfo, shard: str, output: Path) -> str:
    """The command that makes a shard into that folder, as another shard's run tells it; "" where it
    does not."""
    for session in reversed(info.sessions):
        with contextlib.suppress(ValueError):
            words = _without(shlex.split(session.command), ("--shard", "--output", "-o"))
            if words[:1] == ["urial-local"]:
                return shlex.join([*words, "--shard", shard, "-o", str(output)])
    return ""


def _without(words: list[str], options: Sequence[str]) -> list[str]:
    """A command's words without these options and their values."""
    kept: list[str] = []
    source = iter(words)
    for word in source:
        if word in options:
            next(source, None)
        elif not word.startswith(tuple(f"{name}=" for name in options if name[1] == "-")):
            kept.append(word)
    return kept


def folder_of(shard: str, infos: Sequence[RunInfo]) -> Path:
    """Where a shard's run would lie: where others have their own i-of-n, else a name of its own."""
    name = shard.replace("/", "-of-")
    for info in infos:
        if info.shard and info.folder.name == info.shard.replace("/", "-of-"):
            return info.folder.parent / name
    return Path(name)


def _copy_token_texts(folder: Path, output: Path) -> None:
    for path in folder.glob("tokens-*.json"):
        if not os.path.lexists(output / path.name):
            write_json(output / path.name, read_token_texts(path))


def refuse_conflicts(
    folders: Sequence[Path], key: tuple[str, ...], read: Callable[[Row], Row] = any_row
) -> None:
    """Raises UsageError where two runs hold the same row with different answers."""
    seen: dict[bytes, bytes] = {}  # by key: a digest of the row, and the number of its folder
    for nth, folder in enumerate(folders):
        for row in latest_rows(folder, key, read):
            if row.get("error"):
                continue
            names = key_of(row, key)
            content = _content(row)
            other = seen.setdefault(key_digest(names), content + nth.to_bytes(4, "little"))
            if other[:-4] != content:
                first = folders[int.from_bytes(other[-4:], "little")]
                raise UsageError(
                    f"The row {' / '.join(names)} is in {first} and in {folder}, and differs.",
                    "Leave one of the two runs out.",
                )


def _content(row: Row) -> bytes:
    """A digest of all of a row but when and where it was made, and what only some runs measure."""
    measured = ("seconds", "node", "number", "cached_tokens", "batch_shape")
    same = {k: v for k, v in row.items() if k not in measured}
    text = json.dumps(same, sort_keys=True).encode()
    return hashlib.blake2b(text, digest_size=16).digest()


def _missing(names: Sequence[str]) -> tuple[str, ...]:
    """Shards i/n that are not among those merged, where all are shards of the same n."""
    shards = [name.split("/") for name in names]
    if len({n for _, n in shards}) != 1:
        return ()
    given = {int(i) for i, _ in shards}
    n = int(shards[0][1])
    return tuple(f"{i}/{n}" for i in range(1, n + 1) if i not in given)
