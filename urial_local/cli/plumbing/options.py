"""Options that several commands share: one decorator each. Spelled as llama.cpp spells them.

A command's parameter has its option's name, a builtin's, too, since its environment variable is
made of it; a noun that may be given again stands in the plural.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from urial_local.base import limits
from urial_local.cli.plumbing.numbers import Whole

if TYPE_CHECKING:
    from urial_local.runtime.open import RuntimeOptions

F = TypeVar("F", bound=Callable[..., Any])


class Repeated(click.Option):
    """An option that may be given again; its parameter may be the plural of its name. In the
    environment it has its own name, and its values are lines: click would split a text at every
    blank."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **{**more, "multiple": True})

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        found = super().resolve_envvar_value(ctx)
        if found is None and ctx.auto_envvar_prefix:
            own = max(self.opts, key=len).lstrip("-").replace("-", "_").upper()
            found = os.environ.get(f"{ctx.auto_envvar_prefix}_{own}") or None
        return found

    def value_from_envvar(self, ctx: click.Context) -> Any:
        text = self.resolve_envvar_value(ctx)
        return None if text is None else [line for line in re.split("\r?\n", text) if line]


class GpuLayersType(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """auto, all, or a number."""

    name = "auto|all|N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value in ("auto", "all") or isinstance(value, int):
            return value
        layers = limits.count(str(value), limits.LAYERS)
        if layers is not None:
            return layers
        return self.fail(f"{value!r} is neither auto nor all nor a number of layers", param, ctx)


def complete_models(ctx: click.Context, param: click.Parameter, begun: str) -> list[Any]:
    """Names of models that begin so, those on this machine first; then files. Behind a plus:
    files of adapters."""
    from click.shell_completion import CompletionItem

    from urial_local.base.registry import registry
    from urial_local.tasks.models.catalog import catalog

    before, plus, adapter = begun.rpartition("+")
    if plus and not os.path.lexists(begun):
        kind = "cvec:" if adapter.startswith("cvec:") else ""
        files = sorted(glob.glob(f"{glob.escape(adapter.removeprefix(kind))}*.gguf"))
        return [CompletionItem(f"{before}+{kind}{file}") for file in files[:100]]
    rows = [r for r in catalog(registry()) if r.name.startswith(begun)]
    rows.sort(key=lambda row: row.path is None)
    items = [CompletionItem(r.name, help=f"{r.role or ''} {r.quant or ''}".strip()) for r in rows]
    return items or [CompletionItem(begun, type="file")]


def complete_prompts(ctx: click.Context, param: click.Parameter, begun: str) -> list[Any]:
    """Names of prompts that begin so; then files."""
    from click.shell_completion import CompletionItem

    from urial_local.prompting.library import prompt_files

    names = [name for name in sorted(prompt_files()) if name.startswith(begun)]
    return [CompletionItem(n) for n in names] or [CompletionItem(begun, type="file")]


def _answer_limit(ctx: click.Context, param: click.Parameter, value: int | None) -> int | None:
    if value == 0:
        raise click.BadParameter("0 leaves no answer; -1 is as long as the context allows")
    return value


def together(*options: Callable[[Any], Any]) -> Callable[[F], F]:
    """Options as one decorator, in the order that --help shows."""

    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


# How to run a model, or several.
runtime_options = together(
    click.option(
        "-c",
        "--ctx-size",
        type=Whole(0, limits.TOKENS),
        default=0,
        metavar="N",
        help="Context in tokens; 0 for the model's own, up to 4096.  [default: 0]",
    ),
    click.option(
        "-ngl",
        "--gpu-layers",
        type=GpuLayersType(),
        default="auto",
        help="Layers on the GPU; auto is all, if there is one.  [default: auto]",
    ),
    click.option(
        "-t",
        "--threads",
        type=Whole(1, limits.THREADS),
        metavar="N",
        help="CPU threads; by default one for each core.",
    ),
    click.option(
        "-b",
        "--batch-size",
        type=Whole(1, limits.BATCH),
        default=512,
        metavar="N",
        help="Tokens decoded at once in a prompt.  [default: 512]",
    ),
    click.option(
        "--kv-type",
        type=click.Choice(["f16", "f32", "q8_0"]),
        default="f16",
        help="Type of the KV cache.  [default: f16]",
    ),
    click.option(
        "--disk-cache/--no-disk-cache",
        default=True,
        help="Keep the prompt's state on disk, so that the next start skips reading it."
        "  [default: on]",
    ),
)


def parallel_option(text: str, default: int) -> Callable[[F], F]:
    """-np, a number of rows at a time. `text`: what these are."""
    return click.option(
        "-np",
        "--parallel",
        type=Whole(1, limits.ROWS_AT_A_TIME),
        default=default,
        metavar="N",
        help=f"{text}  [default: {default}]",
    )


def model_options(command: F) -> F:
    """-m and how to run the model."""
    model = click.option(
        "-m",
        "--model",
        envvar="URIAL_MODEL",
        metavar="NAME|FILE",
        shell_complete=complete_models,
        help="A model of `models list`, hf:user/repo[:quant or file], or a GGUF file; also"
        " URIAL_MODEL; +adapter.gguf@SCALE behind it applies an adapter.  [default: demo]",
    )
    return model(runtime_options(command))


# How tokens are drawn; greedy unless the prompt or the user says otherwise.
sampling_options = together(
    click.option(
        "-n",
        "--max-tokens",
        type=Whole(-1, limits.TOKENS),
        callback=_answer_limit,
        metavar="N",
        help="Longest answer; -1 for as long as the context allows.  [default: 1024]",
    ),
    click.option(
        "-s",
        "--seed",
        type=Whole(-limits.SEED, limits.SEED),
        metavar="N",
        help="Seed of the random draws.  [default: 0]",
    ),
    click.option(
        "--temp",
        type=float,
        metavar="X",
        help="Temperature; 0 takes the most probable token.  [default: 0]",
    ),
    click.option(
        "--top-k",
        type=Whole(0, limits.TOKENS),
        metavar="N",
        help="Draw from the N most probable tokens; 0 is off.",
    ),
    click.option("--top-p", type=float, metavar="X", help="Nucleus mass; 1 is off."),
    click.option(
        "--min-p",
        type=float,
        metavar="X",
        help="Least probability relative to the best; 0 is off.",
    ),
    click.option(
        "--repeat-penalty",
        type=float,
        metavar="X",
        help="Hugging Face's rule; 1 is off. The paper used 1.1 for base models.",
    ),
    click.option(
        "--penalty-scope",
        metavar="all|output|N",
        help="Where the penalty looks: prompt and output, output only, or the"
        " last N tokens.  [default: all]",
    ),
)


prefill_option = click.option(
    "--prefill",
    metavar="TEXT",
    help="The answer begins with this text, and the model continues it.",
)


def chat_template_option(text: str) -> Callable[[F], F]:
    """--chat-template, a file. `text`: whose it is."""
    return click.option("--chat-template", metavar="FILE", help=text)


# Which prompt, and how a user's text is kept inside its frame.
prompt_options = together(
    click.option(
        "-p",
        "--prompt",
        metavar="NAME|FILE",
        shell_complete=complete_prompts,
        help="A prompt by name, or a .toml or .txt file.  [default: what suits the model;"
        " `prompts list -m MODEL` says]",
    ),
    click.option("--frame", metavar="NAME|FILE", help="Use another frame for the prompt."),
    chat_template_option("Ask in this chat template, in place of the model's own."),
    click.option(
        "--markers",
        type=click.Choice(["escape", "raw", "refuse"]),
        default="escape",
        help="What to do with the frame's own markers in your text.  [default: escape]",
    ),
    click.option(
        "--stop",
        cls=Repeated,
        metavar="TEXT",
        help="Also end the answer before this text; may be given again.",
    ),
    prefill_option,
)


def runtime_choice(options: Mapping[str, Any], **more: Any) -> RuntimeOptions:
    """What `runtime_options` chose, as the runtime takes it."""
    from urial_local.runtime.open import RuntimeOptions

    return RuntimeOptions(
        ctx_size=options["ctx_size"],
        batch=options["batch_size"],
        threads=options["threads"],
        gpu_layers=options["gpu_layers"],
        kv_type=options["kv_type"],
        disk_cache=options["disk_cache"],
        **more,
    )
