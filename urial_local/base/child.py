"""Python in a child process, where a breakdown of native code or a hunger for memory does no harm
to us. Knows nothing of what is done there."""

from __future__ import annotations

import os
import signal
import sys

# The child finds what this process finds, in the same order. Plain `-m` would put the working
# directory first, and a module beside a downloaded file would run instead of Python's own.
_START = (
    "import sys; n = 3 + int(sys.argv[2]); name = sys.argv[1]; sys.path[:] = sys.argv[n:];"
    "sys.argv[1:n] = sys.argv[3:n]; del sys.argv[n - 2:];"
    "import importlib; importlib.import_module(name).main()"
)


def command(module: str, *arguments: str) -> list[str]:
    """What starts `module.main()` in a child, which sees the arguments as `sys.argv[1:]`."""
    return [sys.executable, "-c", _START, module, str(len(arguments)), *arguments, *sys.path]


def limit_memory(limit: int) -> None:
    """Cap this process's private memory at `limit` bytes, and write no core dump.

    An absurd file may ask for more than the machine has. On Linux, files mapped into memory and
    addresses that are only reserved do not count; elsewhere they would, so there is no limit.
    """
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        # A sparse file may claim any size, so the machine's memory is a limit too.
        limit = min(limit, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        present, most = resource.getrlimit(resource.RLIMIT_DATA)
        if present == resource.RLIM_INFINITY or limit < present:
            resource.setrlimit(resource.RLIMIT_DATA, (limit, most))


def breakdown(returncode: int) -> str:
    """The name of the signal that ended a child, or "". Raises KeyboardInterrupt for Ctrl-C."""
    if returncode >= 0:
        return ""
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        return f"signal {-returncode}"
    if name == "SIGINT":
        raise KeyboardInterrupt
    return name
