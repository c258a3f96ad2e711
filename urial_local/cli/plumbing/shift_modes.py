"""Options of `shift` that make another run of it: over plain texts, or with an intervention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click
from click.core import ParameterSource

from urial_local.base.errors import UsageError
from urial_local.cli.plumbing.numbers import Whole
from urial_local.cli.plumbing.options import Repeated, together

# Options that belong to some of the modes only, by the name of their parameter.
OF_MODES = {
    "ctx": ("texts",),
    "score": ("texts",),
    "budget": ("swap",),
    "writer": ("swap",),
}
# Options whose parameter is called otherwise.
_SPELLED = {"base_prompts": "base_prompt"}
# Options of the plain run that say nothing in a mode.
_SCORED = (
    "allow_vocab_mismatch",
    "answers",
    "csv",
    "figures",
    "noise_floor",
    "n",
    "save_prompts",
)
# Options of workers: a mode's rows hang on each other, or are few, so one process makes them.
_CREW = ("devices", "ray", "actors", "cpus_per_actor", "gpus_per_actor")
UNUSED = {
    "handover": _SCORED,
    "swap": _SCORED,
    "texts": (
        *_SCORED,
        *("aligned_prompt", "base_prompts", "max_tokens", "parallel", "sample", "seed", "temp"),
        *("chat_template", "top_p"),
    ),
}

mode_options = together(
    click.option(
        "--handover",
        metavar="K,…",
        help="Let each model continue after the first K tokens of the other's answer: numbers,"
        " sentence, all.",
    ),
    click.option(
        "--swap",
        "swaps",
        cls=Repeated,
        metavar="CRITERION",
        help="Use the other model's token where this holds: js>0.1, dlogp>1, entropy>2, maxp<0.4,"
        " random; may be given again.",
    ),
    click.option(
        "--budget",
        metavar="S%|N",
        help="With --swap: at most this share or number of positions.  [default: 5%]",
    ),
    click.option(
        "--writer",
        type=click.Choice(["base", "aligned"]),
        default="base",
        help="With --swap: the model that writes the rest.  [default: base]",
    ),
    click.option(
        "--texts",
        metavar="FILE",
        help="Compare both models on plain text, without questions: a whole .txt file, or the"
        " text of each row.",
    ),
    click.option(
        "--ctx",
        type=Whole(8, 1 << 15),
        metavar="N",
        help="With --texts: tokens read at a time.  [default: 512]",
    ),
    click.option(
        "--score",
        type=click.Choice(["all", "second-half"]),
        default="all",
        help="With --texts: score every token, or as llama-perplexity the second half of each N."
        "  [default: all]",
    ),
)


def chosen_mode(questions: str | None, options: Mapping[str, Any]) -> str:
    """The mode, or an empty string for the plain run. Raises UsageError for what does not go
    together."""
    modes = [name for name in UNUSED if options.get(name) or options.get(f"{name}s")]
    if len(modes) > 1:
        said = " and ".join(f"--{name}" for name in modes)
        raise UsageError(f"{said} are runs of their own; choose one.")
    mode = modes[0] if modes else ""
    if mode == "texts" and questions is not None:
        raise UsageError("--texts takes the place of QUESTIONS; give one of them.")
    if mode != "texts" and questions is None:
        raise UsageError("QUESTIONS are missing.", "Name a file, or plain text by --texts.")
    for name, of in OF_MODES.items():
        if _given(name) and mode not in of:
            said = " or ".join(f"--{one}" for one in of)
            raise UsageError(f"{_flag(name)} needs {said}.")
    for name in _CREW if mode else ():
        if _given(name):
            raise UsageError(f"{_flag(name)} is for the plain run; --{mode} has no workers.")
    for name in UNUSED.get(mode, ()):
        if _given(name):
            raise UsageError(f"{_flag(name)} has no meaning with --{mode}.")
    return mode


def _given(name: str) -> bool:
    source = click.get_current_context().get_parameter_source(name)
    return source not in (None, ParameterSource.DEFAULT)


def _flag(name: str) -> str:
    """How an option is spelled whose parameter is called so."""
    own = _SPELLED.get(name, name)
    return f"--{own.replace('_', '-')}"
