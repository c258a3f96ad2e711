"""`urial-local cache`: the states of prompts on disk."""

from __future__ import annotations

from datetime import datetime

import click

from urial_local.cli.plumbing.terminal import say, say_json, tell


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
@click.option("--json", "as_json", is_flag=True, help="A JSON list.")
def list_entries(as_json: bool = False) -> None:
    """List saved states, the least recently used first."""
    from urial_local.runtime.prefix_cache import PrefixCache

    entries = PrefixCache().entries()
    if as_json:
        rows = [
            {"file": e.path.name, "bytes": e.size, "tokens": e.tokens, "used": e.used}
            for e in entries
        ]
        say_json(rows)
        return
    for e in entries:
        used = datetime.fromtimestamp(e.used).strftime("%Y-%m-%d %H:%M")
        say(f"{e.path.name[:12]}  {e.tokens:6,} tokens  {e.size / 1e6:9.1f} MB  {used}")
    tell(f"{len(entries)} states, {sum(e.size for e in entries) / 1e6:.1f} MB")


@command.command()
def clear() -> None:
    """Delete all saved states, and the indexes of --retrieve's pools."""
    from urial_local.base.files import remove_files
    from urial_local.base.paths import pools_dir
    from urial_local.runtime.prefix_cache import PrefixCache

    freed = PrefixCache().clear() + remove_files(pools_dir(), "*.sqlite", "*.vectors", "*.part")
    tell(f"Freed {freed / 1e6:.1f} MB.")


@command.command()
def path() -> None:
    """Print the folder they lie in."""
    from urial_local.base.paths import prefix_cache_dir

    say(prefix_cache_dir())
