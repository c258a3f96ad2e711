"""What every command's help has in common."""

from __future__ import annotations

import re

import click
import pytest

from urial_local.cli.main import cli


def leaves(command: click.Command, name: str, context: click.Context | None = None):
    """All commands that have no commands of their own, by full name."""
    # With the settings of its own: a command keeps the help option of its first context for good.
    context = click.Context(command, context, info_name=name, **command.context_settings)
    if not isinstance(command, click.Group):
        yield context.command_path, command, context
        return
    for inner in command.list_commands(context):
        found = command.get_command(context, inner)
        assert found is not None
        yield from leaves(found, inner, context)


ALL = {name: (command, context) for name, command, context in leaves(cli, "urial-local")}


@pytest.mark.parametrize("name", ALL)
def test_help_ends_with_examples(name):
    """At least two, before the options, each a call of this very command."""
    command, context = ALL[name]
    text = command.get_help(context)
    about = text[: text.index("\nOptions:")]
    examples = re.findall(rf"^    .*{re.escape(name.replace(' run', ''))}", about, re.MULTILINE)
    assert len(examples) >= 2, about
    assert about.index("Example") > about.index("Usage"), "what it does comes first"


@pytest.mark.parametrize("name", ALL)
def test_no_limit_of_the_machine_is_shown(name):
    """Bounds that only guard against nonsense, as 18446744073709551615, say nothing to a reader."""
    command, context = ALL[name]
    assert not re.search(r"\d{6,}", command.get_help(context).replace("\n", "").replace(" ", ""))
