"""Workers as processes on this machine, each with a device of its own.

They talk over pipes: pickled messages, each after its length. A worker whose driver is gone sees
the end of its pipe and ends.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import struct
import subprocess
import threading
from typing import IO, Any

from urial_local.base import child
from urial_local.tasks.crew.messages import Event, Lost, Spec
from urial_local.tasks.crew.schedule import Task

_LENGTH = struct.Struct("<I")
CPU = "cpu"


class Processes:
    """Hands that are processes. `devices`: GPUs by their numbers, or `cpu`, one for each worker."""

    def __init__(self, devices: tuple[str, ...]) -> None:
        self.devices, self.count = devices, len(devices)
        # What a signal handler puts in must not wait for a lock that the same thread holds.
        self._events: queue.SimpleQueue[tuple[int, Event] | None] = queue.SimpleQueue()
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._readers: list[threading.Thread] = []
        self._closed = False

    def start(self, number: int, spec: Spec) -> None:
        device = self.devices[number]
        seen = "" if device == CPU else device
        process = subprocess.Popen(
            child.command("urial_local.tasks.crew.process", device),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": seen, "HIP_VISIBLE_DEVICES": seen},
            start_new_session=True,  # Ctrl-C is the driver's, which lets them finish
        )
        self._running[number] = process
        self._send(number, spec)
        reader = threading.Thread(target=self._read, args=(number, process), daemon=True)
        self._readers.append(reader)
        reader.start()

    def _read(self, number: int, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        while (event := received(process.stdout)) is not None:
            self._events.put((number, event))
        code = process.wait()
        process.stdout.close()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        self._events.put((number, Lost(f"{self.devices[number]}: {how}")))

    def events(self) -> list[tuple[int, Event]]:
        found = [self._events.get()]
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._events.get_nowait())
        return [one for one in found if one is not None]

    def send(self, number: int, tasks: list[Task]) -> None:
        self._send(number, ("put", tasks))

    def recall(self, number: int, count: int) -> None:
        self._send(number, ("give_back", count))

    def stop(self, number: int) -> None:
        self._send(number, ("stop",))

    def _send(self, number: int, message: Any) -> None:
        process = self._running[number]
        assert process.stdin is not None
        with contextlib.suppress(OSError, ValueError):  # it is gone: its reader says so
            send(process.stdin, message)

    def wake(self) -> None:
        self._events.put(None)

    def close(self) -> None:
        for process in self._running.values():
            process.kill()  # what was finished is here already
            with contextlib.suppress(OSError):
                assert process.stdin is not None
                process.stdin.close()
        for reader in self._readers:
            reader.join()
        self._running.clear()


def send(file: IO[bytes], message: Any) -> None:
    data = pickle.dumps(message)
    file.write(_LENGTH.pack(len(data)) + data)
    file.flush()


def received(file: IO[bytes]) -> Any:
    """The next message; None at the end, also in the middle of one."""
    head = file.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    data = file.read(length)
    return pickle.loads(data) if len(data) == length else None
