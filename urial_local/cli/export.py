"""`urial-local export`: a generation run in the shape that another tool reads."""

from __future__ import annotations

from pathlib import Path

import click

from urial_local.records.formats import SHAPES


@click.command()
@click.argument("run", type=click.Path(path_type=Path, file_okay=False))
@click.option("--to", "shape", required=True, type=click.Choice(list(SHAPES)), help="The shape.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Where to write.  [default: standard output]",
)
@click.option("--generator", metavar="NAME", help="The name in the file.  [default: MODEL-PROMPT]")
@click.option(
    "--compat",
    type=click.Choice(["urial"]),
    help="Post-process answers as the URIAL code does: all code fences are deleted.",
)
def command(
    run: Path, shape: str, output: Path | None, generator: str | None, compat: str | None
) -> None:
    """Write the answers of RUN in the shape that another tool reads.

    \b
    Examples:
      urial-local export run --to just-eval -o model.json
      urial-local export run --to fastchat -o model.jsonl --generator my-model
      urial-local export run --to csv | head
    """
    from urial_local.base.files import replacing
    from urial_local.cli.show import answered_run
    from urial_local.cli.terminal import note
    from urial_local.records.formats import Export, export
    from urial_local.records.runlog import RunRows
    from urial_local.tasks.generate.job import KEY

    info = answered_run(run)
    prompt = info["prompt"]["name"] if isinstance(info["prompt"], dict) else "auto"
    about = Export(generator or f"{info['model']['name']}-{prompt}", info["sampling"], compat or "")
    rows = RunRows(run, KEY)
    failed = len(rows.errors())
    if failed and shape != "csv":
        note(f"{failed:,} rows failed and are left out.")
    pieces = export(rows.every(), shape, about)
    if output is None:
        for piece in pieces:
            click.echo(piece, nl=False)
        return
    with replacing(output) as file:
        for piece in pieces:
            file.write(piece)
    note(f"Wrote {output}.")
