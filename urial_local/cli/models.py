"""`urial-local models`: the registry, pulling, checking, describing."""

from __future__ import annotations

import math
import os
import sys
from typing import TYPE_CHECKING

import click

from urial_local.base import limits
from urial_local.base.errors import ModelError, UrialError, UsageError
from urial_local.base.formats import NOTHING, size
from urial_local.base.terminal import one_line
from urial_local.cli.plumbing.numbers import Whole
from urial_local.cli.plumbing.options import complete_models
from urial_local.cli.plumbing.output import Output, json_option
from urial_local.cli.plumbing.tables import Column

if TYPE_CHECKING:
    from urial_local.tasks.models.catalog import CatalogRow

MOST_GB = 1e6


@click.group(invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """List, pull, check and describe models.

    A model is named by a name of the registry, by hf:user/repo[:quant or file], or by a path. Your
    own registry is read after the shipped one: see `models path`.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_models)


@command.command("list")
@click.option("--base", is_flag=True, help="Base models only.")
@click.option("--aligned", is_flag=True, help="Aligned models only.")
@click.option("--pairs", is_flag=True, help="One base model and its counterpart per line.")
@click.option("--local", is_flag=True, help="Only what is on this machine.")
@json_option("A JSON list.")
def list_models(
    out: Output,
    base: bool = False,
    aligned: bool = False,
    pairs: bool = False,
    local: bool = False,
) -> None:
    """List the models that have a name; * marks those on this machine.

    \b
    Examples:
      urial-local models list --pairs
      urial-local models list --local --json
    """
    from urial_local.base.registry import registry
    from urial_local.tasks.models.catalog import catalog

    known = registry()
    rows = catalog(known)
    roles = [role for role, asked in (("base", base), ("aligned", aligned)) if asked]
    if roles and not pairs:
        rows = [row for row in rows if row.role in roles]
    if local:
        rows = [row for row in rows if row.path]
    if pairs:
        by_name = {row.name: row for row in rows}
        two = [(r, by_name.get(r.pair or "")) for r in rows if r.role == "base"]
        whole = [(first, second) for first, second in two if second]
        lines = ((f"{_mark(b)} {b.name}", f"{_mark(a)} {a.name}  {b.quant}") for b, a in whole)
        data = [{"base": b.as_json(), "aligned": a.as_json()} for b, a in whole]
        out.table((Column(), Column()), lines, data, gap=2)
    else:
        out.table(MODELS, map(_row, rows), [row.as_json() for row in rows])
    for problem in known.problems:
        out.note(f"Warning: {problem}")


def _mark(row: CatalogRow) -> str:
    return "*" if row.path else " "


MODELS = (
    *(Column() for _ in range(4)),
    Column(right=True),  # size
    Column(right=True),  # context
    Column(),
)


def _row(row: CatalogRow) -> tuple[str, ...]:
    return (
        _mark(row),
        row.name,
        row.role or "",
        row.quant or "",
        size(row.size) if row.size else "",
        f"{row.context:,}" if row.context else "",
        row.licence or "",
    )


def _gigabytes(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    if value is not None and not (math.isfinite(value) and 0 < value <= MOST_GB):
        raise click.BadParameter(
            f"{value} is not a number of gigabytes above 0 and up to {MOST_GB:,.0f}"
        )
    return value


@command.command()
@click.argument("name", shell_complete=complete_models)
@click.option("-c", "--ctx-size", type=Whole(0, limits.TOKENS), default=0, metavar="N",
              help="Memory for this context; 0 for the model's own, up to 4096.")  # fmt: skip
@click.option("--kv-type", type=click.Choice(["f16", "f32", "q8_0"]), default="f16",
              help="Type of the KV cache.  [default: f16]")  # fmt: skip
@click.option("--gpu-memory", type=float, metavar="GB", callback=_gigabytes,
              help="Layers that fit a GPU with this much free, not this machine's.")  # fmt: skip
@json_option("All as JSON.")
def show(name: str, ctx_size: int, kv_type: str, gpu_memory: float | None, out: Output) -> None:
    """Describe a model: size, types, memory, which prompts fit; or an adapter.

    \b
    Examples:
      urial-local models show mistral-7b
      urial-local models show model.gguf -c 8192 --gpu-memory 8
      urial-local models show model.gguf+adapter.gguf@0.5
    """
    from dataclasses import asdict

    from urial_local.base.registry import registry
    from urial_local.cli.plumbing.described import adapter_lines, described
    from urial_local.cli.plumbing.session import tell_about_check
    from urial_local.tasks.models.describe import adapter_alone, describe, listed

    if entry := listed(name, registry()):
        out.record(asdict(entry).items(), asdict(entry))
        raise ModelError(
            f"The model {name} is not on this machine yet; this is what the registry says of it.",
            f"urial-local models pull {name}",
        )
    if adapter := adapter_alone(name):
        out.record(adapter_lines(adapter), adapter.as_json())
        return
    gpu = None if gpu_memory is None else int(gpu_memory * 1e9)
    found = describe(name, ctx_size, kv_type, gpu, tell_about_check)
    out.record(described(found), found.as_json())


@command.command()
@click.argument("name", shell_complete=complete_models)
@click.option("--dry-run", is_flag=True, help="Say what would be fetched, and fetch nothing.")
def pull(name: str, dry_run: bool) -> None:
    """Fetch a model from the Hugging Face hub, and check it.

    NAME is one of `models list`, or hf:user/repo[:quant or file]. The file goes to the hub's
    cache (HF_HOME) once its sha256 is the registry's or the hub's. An interrupted pull resumes
    with the same command.

    \b
    Examples:
      urial-local models pull mistral-7b
      urial-local models pull hf:user/some-model-GGUF:Q8_0
    """
    from urial_local.base.hub import HubUnreachable
    from urial_local.cli.plumbing.progress import counting
    from urial_local.tasks.models.pull import pull_all, resolve

    try:
        wanted = resolve(name)
    except HubUnreachable as error:
        _here_already(name, error, dry_run)
        return
    if dry_run:
        for file in wanted:
            large = size(file.size) if file.size else "of unknown size"
            sha256 = f"sha256 {file.sha256}" if file.sha256 else "no checksum"
            Output().line(
                one_line(f"{file.repo} {file.file} {large} {sha256} (from {file.vouched})")
            )
        return
    try:
        with counting() as tell:
            pulled = pull_all(wanted, tell)
    except KeyboardInterrupt:
        on = all(file.goes_on for file in wanted)
        how = "run the same command again to resume" if on else "the same command starts over"
        Output().note(f"Stopped; {how}.")
        raise click.exceptions.Exit(130) from None
    for one in pulled:
        how = "fetched" if one.fresh else "was here already"
        checked = f", as {one.wanted.vouched} says" if one.wanted.sha256 else ", recorded now"
        Output().note(f"{one.wanted.file} {how}: {size(one.size)}, sha256 {one.sha256}{checked}.")
    _print_path(pulled[0].path)


def _here_already(name: str, error: UrialError, dry_run: bool) -> None:
    """The hub cannot be asked: a model that is here will do, if it is what is known of it."""
    from urial_local.cli.plumbing.progress import counting
    from urial_local.tasks.models.cached import all_parts
    from urial_local.tasks.models.verify import checksums

    try:
        paths = all_parts(name)
    except UrialError:
        raise error from None
    Output().note(f"{error.message} The model is on this machine already.")
    if not dry_run:
        with counting() as tell:
            made = [check.made for check in checksums(name, paths, tell)]
        if not all(made):
            Output().note("Its checksum could not be checked: nothing here says what it should be.")
    _print_path(paths[0])


def _print_path(path: os.PathLike[str]) -> None:
    """As it is for a program, harmless for a terminal."""
    Output().line(os.fspath(path))


@command.command()
@click.argument("name", shell_complete=complete_models)
@json_option("The checks as a JSON list.")
def verify(name: str, out: Output) -> None:
    """Check a model file: its header, its bytes, and a try in a process of its own.

    For files from anywhere: nothing in it is believed, and a file that makes llama.cpp abort or
    hang does so where it does no harm. Exit code 1 where a check fails.

    \b
    Examples:
      urial-local models verify model.gguf
      urial-local models verify mistral-7b --json
    """
    from dataclasses import asdict

    from urial_local.cli.plumbing.progress import counting
    from urial_local.tasks.models.verify import verify as checks

    found = []
    try:
        with counting() as tell:
            for check in checks(name, tell):
                found.append(asdict(check))
                if not check.failed:  # what fails is an error, which says itself
                    mark = "ok" if check.made else f"{NOTHING} "
                    out.line(one_line(f"{mark}  {check.name:<7} {check.said}"))
    finally:
        out.data(found)


@command.command()
@click.argument("name", shell_complete=complete_models)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def rm(name: str, yes: bool) -> None:
    """Remove a pulled model from this machine.

    \b
    Examples:
      urial-local models rm mistral-7b
      urial-local models rm hf:user/some-model-GGUF:Q8_0 --yes
    """
    from urial_local.base.registry import EMBEDDED
    from urial_local.tasks.models.cached import removable, remove_model

    if name in EMBEDDED:
        raise UsageError(f"{name} is part of urial-local and cannot be removed.")
    files = removable(name)
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("Cannot confirm: standard input is not a terminal.", "Use --yes.")
        large = sum(path.stat().st_size for path in files)
        asked = one_line(f"Remove {files[0].name} ({size(large)})?")
        click.confirm(asked, abort=True, err=True)
    freed = sum(remove_model(path) for path in files)
    shared = "" if freed else " Its bytes stay: another file or another cache has the same."
    Output().note(f"Freed {size(freed)}.{shared}")


@command.command()
@click.argument("name", required=False, shell_complete=complete_models)
def path(name: str | None) -> None:
    """Print where a model's file is, and its adapters'; without NAME, your own registry's place.

    \b
    Examples:
      urial-local models path
      llama-cli -m "$(urial-local models path mistral-7b)"
    """
    from urial_local.base.no_model import not_there
    from urial_local.base.registry import find_model, user_registry

    found = find_model(name) if name else None
    files = [found.path, *(a.path for a in found.adapters)] if found else [user_registry()]
    for file in files:
        if name and not file.is_file():
            raise not_there(file)
        _print_path(file)
