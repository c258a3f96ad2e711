"""Runs `urial-local` for tests: in this process, or in one of its own.

In this process a call costs what the command costs. One of its own adds a second for Python and its
imports, and is for tests in which the process is the subject: signals, closed or full streams,
terminals, limits, what is imported, and what libraries read from the environment once.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import io
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import IO, TextIO
from unittest import mock

COMMAND = (sys.executable, "-m", "urial_local")
Argument = str | int | os.PathLike[str]


@dataclass(frozen=True)
class Finished:
    """What a command left: its exit code and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


def urial(*args: Argument, stdin: bytes = b"", **env: str) -> Finished:
    """Run the command in this process, by the way of the console script. Whatever it changes in
    the process is put back; an exception that nobody caught comes through."""
    early = [n for n in env if n.startswith(("PYTHON", "LD_", "LLAMA_", "GGML_", "OMP_", "GOMP_"))]
    assert not early, f"{early} are read when a process starts: call process()"
    with contextlib.ExitStack() as stack:
        said = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(3)]
        said[0].write(stdin)
        said[0].seek(0)
        stack.enter_context(_kept_state(env))
        stack.enter_context(_streams(said))
        stack.enter_context(mock.patch.object(sys, "argv", ["urial-local", *map(str, args)]))
        code = _code()
        if code == 130:  # Ctrl-C at the terminal of these tests; tests of it have a process
            raise KeyboardInterrupt
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        stdout, stderr = (_text(file) for file in said[1:])
    return _finished(code, stdout, stderr)


def process(*args: Argument, stdin: bytes = b"", timeout: float = 120, **env: str) -> Finished:
    """Run the command in a process of its own."""
    done = subprocess.run(
        [*COMMAND, *map(str, args)],
        input=stdin,
        capture_output=True,
        env={**os.environ, **env},
        timeout=timeout,
    )
    return _finished(done.returncode, done.stdout.decode(), done.stderr.decode())


def fails(code: int, *args: Argument, stdin: bytes = b"", run=urial, **env: str) -> str:
    """What the command says on stderr as it ends with this code; stdout stays empty."""
    done = run(*args, stdin=stdin, **env)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    return done.stderr


def ask(model: Path, *args: str, **more) -> Finished:
    return urial("ask", "-m", model, "-p", "zero-shot", "-n", "8", "-t", "1", *args, **more)


def _finished(code: int, stdout: str, stderr: str) -> Finished:
    assert "Traceback" not in stderr, stderr
    return Finished(code, stdout, stderr)


class _Exit(BaseException):
    """Stands for the end of the process, where the command would end it at once."""

    def __init__(self, code: int) -> None:
        self.code = code


def _code() -> int:
    from urial_local.__main__ import main

    def end(code: int) -> None:
        raise _Exit(code)

    # The functions of pytest and others that wait for the end must not run now.
    with mock.patch.object(atexit, "_run_exitfuncs"), mock.patch.object(os, "_exit", end):
        try:
            main()
        except SystemExit as error:
            return int(error.code or 0)
        except _Exit as error:
            return error.code


@contextlib.contextmanager
def _kept_state(env: dict[str, str]) -> Iterator[None]:
    """Puts back the environment, the handlers of signals, the folder and the mask of files."""
    handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)}
    folder, mask = os.getcwd(), os.umask(0o077)
    os.umask(mask)
    # Ctrl-C is for the command, as in a shell, whatever these tests were started with.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with mock.patch.dict(os.environ, env), _hub_settings():
            yield
    finally:
        os.umask(mask)
        os.chdir(folder)
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _hub_settings() -> Iterator[None]:
    """huggingface_hub reads its variables when it is imported, and keeps one client."""
    from huggingface_hub import close_session, constants

    before = dict(vars(constants))
    importlib.reload(constants)
    close_session()
    try:
        yield
    finally:
        close_session()
        vars(constants).update(before)


@contextlib.contextmanager
def _streams(files: Sequence[IO[bytes]]) -> Iterator[None]:
    """Puts files in the place of the three streams, those of native code and children included."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    kept = [os.dup(n) for n in range(3)]
    outer, streams = sys.stderr, []
    try:
        for n, file in enumerate(files):
            os.dup2(file.fileno(), n)
        for n in range(3):
            raw = io.FileIO(n, "r" if n == 0 else "w", closefd=False)
            buffer = io.BufferedReader(raw) if n == 0 else io.BufferedWriter(raw)
            streams.append(io.TextIOWrapper(buffer, "utf-8", line_buffering=n == 2))
        with (
            mock.patch.object(sys, "stdin", streams[0]),
            mock.patch.object(sys, "stdout", streams[1]),
            mock.patch.object(sys, "stderr", streams[2]),
        ):
            _lead_logs(outer, streams[2])
            yield
    finally:
        if streams[2:]:
            _lead_logs(streams[2], outer)
        for stream in streams:
            stream.close()  # flushes; the descriptors are not theirs
        for n, fd in enumerate(kept):
            os.dup2(fd, n)
            os.close(fd)


def _lead_logs(source: TextIO, target: TextIO) -> None:
    """Handlers keep the stream that was stderr when their library was imported."""
    for reference in logging._handlerList:
        handler = reference()
        if isinstance(handler, logging.StreamHandler) and handler.stream is source:
            handler.setStream(target)


def _text(file: IO[bytes]) -> str:
    """All that was written, without moving the place where a child of the command writes."""
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode()


def until(true: Callable[[], object], child: subprocess.Popen, seconds: float = 60) -> None:
    """Wait for something that the running command brings about."""
    patience = time.monotonic() + seconds
    while not true():
        assert child.poll() is None, f"it ended with {child.returncode} before that"
        assert time.monotonic() < patience, "it never came"
        time.sleep(0.005)


def interrupted_at_rows(
    rows: Path, *args: Argument, number: int = signal.SIGINT
) -> tuple[int, str]:
    """Ctrl-C, or another signal, for a command as soon as it has written rows: its exit code, and
    what it said."""
    child = subprocess.Popen(
        [*COMMAND, *map(str, args)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        until(lambda: size_of(rows), child)
        child.send_signal(number)
        _, said = child.communicate(timeout=60)
    finally:
        child.kill()
        child.communicate()
    assert b"Traceback" not in said
    return child.returncode, said.decode()


def killed_until_done(rows: Path, most: int, *args: Argument) -> int:
    """Run a command to its end, and kill it each time that its rows have grown by some bytes, by
    `most` of them at most. Returns how often that was."""
    random = Random(0)
    for kills in range(60):
        enough = size_of(rows) + random.randint(1, most)
        with subprocess.Popen(
            [*COMMAND, *map(str, args)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as child:
            while child.poll() is None and size_of(rows) < enough:
                time.sleep(0.002)
            time.sleep(random.uniform(0, 0.02))  # anywhere between two rows
            child.kill()
        if child.returncode == 0:
            return kills
        assert child.returncode == -signal.SIGKILL
    raise AssertionError("it never came to its end")


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
