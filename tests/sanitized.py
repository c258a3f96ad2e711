"""A pytest plugin: puts the native module built with sanitisers in the place of the ordinary one.

`make sanitize` builds it and runs the kernel tests with `-p tests.sanitized`.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import urial_local

_BUILD = Path(__file__).resolve().parent.parent / "build" / "sanitize"
_file = next(_BUILD.glob("_native*.so"))
_spec = importlib.util.spec_from_file_location("urial_local._native", _file)
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
sys.modules["urial_local._native"] = _module
_spec.loader.exec_module(_module)
urial_local._native = _module


def pytest_report_header() -> str:
    return f"native module: {_file.name}, built with address and undefined-behaviour sanitisers"
