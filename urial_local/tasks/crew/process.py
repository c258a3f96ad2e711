"""The main program of a worker that is a process: messages on its standard input and output."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable

from urial_local.tasks.crew.messages import Event
from urial_local.tasks.crew.processes import received, send
from urial_local.tasks.crew.worker import Inbox, work


def main() -> None:
    """Work for the process that started this one, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver's to hear
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # What a library prints must not come between messages.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    spec = received(sys.stdin.buffer)
    if spec is None:
        return
    sending = threading.Lock()

    def emit(event: Event) -> None:
        with sending:
            send(answers, event)

    inbox = Inbox(spec, emit)

    orders: dict[str, Callable[..., None]] = {
        "put": inbox.put,
        "give_back": inbox.give_back,
        "stop": inbox.stop,
    }

    def listen() -> None:
        while (message := received(sys.stdin.buffer)) is not None:
            name, *values = message
            orders[name](*values)
        os._exit(0)  # the driver is gone, and nobody would write what is made from now on

    threading.Thread(target=listen, daemon=True).start()
    work(spec, inbox, emit, sys.argv[1])
