"""The command `urial-local`, also as `python -m urial_local`."""

from __future__ import annotations

import os
import signal
from typing import NoReturn


def main() -> NoReturn:
    """Hear Ctrl-C from the first moment on: the imports take a while, and inside one of them
    KeyboardInterrupt would end in a traceback."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupted)
    from urial_local.cli.main import main as run

    run()


def interrupted(*_: object) -> None:
    os.write(2, b"Interrupted.\n")
    os._exit(130)


if __name__ == "__main__":
    main()
