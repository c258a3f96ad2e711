"""Options of commands whose rows several workers make, and the workers that they choose."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from urial_local.base import limits
from urial_local.base.errors import UsageError
from urial_local.base.formats import counted
from urial_local.cli.plumbing.numbers import Whole
from urial_local.cli.plumbing.options import together

if TYPE_CHECKING:
    from urial_local.cli.plumbing.generating import Lacking
    from urial_local.tasks.crew.driver import Crew
    from urial_local.tasks.crew.messages import Hands
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
            return self.fail(
                f"{str(value)[:40]!r} is not a list such as 0,1 or cpu,cpu", param, ctx
            )
        if len(set(numbers)) < len(numbers):
            return self.fail("a GPU is named twice; raise -np to use it better", param, ctx)
        return found


crew_options = together(
    click.option(
        "--devices",
        type=DevicesType(),
        help="Run a worker process on each: GPUs by number, such as 0,1,2,3, or cpu,cpu.",
    ),
    click.option(
        "--ray",
        is_flag=False,
        flag_value="local",
        metavar="[ADDRESS]",
        help="Run the workers on a Ray cluster: auto for the running one, an address, or local"
        " for a temporary one ([ray] extra).",
    ),
    click.option(
        "--actors",
        type=Whole(1, limits.SHARDS),
        metavar="N",
        help="Number of Ray actors.  [default: as many as fit]",
    ),
    click.option(
        "--cpus-per-actor",
        type=click.FloatRange(0.01, limits.THREADS),
        default=1.0,
        metavar="X",
        help="Cores of each actor, and threads of its model.  [default: 1]",
    ),
    click.option(
        "--gpus-per-actor",
        type=click.FloatRange(0, limits.DEVICES),
        default=0.0,
        metavar="X",
        help="GPUs of each actor; with a fraction, actors share one.  [default: 0]",
    ),
)


@dataclass(frozen=True)
class Workers:
    """Those that the options choose."""

    kind: str  # what one is called
    threads: int  # of each, unless the user chose
    on_cpu: bool  # no GPU is used
    begin: Callable[[int | None], Hands]  # so many of them, or None for as many as were chosen

    def hands(self, count: int | None = None) -> Hands:
        """Workers, whose number is told where it is not given."""
        found = self.begin(count)
        if count is None:
            from urial_local.cli.plumbing.terminal import note

            note(f"{counted(found.count, self.kind)}.")
        return found


def workers_of(options: Mapping[str, Any]) -> Workers | None:
    """Workers as the options choose them; None where this process does it."""
    if options["devices"] and options["ray"]:
        raise UsageError("--devices and --ray exclude each other.")
    if options["actors"] and not options["ray"]:
        raise UsageError("--actors needs --ray.")
    if options["ray"]:
        return _actors(options)
    return _processes(options["devices"]) if options["devices"] else None


def crew_of(
    options: Mapping[str, Any], embedding_model: str | None = None
) -> Callable[[Plan, Lacking], Crew] | None:
    """Workers that answer, as the options choose them; None where this process does it."""
    workers = workers_of(options)
    if workers is None:
        return None

    def make(plan: Plan, lacking: Lacking) -> Crew:
        from urial_local.cli.plumbing.terminal import note
        from urial_local.tasks.crew.driver import Crew
        from urial_local.tasks.generate.crew import spec_of

        each = workers.threads, workers.on_cpu
        spec = spec_of(plan, lacking.first, lacking.rows, embedding_model, *each)
        return Crew(spec, workers.hands(), note)

    return make


def _processes(devices: tuple[str, ...]) -> Workers:
    from urial_local.runtime.threads import cores
    from urial_local.tasks.crew.processes import CPU, Processes

    on_cpu = devices.count(CPU) == len(devices)
    if CPU in devices and not on_cpu:
        raise UsageError("GPUs and cpu together would make rows that differ by device.")
    threads = max(1, cores().usable // len(devices))  # they share the machine's cores
    return Workers("worker", threads, on_cpu, lambda count: Processes(devices[:count]))


def _actors(options: Mapping[str, Any]) -> Workers:
    from urial_local.cli.plumbing.terminal import note
    from urial_local.tasks.crew.ray_actors import Actors, RayChoice, ray

    if not options["cpus_per_actor"] > 0 or not options["gpus_per_actor"] >= 0:  # as nan is not
        raise UsageError("--cpus-per-actor must be above 0.")
    choice = RayChoice(
        address=options["ray"],
        actors=options["actors"],
        cpus=options["cpus_per_actor"],
        gpus=options["gpus_per_actor"],
    )
    ray()  # before anything is read

    def begin(count: int | None) -> Actors:
        return Actors(replace(choice, actors=count or choice.actors), note)

    return Workers("actor", choice.threads, not choice.gpus, begin)
