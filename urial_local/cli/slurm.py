"""`urial-local slurm`: the script that makes a run in shards under Slurm."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from urial_local.base import limits
from urial_local.base.errors import UsageError
from urial_local.cli.plumbing.numbers import Whole
from urial_local.cli.plumbing.options import Repeated
from urial_local.cli.plumbing.output import Output

SHARDED = ("generate", "shift", "evaluate", "benchmark")


@click.command(context_settings={"allow_interspersed_args": False})
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED, metavar="COMMAND…")
@click.option(
    "--shards",
    type=Whole(1, limits.ARRAY),
    default=8,
    metavar="N",
    help="Jobs that share the rows.  [default: 8]",
)
@click.option(
    "--time", metavar="TIME", help="Time limit of each job, such as 12:00:00 or 2-00:00:00."
)
@click.option(
    "--cpus",
    type=Whole(1, limits.THREADS),
    metavar="N",
    help="Cores for each job, and threads of its model.",
)
@click.option("--gpus", type=Whole(1, limits.DEVICES), metavar="N", help="GPUs for each job.")
@click.option("--mem", metavar="SIZE", help="Memory of each job, such as 32G.")
@click.option("--partition", metavar="NAME", help="The partition.")
@click.option(
    "--array-limit",
    type=Whole(1, limits.ARRAY),
    metavar="N",
    help="At most N jobs at the same time.",
)
@click.option(
    "--grace",
    type=Whole(10, 86400),
    default=60,
    metavar="SECONDS",
    help="How long before its limit a job begins no new rows.  [default: 60]",
)
@click.option(
    "--restarts",
    type=Whole(0, 10_000),
    default=20,
    metavar="N",
    help="How often an unfinished shard goes back into the queue.  [default: 20]",
)
@click.option(
    "--sbatch",
    cls=Repeated,
    metavar="OPTION",
    help="Another option of sbatch, such as --account=lab; may be given again.",
)
def command(words: tuple[str, ...], **options: Any) -> None:
    """Print a Slurm script that makes a run in shards, and merges them.

    COMMAND is one of generate, shift, evaluate and benchmark as you would type it, after --. Each
    job makes one shard; before its time is up it finishes the rows in flight and goes back into the
    queue. When all have ended, they are merged into the command's own -o. See docs/scale.md.

    \b
    Examples:
      urial-local slurm --shards 16 --time 4:00:00 --gpus 1 -- \\
        generate q.jsonl -m base.gguf -o run > run.sh
      bash run.sh
      urial-local slurm --shards 8 -- shift q.json --base base.gguf -o run | bash
    """
    from urial_local.tasks.slurm import SlurmJob, script

    plain, output = sharded(list(words))
    job = SlurmJob(
        shards=options["shards"],
        time=options["time"] or "",
        cpus=options["cpus"],
        gpus=options["gpus"],
        mem=options["mem"] or "",
        partition=options["partition"] or "",
        array_limit=options["array_limit"],
        grace=options["grace"],
        restarts=options["restarts"],
        more=tuple(options["sbatch"] or ()),
    )
    Output().text(script(job, program(), plain, output))


def program() -> list[str]:
    """How this program is started, also where it is not on the PATH."""
    own = sys.argv[0]
    if os.path.basename(own) == "urial-local" and os.path.isfile(own):
        return [os.path.abspath(own)]
    return [sys.executable, "-m", "urial_local"]


def sharded(words: list[str]) -> tuple[list[str], str]:
    """The command without its output, and that output. Raises UsageError for what cannot be
    sharded, and click's errors for what the command itself would refuse."""
    name, found = parsed(words)
    if found["shard"]:
        raise UsageError("The script itself adds --shard; leave it out.")
    data = found.get("data") or found.get("questions") or found.get("answers")
    if data == "-":
        raise UsageError("A job has no standard input.", "Name a file that all nodes see.")
    if not found["output"]:
        raise UsageError(f"{name} needs -o FOLDER here: its shards are written beside it.")
    for i, word in enumerate(words):
        plain = words[:i] + words[i + (1 if word.startswith("--output=") else 2) :]
        if word in ("-o", "--output") or word.startswith("--output="):
            try:
                _, without = parsed([*plain, "-o", "x"])
            except click.ClickException:
                continue  # it was another option's value
            if {**without, "output": 0} == {**found, "output": 0}:
                return plain, str(found["output"])
    raise UsageError("Cannot tell which word is the output.", "Write it as -o FOLDER, once.")


def parsed(words: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The command's name and what it would be called with."""
    from urial_local.tasks.slurm import names

    if words[0] not in SHARDED:
        raise UsageError(f"{words[0]!r} cannot run in shards.", f"These can: {', '.join(SHARDED)}.")
    outer = click.get_current_context().find_root()
    assert isinstance(outer.command, click.Group)
    found = outer.command.get_command(outer, words[0])
    assert found is not None
    head, rest = names(list(words))
    if isinstance(found, click.Group):
        if words[1:2] and words[1] in found.commands and words[1] != head[-1]:
            raise UsageError(f"{words[0]} {words[1]} cannot run in shards.")
        outer = found.make_context(words[0], list(head[1:]), parent=outer, resilient_parsing=True)
        found = found.commands[head[-1]]
    with found.make_context(head[-1], list(rest), parent=outer) as context:
        return words[0], dict(context.params)
