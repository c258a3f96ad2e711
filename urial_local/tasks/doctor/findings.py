"""What `doctor` finds, as records. Sizes in bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from urial_local.tasks.doctor.machine import Graphics, Processor

if TYPE_CHECKING:  # both import llama.cpp, which may be what is broken
    from urial_local.runtime.devices import Device
    from urial_local.tasks.doctor.measure import Rates


@dataclass(frozen=True, slots=True)
class Advice:
    """What could be better, and the command that makes it so."""

    why: str
    command: str


@dataclass(frozen=True, slots=True)
class Threads:
    """How many threads a model gets here, why, and how busy the machine is now."""

    affinity: int  # physical cores, hyperthreads counted once
    quota: float | None  # cores' worth of time that a container allows
    usable: int
    others: float | None  # cores that other processes keep busy; None where it is not known
    now: int
    waiting: Mapping[str, str]  # variables of the environment that say how threads wait


@dataclass(frozen=True, slots=True)
class Build:
    """How llama.cpp was built: features by backend; and the devices that it sees."""

    built: Mapping[str, list[str]]
    devices: tuple[Device, ...]

    @property
    def gpus(self) -> tuple[Device, ...]:
        return tuple(device for device in self.devices if "gpu" in device.kind)


@dataclass(frozen=True, slots=True)
class Memory:
    """`fits`: by quantisation, billions of parameters of the largest usual model."""

    total: int
    available: int
    fits: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Models:
    """The registry's lines, and what of it is here."""

    listed: int
    local: int
    bytes: int
    without_checksum: int


@dataclass(frozen=True, slots=True)
class Cache:
    path: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Findings:
    """All of `doctor`. `broken`: a sentence for each thing that does not work."""

    versions: Mapping[str, str]
    processor: Processor
    graphics: tuple[Graphics, ...]
    threads: Threads
    build: Build | None  # None where llama.cpp does not load
    memory: Memory
    instructions: str  # of our kernels
    models: Models
    prompts: int
    caches: Mapping[str, Cache]
    broken: tuple[str, ...]
    advice: tuple[Advice, ...]
    rates: Rates | None = None  # None where nothing was measured

    def as_json(self) -> dict[str, Any]:
        found = asdict(self)
        found["llama.cpp"] = found.pop("build")
        found["native"] = {"instructions": found.pop("instructions")}
        found["prompts"] = {"prompts": self.prompts}
        return found
