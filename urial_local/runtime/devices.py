"""What llama.cpp was built for, and which devices it sees. Knows nothing of models."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

from urial_local.runtime.llama_api import lib

_TYPES = {0: "cpu", 1: "gpu", 2: "integrated gpu", 3: "accelerator"}  # ggml_backend_dev_type


@dataclass(frozen=True, slots=True)
class Device:
    """A device of ggml's."""

    name: str  # such as CPU, CUDA0, Metal, Vulkan0
    description: str
    kind: str  # a value of _TYPES
    free: int  # bytes
    total: int  # bytes


def devices() -> list[Device]:
    """All devices that this build can compute on, the processor among them."""
    from llama_cpp._ggml import libggml

    def call(name: str, result: Any, *kinds: Any) -> Any:
        function = getattr(libggml, f"ggml_backend_dev_{name}")
        function.restype, function.argtypes = result, list(kinds)
        return function

    count = call("count", ctypes.c_size_t)
    get = call("get", ctypes.c_void_p, ctypes.c_size_t)
    name = call("name", ctypes.c_char_p, ctypes.c_void_p)
    description = call("description", ctypes.c_char_p, ctypes.c_void_p)
    kind = call("type", ctypes.c_int, ctypes.c_void_p)
    size_p = ctypes.POINTER(ctypes.c_size_t)
    memory = call("memory", None, ctypes.c_void_p, size_p, size_p)
    found = []
    for i in range(count()):
        handle = get(i)
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        memory(handle, ctypes.byref(free), ctypes.byref(total))
        found.append(
            Device(
                name(handle).decode("utf-8", "replace"),
                description(handle).decode("utf-8", "replace"),
                _TYPES.get(kind(handle), "unknown"),
                free.value,
                total.value,
            )
        )
    return found


def gpus() -> list[Device]:
    return [device for device in devices() if "gpu" in device.kind]


def built_features() -> dict[str, list[str]]:
    """Per backend of the build, what it was compiled with: {"CPU": ["AVX2", …], "CUDA": […]}.

    From llama_print_system_info, whose text is `CPU : AVX2 = 1 | … | CUDA : …`.
    """
    text = lib.llama_print_system_info().decode("utf-8", "replace")
    found: dict[str, list[str]] = {}
    backend = "CPU"
    for part in text.split("|"):
        name, colon, rest = part.partition(" : ")
        if colon:
            backend, part = name.strip(), rest
        found.setdefault(backend, [])
        feature, _, value = part.partition("=")
        if feature.strip() and value.strip() not in ("", "0"):
            found[backend].append(feature.strip())
    return found
