"""Puts together what `doctor` says: facts, what is broken, and what would make things better."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from urial_local import __version__
from urial_local.base import gguf_facts
from urial_local.base.errors import UrialError
from urial_local.base.gguf_header import read_header
from urial_local.base.paths import cache_dir, shipped
from urial_local.base.registry import EMBEDDED, find_model, registry
from urial_local.prompting.frames import frame_names
from urial_local.prompting.library import load_prompt, prompt_files
from urial_local.runtime import threads
from urial_local.runtime.pace import LoadMeter, Pace
from urial_local.runtime.row_scores import instruction_level
from urial_local.tasks.doctor import machine
from urial_local.tasks.doctor.findings import (
    Advice,
    Build,
    Cache,
    Findings,
    Memory,
    Models,
    Threads,
)
from urial_local.tasks.doctor.machine import Graphics, Processor
from urial_local.tasks.models import pulled
from urial_local.tasks.models.catalog import catalog

PACKAGES = ("llama-cpp-python", "numpy", "huggingface-hub", "jinja2", "gguf", "click")
# Bits of a weight, whole file over parameters, in files of 7B models (llama.cpp's quantize table).
BITS = {"Q4_K_M": 4.85, "Q8_0": 8.5, "F16": 16.0}
SIZES = (0.5, 1, 3, 7, 13, 34, 70)  # billions of parameters
SPARE = 0.85  # share of the memory that a model may take
OPTIMISED = "-DGGML_NATIVE=ON"
_NO_AMX = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
WITHOUT_AMX = f"-DCMAKE_C_FLAGS='{_NO_AMX}' -DCMAKE_CXX_FLAGS='{_NO_AMX}'"
BUILDS = {"CUDA": "-DGGML_CUDA=on", "Metal": "-DGGML_METAL=on", "Vulkan": "-DGGML_VULKAN=on"}


def examine() -> Findings:
    """All of `doctor` but the measurement."""
    broken: list[str] = []
    versions, processor, graphics = _versions(), machine.processor(), machine.graphics()
    build = _build(broken)
    total, free = machine.memory()
    return Findings(
        versions=versions,
        processor=processor,
        graphics=tuple(graphics),
        threads=_threads(),
        build=build,
        memory=Memory(total, free, largest(free)),
        instructions=instruction_level(),
        models=_models(broken),
        prompts=_prompts(broken),
        caches={name: _cache(path) for name, path in _caches().items()},
        broken=tuple(broken),
        advice=_advice(build, processor, graphics, versions) if build else (),
    )


def _versions() -> dict[str, str]:
    found = {"urial-local": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing"
    found["system"] = platform.platform(terse=True)
    return found


def _threads() -> Threads:
    threads.set_waiting()
    cores = threads.cores()
    meter = LoadMeter()
    time.sleep(1.1 * meter.EVERY)
    load = meter.read()
    return Threads(
        affinity=cores.affinity,
        quota=cores.quota,
        usable=cores.usable,
        others=load.others if load else None,
        now=Pace(meter).threads(cores.usable, cores.usable),
        waiting={k: os.environ[k] for k in threads.CHOSEN if k in os.environ},
    )


def _build(broken: list[str]) -> Build | None:
    try:
        from urial_local.runtime.devices import built_features, devices

        return Build(built_features(), tuple(devices()))
    except UrialError as error:
        broken.append(f"{error.message} {error.hint}")
        return None


def _advice(
    build: Build, processor: Processor, graphics: Sequence[Graphics], versions: Mapping[str, str]
) -> tuple[Advice, ...]:
    """How llama.cpp was built, against what the processor and the GPU offer."""
    return build_advice(
        processor.offers,
        build.built.get("CPU", []),
        [gpu.backend for gpu in graphics],
        [gpu.name for gpu in build.gpus],
        versions["llama-cpp-python"],
    )


def build_advice(
    offers: list[str] | tuple[str, ...],
    built: list[str],
    backends: list[str],
    gpus: list[str],
    version: str,
) -> tuple[Advice, ...]:
    """What another build of llama.cpp would bring."""
    advice = []
    flags: list[str] = []
    # AMX: what GCC makes of llama.cpp's code for it ends the process, so it is never advised.
    missing = [name for name in offers if name not in built and name != "AMX_INT8"]
    if "AMX_INT8" in built:
        flags.append(WITHOUT_AMX)
        advice.append(
            "llama.cpp was built for AMX, where its code can end the process, so its repacked"
            " weights are not used; without AMX they are, and reading prompts is faster"
        )
    if missing and built:
        flags.append(OPTIMISED)
        advice.append(
            f"This processor offers {', '.join(missing)}, which llama.cpp was built without"
        )
    if backends and not gpus:
        flags.append(BUILDS[backends[0]])
        advice.append(f"There is a GPU for {backends[0]}, which llama.cpp was built without")
    if not flags:
        return ()
    command = (
        f'CMAKE_ARGS="{" ".join(flags)}" pip install --force-reinstall --no-deps --no-cache-dir'
        f" --no-binary llama-cpp-python llama-cpp-python=={version}"
    )
    return (Advice("; ".join(advice) + ".", command),)


def largest(free: int) -> dict[str, float]:
    """Per quantisation the largest usual model, in billions of parameters, that fits 85 % of so
    many bytes with a context of 4,096 tokens. That is taken as 0.1 bytes a parameter: a model of 7B
    with 8 KV heads of 128 in 32 layers (Mistral-7B) needs 0.08, one without shared heads 0.3."""
    return {
        quant: max((b for b in SIZES if b * 1e9 * (bits / 8 + 0.1) <= SPARE * free), default=0)
        for quant, bits in BITS.items()
    }


def _models(broken: list[str]) -> Models:
    known = registry()
    broken += known.problems
    for name in EMBEDDED:
        try:
            gguf_facts.parameters(read_header(find_model(name).path))
        except UrialError as error:
            broken.append(f"The embedded model {name}: {error.message}")
    try:
        pulled.records()
    except UrialError as error:
        broken.append(f"{error.message} {error.hint}")
    rows = catalog(known)
    local = [row for row in rows if row.path and row.name not in EMBEDDED]
    return Models(
        listed=len(known.entries),
        local=len(local),
        bytes=sum(row.size or 0 for row in local),
        without_checksum=sum(entry.sha256 is None for entry in known.entries.values()),
    )


def _prompts(broken: list[str]) -> int:
    names = list(prompt_files())
    for name in names:
        try:
            load_prompt(name)
        except UrialError as error:
            broken.append(error.message)
    if not frame_names():
        broken.append(
            f"There are no frames in {shipped('templates')}; the installation is incomplete."
        )
    return len(names)


def _caches() -> dict[str, Path]:
    from urial_local.base.hub import cache_folder
    from urial_local.base.paths import prefix_cache_dir

    return {
        "prompt states": prefix_cache_dir(),
        "tried models": cache_dir() / "checked",
        "models": cache_folder(),
    }


def _cache(path: Path) -> Cache:
    """Each file once: the hub's snapshots are links to its blobs."""
    size = sum(p.stat().st_size for p in path.rglob("*") if p.is_file() and not p.is_symlink())
    return Cache(str(path), size)
