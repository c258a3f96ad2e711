"""urial-local: base language models as assistants, on your own hardware.

    import urial_local as ul

    with ul.load("mistral-7b") as assistant:
        print(assistant.complete("How do I make tea?"))

See docs/python.md. What is named here is imported when it is first used, llama.cpp with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from urial_local.assistant import Assistant, load
    from urial_local.base.errors import UrialError
    from urial_local.prompting.prompts import Turn
    from urial_local.runtime.rows import Completion
    from urial_local.studies import generate, judge, shift

_PLACES = {
    "Assistant": "assistant",
    "load": "assistant",
    "UrialError": "base.errors",
    "Turn": "prompting.prompts",
    "Completion": "runtime.rows",
    "generate": "studies",
    "judge": "studies",
    "shift": "studies",
}
__all__ = [
    "Assistant",
    "Completion",
    "Turn",
    "UrialError",
    "generate",
    "judge",
    "load",
    "shift",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _PLACES:
        raise AttributeError(f"module 'urial_local' has no attribute {name!r}")
    found = getattr(import_module(f"urial_local.{_PLACES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
