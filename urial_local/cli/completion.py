"""`urial-local completion`: the script that teaches a shell our commands, models and prompts."""

from __future__ import annotations

import click

SHELLS = ("bash", "zsh", "fish")
NAME, VARIABLE = "urial-local", "_URIAL_LOCAL_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    For bash and zsh, add the line to ~/.bashrc or ~/.zshrc.

    \b
    Examples:
      eval "$(urial-local completion bash)"
      eval "$(urial-local completion zsh)"
      urial-local completion fish > ~/.config/fish/completions/urial-local.fish
    """
    from click.shell_completion import get_completion_class

    from urial_local.cli.plumbing.completion import teach

    teach()
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(ctx.find_root().command, {}, NAME, VARIABLE).source())
