"""Options of the commands that take a guide."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from urial_local.cli.plumbing.options import complete_models, complete_prompts, together

if TYPE_CHECKING:
    from urial_local.tasks.guide import GuideOptions

# A second model in the decode loop.
guide_options = together(
    click.option(
        "--guide",
        metavar="NAME|FILE",
        shell_complete=complete_models,
        help="A small aligned model that writes where the model is unsure.",
    ),
    click.option(
        "--guide-rule",
        type=click.Choice(
            ["nudge", "blend", "defer", "defer-whole", "bet", "proxy", "amplify", "contrast"]
        ),
        help="How the two choose a token; contrast takes no guide. See docs/guides.md."
        "  [default: nudge]",
    ),
    click.option(
        "--gamma",
        type=float,
        metavar="X",
        help="The model is unsure if its best token is below this probability.  [default: 0.4]",
    ),
    click.option("--beta", type=float, metavar="X", help="Weight under proxy.  [default: 1]"),
    click.option(
        "--alpha",
        type=float,
        metavar="X",
        help="How far to extrapolate under amplify and contrast.  [default: 0.5]",
    ),
    click.option(
        "--guide-prompt",
        metavar="NAME|FILE",
        shell_complete=complete_prompts,
        help="The guide's prompt, or contrast's second one.  [default: the guide's chat template;"
        " zero-shot]",
    ),
    click.option(
        "--guide-base",
        metavar="NAME|FILE",
        shell_complete=complete_models,
        help="The guide's own base model, which proxy needs.",
    ),
)


show_guide_option = click.option(
    "--show-guide", is_flag=True, help="Underline the guide's words, on a terminal."
)


def guide_choice(options: Mapping[str, Any]) -> GuideOptions | None:
    """What `guide_options` chose, as the task takes it."""
    from urial_local.tasks import guide

    return guide.guide_options(options["guide"], **{name: options[name] for name in guide.KEYS})
