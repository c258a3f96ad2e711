"""`urial-local doctor`: one screen on what works here, and what would work better."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from urial_local.base.formats import counted, size
from urial_local.cli.plumbing.output import Output, field, json_option

if TYPE_CHECKING:
    from urial_local.tasks.doctor.findings import Findings, Threads


@click.command()
@click.option("--measure/--no-measure", default=True,
              help="Measure for ten seconds on the embedded model.  [default: on]")  # fmt: skip
@json_option("All as JSON.")
def command(measure: bool, out: Output) -> None:
    """Say what this machine can do, and what to install to do more.

    Exit code 1 when something is broken.

    \b
    Examples:
      urial-local doctor
      urial-local doctor --no-measure --json
    """
    from urial_local.base.errors import UrialError
    from urial_local.tasks.doctor.examine import examine

    found = examine()
    if measure and found.build:
        from urial_local.tasks.doctor.measure import measure as take

        out.note("Measuring for ten seconds …")
        try:
            found = replace(found, rates=take())
        except UrialError as error:
            found = replace(found, broken=(*found.broken, error.message))
    out.lines(screen(found), found.as_json())
    if found.broken:
        raise click.exceptions.Exit(1)


def screen(found: Findings) -> list[str]:
    """What a person reads."""
    processor, cores = found.processor, counted(found.processor.cores, "core")
    versions = dict(found.versions)
    system = versions.pop("system")
    first = [f"{name} {versions.pop(name)}" for name in ("urial-local", "python")]
    lines = [
        _line("versions", ", ".join(first)),
        _line("", ", ".join(f"{name} {version}" for name, version in versions.items())),
        _line("system", system),
        _line("processor", f"{processor.name}, {cores} for this process"),
        _line("", f"it offers {' '.join(processor.offers) or 'what it does not say'}"),
        _line("threads", _threads(found.threads)),
        *_build_lines(found),
        _line("our kernels", found.instructions),
        *_store_lines(found),
    ]
    if rates := found.rates:
        lines.append(
            _line("speed", f"embedded model: reads {rates.prefill:,.0f} tokens/s, writes"
                           f" {rates.decode:,.0f} in one row, {rates.batch:,.0f} in eight")
        )  # fmt: skip
    for item in found.advice:
        lines += ["", f"Could be better: {item.why}", f"  {item.command}"]
    for sentence in found.broken:
        lines += ["", f"Broken: {sentence}"]
    if not found.broken:
        lines += ["", "Nothing is broken."]
    return lines


def _build_lines(found: Findings) -> Iterator[str]:
    """How llama.cpp was built, and the GPUs."""
    gpus = found.build.gpus if found.build else ()
    if found.build:
        for backend, features in found.build.built.items():
            yield _line("llama.cpp", f"{backend}: {' '.join(features)}")
    for gpu in gpus:
        free = f"{size(gpu.free)} of {size(gpu.total)} free"
        yield _line("GPU", f"{gpu.name}: {gpu.description}, {free}")
    if not gpus:
        seen = ", ".join(gpu.name for gpu in found.graphics)
        yield _line("GPU", f"{seen or 'none is seen'}; models run on the processor")


def _store_lines(found: Findings) -> Iterator[str]:
    """Memory, models and caches."""
    memory, models = found.memory, found.models
    fits = ", ".join(f"{b:g}B at {quant}" for quant, b in memory.fits.items() if b)
    yield _line("memory", f"{size(memory.available)} of {size(memory.total)} free;"
                          f" models up to {fits or 'none'} fit with 4,096 tokens")  # fmt: skip
    yield _line("registry", f"{counted(models.listed, 'model')},"
                            f" {models.without_checksum} of them without a checksum yet;"
                            f" {models.local} on this machine ({size(models.bytes)})")  # fmt: skip
    caches = found.caches
    yield _line("caches", ", ".join(f"{name} {size(c.bytes)}" for name, c in caches.items()))
    for cache in caches.values():
        yield _line("", cache.path)


def _line(label: str, text: str) -> str:
    return field(label, text, 12)


def _threads(found: Threads) -> str:
    """How many threads, and why."""
    quota = found.quota
    why = counted(found.affinity, "core") + (f", a quota of {quota:g}" if quota is not None else "")
    text = f"{found.usable} ({why})"
    if found.others is None:
        return text
    text += f"; others keep {found.others:.1f} cores busy now"
    return text if found.now == found.usable else f"{text}, so {found.now} of them work"
