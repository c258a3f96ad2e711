"""`urial-local` alone, on a terminal: the three things that a newcomer wants."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import click

from urial_local.cli.plumbing.terminal import say, steered

FIRST_MODEL = "gemma-3-270m"  # the smallest model of the registry with answers worth reading


@dataclass(frozen=True, slots=True)
class Offer:
    """A line of the menu, and the commands that it stands for, run one after the other."""

    text: str
    commands: tuple[tuple[str, ...], ...]


def offers() -> tuple[Offer, ...]:
    """What can be done first on this machine."""
    model, cost = _real_model()
    chat = ("chat", "-m", model)
    talk = (
        Offer(
            f"Talk to {model}, a real base model ({cost} to download)",
            (("models", "pull", model), chat),
        )
        if cost
        else Offer(f"Talk to {model}, which is already on this machine", (chat,))
    )
    return (
        Offer(
            "See what a prompt does to a base model: the bundled demo, in a minute", (("demo",),)
        ),
        talk,
        Offer("Serve the chat page for your browser, with the demo models", (("serve",),)),
    )


def welcome() -> Iterator[list[str]]:
    """Ask on the terminal; then each command that was chosen, when it is time to run it."""
    found = offers()
    say("urial-local makes a base language model answer like an assistant, on this machine.\n")
    for number, offer in enumerate(found, 1):
        say(f"  {number}  {offer.text}")
    say("\nurial-local --help lists all commands; -m model.gguf uses your own file.")
    keys = [str(number) for number in range(1, len(found) + 1)]
    chosen = click.prompt(
        "1, 2 or 3, or q to leave", type=click.Choice([*keys, "q"]), default="1", show_choices=False
    )
    for command in found[int(chosen) - 1].commands if chosen != "q" else ():
        say(f"$ urial-local {' '.join(command)}")
        yield list(command)


def is_wanted() -> bool:
    """Whether a person is at the terminal; pipes and scripts get the help text."""
    return steered(sys.stdin) and steered(sys.stdout)


def _real_model() -> tuple[str, str]:
    """A base model of the registry, and what it costs to download; "" for one that is here."""
    from urial_local.base.formats import size
    from urial_local.base.registry import registry
    from urial_local.tasks.models.catalog import catalog

    rows = [row for row in catalog(registry()) if row.role == "base" and row.repo]
    here = [row for row in rows if row.path]
    if here:
        return max(here, key=lambda row: row.size or 0).name, ""
    first = next(row for row in rows if row.name == FIRST_MODEL)
    return first.name, size(first.size or 0)
