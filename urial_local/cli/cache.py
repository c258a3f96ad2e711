"""`urial-local cache`: the states of prompts on disk."""

from __future__ import annotations

from datetime import datetime

import click

from urial_local.base.formats import counted, size
from urial_local.cli.plumbing.output import Output, json_option
from urial_local.cli.plumbing.tables import Column

STATES = (Column(), Column(width=13, right=True), Column(width=9, right=True), Column())


@click.group(invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Show or clear the saved states of prompts.

    They only save time: deleting them is always safe. URIAL_PREFIX_CACHE_MB caps their total size
    (4295 by default), and the least recently used go first.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_entries)


@command.command("list")
@json_option("A JSON list.")
def list_entries(out: Output) -> None:
    """List saved states, the least recently used first.

    \b
    Examples:
      urial-local cache list
      urial-local cache list | tail -3   # what was used last
    """
    from urial_local.runtime.prefix_cache import PrefixCache

    entries = PrefixCache().entries()
    rows = (
        (
            entry.path.name[:12],
            counted(entry.tokens, "token"),
            size(entry.size),
            datetime.fromtimestamp(entry.used).strftime("%Y-%m-%d %H:%M"),
        )
        for entry in entries
    )
    data = [
        {"file": e.path.name, "bytes": e.size, "tokens": e.tokens, "used": e.used} for e in entries
    ]
    out.table(STATES, rows, data, gap=2)
    if not out.as_json:
        out.tell(f"{counted(len(entries), 'state')}, {size(sum(e.size for e in entries))}")


@command.command()
def clear() -> None:
    """Delete saved states, the indexes of --retrieve's pools, and what was read of large runs.

    \b
    Examples:
      urial-local cache clear
      urial-local cache list && urial-local cache clear
    """
    from urial_local.base.files import remove_files
    from urial_local.base.paths import pools_dir
    from urial_local.records.known import rows_dir
    from urial_local.runtime.prefix_cache import PrefixCache

    freed = PrefixCache().clear() + remove_files(pools_dir(), "*.sqlite", "*.vectors", "*.part")
    freed += remove_files(rows_dir(), "*.rows", "*.part")
    Output().tell(f"Freed {size(freed)}.")


@command.command()
def path() -> None:
    """Print the folder that holds the saved states.

    \b
    Examples:
      urial-local cache path
      du -sh "$(urial-local cache path)"
    """
    from urial_local.base.paths import prefix_cache_dir

    Output().line(prefix_cache_dir())
