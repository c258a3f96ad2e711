"""Options of commands whose rows several workers make, and the workers that they choose."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from urial_local.base import limits
from urial_local.base.errors import UsageError
from urial_local.base.formats import counted
from urial_local.cli.plumbing.options import together

if TYPE_CHECKING:
    from urial_local.cli.plumbing.generating import Lacking
    from urial_local.tasks.crew.driver import Crew
    from urial_local.tasks.generate.setup import Plan


class DevicesType(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """GPUs by their numbers, or cpu."""

    name = "A,B,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        found = tuple(part.strip() for part in str(value).split(","))
        numbers = [part for part in found if part != "cpu"]
        if any(limits.count(part, limits.DEVICES) is None for part in numbers) or (
            len(found) > limits.DEVICES
        ):
            return self.fail(f"{str(value)[:40]!r} is no list such as 0,1 or cpu,cpu", param, ctx)
        if len(set(numbers)) < len(numbers):
            return self.fail("a GPU is named twice; more rows at a time use it better", param, ctx)
        return found


crew_options = together(
    click.option(
        "--devices",
        type=DevicesType(),
        help="A process for each: GPUs by their numbers, as in 0,1,2,3; or cpu,cpu.",
    ),
)


def crew_of(
    options: Mapping[str, Any], embedding_model: str | None = None
) -> Callable[[Plan, Lacking], Crew] | None:
    """Workers as the options choose them; None where this process does it."""
    devices = options["devices"]
    if not devices:
        return None

    def make(plan: Plan, lacking: Lacking) -> Crew:
        from urial_local.cli.plumbing.terminal import note
        from urial_local.runtime.threads import cores
        from urial_local.tasks.crew.driver import Crew
        from urial_local.tasks.crew.processes import CPU, Processes
        from urial_local.tasks.generate.crew import spec_of

        on_cpu = devices.count(CPU) == len(devices)
        if CPU in devices and not on_cpu:
            raise UsageError("GPUs and cpu together would make rows that differ by device.")
        # Rows of the whole run, as far as is known, are shared: so are the cores.
        threads = max(1, cores().usable // len(devices))
        spec = spec_of(plan, lacking.first, lacking.rows, embedding_model, threads, on_cpu)
        note(f"{counted(len(devices), 'worker')}, with {counted(threads, 'thread')} each.")
        return Crew(spec, Processes(devices), note)

    return make
