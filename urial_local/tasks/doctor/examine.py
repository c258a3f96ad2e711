"""Puts together what `doctor` says: facts, what is broken, and what would make things better."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

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


def examine() -> dict[str, Any]:
    """All of `doctor` but the measurement; sizes in bytes.

    `broken` holds a sentence for each thing that does not work, `advice` one with a command for
    each that could be better.
    """
    broken: list[str] = []
    advice: list[dict[str, str]] = []
    found: dict[str, Any] = {
        "versions": _versions(),
        "processor": asdict(machine.processor()),
        "graphics": [asdict(g) for g in machine.graphics()],
    }
    found["threads"] = _threads()
    found["llama.cpp"] = _build(found, broken, advice)
    total, free = machine.memory()
    found["memory"] = {"total": total, "available": free, "fits": largest(free)}
    found["native"] = {"instructions": instruction_level()}
    found["models"] = _models(broken)
    found["prompts"] = _prompts(broken)
    found["caches"] = {name: _cache(path) for name, path in _caches().items()}
    return {**found, "broken": broken, "advice": advice}


def _versions() -> dict[str, str]:
    found = {"urial-local": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing"
    found["system"] = platform.platform(terse=True)
    return found


def _threads() -> dict[str, Any]:
    """How many threads a model gets here, why, and how busy the machine is now."""
    threads.set_waiting()
    cores = threads.cores()
    meter = LoadMeter()
    time.sleep(1.1 * meter.EVERY)
    load = meter.read()
    return {
        **asdict(cores),
        "usable": cores.usable,
        "others": load.others if load else None,
        "now": Pace(meter).threads(cores.usable, cores.usable),
        "waiting": {k: os.environ[k] for k in threads.CHOSEN if k in os.environ},
    }


def _build(
    found: dict[str, Any], broken: list[str], advice: list[dict[str, str]]
) -> dict[str, Any] | None:
    """How llama.cpp was built, against what the processor and the GPU offer."""
    try:
        from urial_local.runtime.devices import built_features, devices

        built = built_features()
        seen = devices()
    except UrialError as error:
        broken.append(f"{error.message} {error.hint}")
        return None
    advice += build_advice(
        found["processor"]["offers"],
        built.get("CPU", []),
        [g["backend"] for g in found["graphics"]],
        [d.name for d in seen if "gpu" in d.kind],
        found["versions"]["llama-cpp-python"],
    )
    return {"built": built, "devices": [asdict(d) for d in seen]}


def build_advice(
    offers: list[str] | tuple[str, ...],
    built: list[str],
    backends: list[str],
    gpus: list[str],
    version: str,
) -> list[dict[str, str]]:
    """What another build of llama.cpp would bring: `why`, and the `command` that makes it."""
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
        return []
    command = (
        f'CMAKE_ARGS="{" ".join(flags)}" pip install --force-reinstall --no-deps --no-cache-dir'
        f" --no-binary llama-cpp-python llama-cpp-python=={version}"
    )
    return [{"why": "; ".join(advice) + ".", "command": command}]


def largest(free: int) -> dict[str, float]:
    """Per quantisation the largest usual model, in billions of parameters, that fits 85 % of so
    many bytes with a context of 4,096 tokens. That is taken as 0.1 bytes a parameter: a model of 7B
    with 8 KV heads of 128 in 32 layers (Mistral-7B) needs 0.08, one without shared heads 0.3."""
    return {
        quant: max((b for b in SIZES if b * 1e9 * (bits / 8 + 0.1) <= SPARE * free), default=0)
        for quant, bits in BITS.items()
    }


def _models(broken: list[str]) -> dict[str, Any]:
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
    return {
        "listed": len(known.entries),
        "local": len(local),
        "bytes": sum(row.size or 0 for row in local),
        "without_checksum": sum(entry.sha256 is None for entry in known.entries.values()),
    }


def _prompts(broken: list[str]) -> dict[str, int]:
    names = list(prompt_files())
    for name in names:
        try:
            load_prompt(name)
        except UrialError as error:
            broken.append(error.message)
    if not frame_names():
        broken.append(f"There are no frames in {shipped('templates')}; the installation is torn.")
    return {"prompts": len(names)}


def _caches() -> dict[str, Path]:
    from urial_local.base.hub import cache_folder
    from urial_local.base.paths import prefix_cache_dir

    return {
        "prompt states": prefix_cache_dir(),
        "tried models": cache_dir() / "checked",
        "models": cache_folder(),
    }


def _cache(path: Path) -> dict[str, Any]:
    """Each file once: the hub's snapshots are links to its blobs."""
    size = sum(p.stat().st_size for p in path.rglob("*") if p.is_file() and not p.is_symlink())
    return {"path": str(path), "bytes": size}
