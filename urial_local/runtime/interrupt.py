"""Ctrl-C while the engine computes: noted at once, acted on between two nodes of the graph."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from urial_local.runtime.native import native


@contextlib.contextmanager
def interruptible(abort_flag: npt.NDArray[np.int32]) -> Iterator[None]:
    """Inside, SIGINT sets the flag, so that a decode that is under way stops and raises Aborted.

    Only the main thread receives signals; elsewhere this does nothing but reset the flag.
    """
    abort_flag[0] = 0
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    started = native.begin_interrupts(abort_flag.ctypes.data)
    try:
        yield
    finally:
        if started:
            native.end_interrupts()
