"""`urial-local export`: a generation run in the shape that another tool reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from urial_local.base.errors import UsageError
from urial_local.base.formats import counted
from urial_local.cli.plumbing.output import Output
from urial_local.records.formats import SHAPES

JUDGED = "just-eval-judged"  # of a run of evaluate


@click.command()
@click.argument("run", type=click.Path(path_type=Path, file_okay=False))
@click.option("--to", required=True, type=click.Choice([*SHAPES, JUDGED]), help="The format.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Where to write.  [default: standard output]",
)
@click.option("--generator", metavar="NAME", help="The name in the file.  [default: MODEL-PROMPT]")
@click.option("--force", is_flag=True, help="Replace a file that is not an export of this run.")
@click.option(
    "--compat",
    type=click.Choice(["urial"]),
    help="Post-process answers as the URIAL code does: all code fences are deleted.",
)
def command(
    run: Path,
    to: str,
    output: Path | None,
    generator: str | None,
    force: bool,
    compat: str | None,
) -> None:
    """Write the answers of RUN, or its judgements, in the shape that another tool reads.

    \b
    Examples:
      urial-local export run --to just-eval -o model.json
      urial-local export run --to fastchat -o model.jsonl --generator my-model
      urial-local export run --to csv | head
      urial-local export run/judged-j --to just-eval-judged -o model.score_multi.json
    """
    from urial_local.cli.plumbing.answered import answered_run
    from urial_local.records.formats import Export, export, place
    from urial_local.records.generated import GenerateConfig, Generated
    from urial_local.records.runs import RunRows
    from urial_local.tasks.generate.job import KEY

    if to == JUDGED:
        write(judged_pieces(run), output, force)
        return
    config = answered_run(run).config_as(GenerateConfig)
    name = generator or f"{config.model.name}-{config.prompt_name}"
    about = Export(name, config.sampling, compat or "")
    rows = RunRows(run, KEY, Generated.read)
    failed = len(rows.errors())
    if failed and to != "csv":
        _tell_left_out(failed)
    write(export(rows.ordered(place, errors=True), to, about), output, force)


def _tell_left_out(failed: int) -> None:
    Output().note(f"{counted(failed, 'row')} failed and {'is' if failed == 1 else 'are'} left out.")


def judged_pieces(run: Path) -> Iterator[str]:
    """A run of evaluate as JUST-EVAL's judged file; error rows are left out."""
    from urial_local.records.formats import array
    from urial_local.records.judged import KEY, EvaluateConfig, JudgedRow, just_eval_record
    from urial_local.records.runs import RunRows, read_run

    info = read_run(run)
    if info.task != "evaluate":
        raise UsageError(f"{run} is a run of {info.task}; {JUDGED} needs a judged run.")
    judge = info.config_as(EvaluateConfig).judge.name
    rows = RunRows(run, KEY, JudgedRow.read)
    if failed := len(rows.errors()):
        _tell_left_out(failed)
    ordered = rows.ordered(lambda r: (r.number, r.repeat, r.turn, r.order))
    yield from array(just_eval_record(row, judge) for row in ordered)


def write(pieces: Iterable[str], output: Path | None, force: bool = False) -> None:
    """To a file, whole or not at all; or to standard output.

    Raises UsageError where the file is there and does not begin with the same record.
    """
    from urial_local.base.files import holds_other, replacing

    if output is None:
        for piece in pieces:
            Output().text(piece)
        return
    pieces = iter(pieces)
    first = next(pieces, "")
    if not force and holds_other(output, lambda head: begins_alike(head, first)):
        raise UsageError(
            f"{output} exists and is not an export of this run, so it is left as it is.",
            "Choose another name, or add --force to replace it.",
        )
    with replacing(output) as file:
        file.write(first)
        for piece in pieces:
            file.write(piece)
    Output().note(f"Wrote {output}.")


def begins_alike(head: bytes, text: str) -> bool:
    """Whether a file has the same first record, or heading, as the text."""
    end = text.find("\n  }" if text.startswith("[") else "\n")
    record = text[: end if end >= 0 else len(text)].encode("utf-8", "backslashreplace")
    return head.strip() == b"[]" or (bool(record) and head.startswith(record[: 1 << 16]))
