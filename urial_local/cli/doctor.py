"""`urial-local doctor`: one screen on what works here, and what would work better."""

from __future__ import annotations

from typing import Any

import click

from urial_local.base.formats import counted, size
from urial_local.cli.plumbing.output import Output, field, json_option


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
    found["rates"] = None
    if measure and found["llama.cpp"]:
        from dataclasses import asdict

        from urial_local.tasks.doctor.measure import measure as take

        out.note("Measuring for ten seconds …")
        try:
            found["rates"] = asdict(take())
        except UrialError as error:
            found["broken"].append(error.message)
    out.lines(screen(found), found)
    if found["broken"]:
        raise click.exceptions.Exit(1)


def screen(found: dict[str, Any]) -> list[str]:
    """What a person reads."""
    build, processor, memory = found["llama.cpp"], found["processor"], found["memory"]
    cores = counted(processor["cores"], "core")
    versions = dict(found["versions"])
    system = versions.pop("system")
    first = [f"{name} {versions.pop(name)}" for name in ("urial-local", "python")]
    lines = [
        _line("versions", ", ".join(first)),
        _line("", ", ".join(f"{name} {version}" for name, version in versions.items())),
        _line("system", system),
        _line("processor", f"{processor['name']}, {cores} for this process"),
        _line("", f"it offers {' '.join(processor['offers']) or 'what it does not say'}"),
        _line("threads", _threads(found["threads"])),
    ]
    if build:
        for backend, features in build["built"].items():
            lines.append(_line("llama.cpp", f"{backend}: {' '.join(features)}"))
        for device in build["devices"]:
            if "gpu" in device["kind"]:
                free = f"{size(device['free'])} of {size(device['total'])} free"
                lines.append(_line("GPU", f"{device['name']}: {device['description']}, {free}"))
    seen = ", ".join(g["name"] for g in found["graphics"])
    if not any("gpu" in d["kind"] for d in (build or {}).get("devices", ())):
        lines.append(_line("GPU", f"{seen or 'none is seen'}; models run on the processor"))
    fits = ", ".join(f"{b:g}B at {quant}" for quant, b in memory["fits"].items() if b)
    models, caches = found["models"], found["caches"]
    lines += [
        _line("our kernels", found["native"]["instructions"]),
        _line("memory", f"{size(memory['available'])} of {size(memory['total'])} free;"
                        f" models up to {fits or 'none'} fit with 4,096 tokens"),
        _line("registry", f"{counted(models['listed'], 'model')},"
                          f" {models['without_checksum']} of them without a checksum yet;"
                          f" {models['local']} on this machine ({size(models['bytes'])})"),
        _line("caches", ", ".join(f"{n} {size(c['bytes'])}" for n, c in caches.items())),
    ]  # fmt: skip
    for cache in caches.values():
        lines.append(_line("", cache["path"]))
    if rates := found["rates"]:
        lines.append(
            _line("speed", f"embedded model: reads {rates['prefill']:,.0f} tokens/s, writes"
                           f" {rates['decode']:,.0f} in one row, {rates['batch']:,.0f} in eight")
        )  # fmt: skip
    for item in found["advice"]:
        lines += ["", f"Could be better: {item['why']}", f"  {item['command']}"]
    for sentence in found["broken"]:
        lines += ["", f"Broken: {sentence}"]
    if not found["broken"]:
        lines += ["", "Nothing is broken."]
    return lines


def _line(label: str, text: str) -> str:
    return field(label, text, 12)


def _threads(found: dict[str, Any]) -> str:
    """How many threads, and why."""
    quota = found["quota"]
    why = counted(found["affinity"], "core") + (
        f", a quota of {quota:g}" if quota is not None else ""
    )
    text = f"{found['usable']} ({why})"
    if found["others"] is None:
        return text
    text += f"; others keep {found['others']:.1f} cores busy now"
    return text if found["now"] == found["usable"] else f"{text}, so {found['now']} of them work"
