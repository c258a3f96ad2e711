"""The machine as the operating system tells of it: processor, memory, graphics."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# What the processor calls an instruction set (Linux's /proc/cpuinfo, macOS's sysctl), and what
# llama.cpp calls it in llama_print_system_info.
X86 = {
    "ssse3": "SSSE3",
    "avx": "AVX",
    "avx2": "AVX2",
    "f16c": "F16C",
    "fma": "FMA",
    "bmi2": "BMI2",
    "avx_vnni": "AVX_VNNI",
    "avx512f": "AVX512",
    "avx512vbmi": "AVX512_VBMI",
    "avx512_vnni": "AVX512_VNNI",
    "avx512_bf16": "AVX512_BF16",
    "amx_int8": "AMX_INT8",
}
ARM = {
    "asimd": "NEON",
    "asimddp": "DOTPROD",
    "i8mm": "MATMUL_INT8",
    "sve": "SVE",
    "asimdhp": "FP16_VA",
    "sme": "SME",
}
_MACOS = {
    "hw.optional.arm.FEAT_DotProd": "asimddp",
    "hw.optional.arm.FEAT_I8MM": "i8mm",
    "hw.optional.arm.FEAT_FP16": "asimdhp",
    "hw.optional.avx1_0": "avx",
    "hw.optional.avx2_0": "avx2",
    "hw.optional.f16c": "f16c",
    "hw.optional.fma": "fma",
    "hw.optional.bmi2": "bmi2",
    "hw.optional.avx512f": "avx512f",
}


@dataclass(frozen=True, slots=True)
class Processor:
    name: str
    cores: int  # logical ones that this process may use
    offers: tuple[str, ...]  # instruction sets, by llama.cpp's names


@dataclass(frozen=True, slots=True)
class Graphics:
    """A GPU that the system has, whether or not llama.cpp can use it."""

    name: str
    backend: str  # CUDA, Metal or Vulkan: what llama.cpp would use it through


def processor() -> Processor:
    """What the processor offers; no instruction sets where the system does not say."""
    text = _read("/proc/cpuinfo")
    name, flags = parse_cpuinfo(text) if text else ("", set())
    if platform.system() == "Darwin":
        name = _run("sysctl", "-n", "machdep.cpu.brand_string").strip()
        told = dict(
            line.split(": ", 1) for line in _run("sysctl", "-a").splitlines() if ": " in line
        )
        flags = {flag for key, flag in _MACOS.items() if told.get(key) == "1"}
        flags |= {"asimd"} if platform.machine() == "arm64" else set()
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return Processor(name or platform.processor() or platform.machine(), cores, features(flags))


def features(flags: Iterable[str]) -> tuple[str, ...]:
    """llama.cpp's names of the instruction sets among a processor's flags."""
    known = {**X86, **ARM}
    there = set(flags)
    return tuple(name for flag, name in known.items() if flag in there)


def parse_cpuinfo(text: str) -> tuple[str, set[str]]:
    """The first processor's name and flags in Linux's /proc/cpuinfo (x86 or ARM)."""
    name = ""
    flags: set[str] = set()
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon and key.strip() in ("model name", "Model") and not name:
            name = value.strip()
        if colon and key.strip() in ("flags", "Features") and not flags:
            flags = set(value.split())
    return name, flags


def graphics() -> list[Graphics]:
    """GPUs by what the system's own tools say; nothing where they are absent."""
    if platform.system() == "Darwin":
        arm = platform.machine() == "arm64"
        return [Graphics("Apple GPU", "Metal")] if arm else []
    found = [
        Graphics(line.split(":", 1)[1].split("(UUID")[0].strip(), "CUDA")
        for line in _run("nvidia-smi", "-L").splitlines()
        if line.startswith("GPU ")
    ]
    if not found:
        for line in _run("lspci").splitlines():
            if "VGA compatible" in line or "3D controller" in line:
                name = line.split(": ", 1)[-1]
                if "nvidia" in name.lower():
                    found.append(Graphics(name, "CUDA"))
                elif any(maker in name for maker in ("AMD", "ATI", "Intel")):
                    found.append(Graphics(name, "Vulkan"))
    return found


def memory() -> tuple[int, int]:
    """(all, available) bytes, with the limit of a container (cgroup) taken into account."""
    told = {}
    for line in _read("/proc/meminfo").splitlines():
        key, _, value = line.partition(":")
        with contextlib.suppress(ValueError, IndexError):
            told[key] = int(value.split()[0]) * 1024
    if told.get("MemTotal"):
        total, free = told["MemTotal"], told.get("MemAvailable", told["MemTotal"])
    else:
        with contextlib.suppress(ValueError, OSError, AttributeError):
            total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
            return total, total
        return 0, 0
    group = "/sys/fs/cgroup/memory"
    with contextlib.suppress(ValueError):  # "max" where there is no limit
        limit, used = int(_read(f"{group}.max")), int(_read(f"{group}.current"))
        for line in _read(f"{group}.stat").splitlines():
            if line.startswith("inactive_file "):  # cached files, which give way
                used -= int(line.split()[1])
        total, free = min(total, limit), min(free, max(0, limit - used))
    return total, free


def _read(path: str) -> str:
    with contextlib.suppress(OSError):
        return Path(path).read_text("utf-8", "replace")
    return ""


def _run(*command: str) -> str:
    """What a tool of the system says; nothing where it is absent, fails or hangs."""
    if not shutil.which(command[0]):
        return ""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=10, check=True
        )
        return done.stdout
    return ""
