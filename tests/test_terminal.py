"""`chat` and `ask` on a pseudo-terminal: Ctrl-C in prefill and in decode, Ctrl-D, what is shown."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path

import pytest

from tests.command import COMMAND, urial

TIMEOUT = 60.0  # seconds; a limit for a broken program, no measurement
ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\x1b\][^\x07]*\x07|\r")


class Terminal:
    """A program on a pseudo-terminal, and what it wrote so far."""

    def __init__(self, *args: str) -> None:
        leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))
        self.process = subprocess.Popen(
            [*COMMAND, *args],
            stdin=follower,
            stdout=follower,
            stderr=follower,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm"},
        )
        os.close(follower)
        self.leader = leader
        self.seen = b""

    def read(self, seconds: float = 0.2) -> bool:
        if not select.select([self.leader], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self.leader, 65536)
        except OSError:  # Linux says EIO where the program has ended
            return False
        self.seen += data
        for _ in range(data.count(b"\x1b[6n")):  # "where is the cursor?", as terminals answer it
            self.type("\x1b[1;1R")
        return bool(data)

    @property
    def text(self) -> str:
        return ESCAPES.sub(b"", self.seen).decode("utf-8", "replace")

    def wait_for(self, pattern: str, start: int = 0) -> None:
        deadline = time.monotonic() + TIMEOUT
        while not re.search(pattern, self.text[start:]):
            if time.monotonic() > deadline or not self.read():
                raise AssertionError(f"{pattern!r} did not appear in:\n{self.text}")

    def type(self, text: str) -> None:
        os.write(self.leader, text.encode())

    def interrupt(self) -> None:
        os.killpg(self.process.pid, signal.SIGINT)

    def kill(self) -> None:
        """Whatever the test did, nothing is left running."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
            os.close(self.leader)

    def end(self) -> int:
        deadline = time.monotonic() + TIMEOUT
        while self.process.poll() is None and time.monotonic() < deadline:
            self.read()
        while self.read(0) and select.select([self.leader], [], [], 0)[0]:
            pass
        os.close(self.leader)
        return self.process.wait(1)


@pytest.fixture
def terminal():
    started: list[Terminal] = []

    def start(*args: str) -> Terminal:
        started.append(Terminal(*args))
        return started[-1]

    yield start
    for t in started:
        t.kill()


@pytest.fixture
def long_prompt(tmp_path: Path) -> Path:
    """A prompt that even the tiny model reads for seconds."""
    path = tmp_path / "long.txt"
    path.write_text("the rain, the heat, then the sea. " * 2000)
    return path


def plain_answer(model: Path, question: str) -> str:
    args = ("chat", "-m", model, "-p", "zero-shot", "-n", "20", "-t", "1")
    return urial(*args, stdin=question.encode() + b"\n").stdout.strip("\n")


def test_ctrl_c_in_decode_leaves_a_usable_session(terminal, tiny_endless):
    t = Terminal(
        "chat", "-m", str(tiny_endless), "-p", "zero-shot", "-c", "16384", "-n", "-1", "-t", "1"
    )
    t.wait_for(">")
    t.type("Hi\r")
    at = len(t.text)
    t.wait_for(r"Hi\n.{20,}", at)  # the answer has begun
    t.interrupt()
    t.wait_for("Stopped; this turn is not kept", at)
    at = len(t.text)
    t.type("/set max-tokens 20\r")
    t.wait_for(">", at)
    at = len(t.text)
    t.type("then the sea?\r")
    # The interrupted turn left nothing behind: the answer is a fresh session's.
    expected = plain_answer(tiny_endless, "then the sea?")
    first = expected.split("\n")[0]
    assert len(first) > 5
    t.wait_for(r"sea\?\n(?s:.*)" + re.escape(first), at)
    t.wait_for("context [1-9]", at)  # the prompt is back
    t.type("\x04")
    assert t.end() == 0


def test_ctrl_c_in_prefill_leaves_a_usable_session(terminal, tiny_endless, long_prompt):
    t = terminal(
        "chat",
        "-m",
        str(tiny_endless),
        "-p",
        str(long_prompt),
        "-c",
        "65536",
        "-n",
        "8",
        "-t",
        "1",
        "--no-disk-cache",
    )
    t.wait_for(">")
    at = len(t.text)
    t.type("Hi\r")
    t.wait_for("Reading the prompt", at)
    t.interrupt()
    t.wait_for("Stopped; this turn is not kept", at)
    at = len(t.text)
    t.type("/prompt zero-shot\r")
    t.wait_for("Prompt 'zero-shot'", at)
    at = len(t.text)
    t.type("then the sea?\r")
    t.wait_for("context [1-9]", at)
    t.type("/bye\r")
    assert t.end() == 0


@pytest.mark.parametrize("when", [pytest.param("prefill", marks=pytest.mark.slow), "decode"])
def test_ctrl_c_ends_ask_with_130(terminal, tiny_endless, long_prompt, when):
    prompt = str(long_prompt) if when == "prefill" else "zero-shot"
    t = terminal(
        "ask",
        "-m",
        str(tiny_endless),
        "-p",
        prompt,
        "-c",
        "65536",
        "-n",
        "-1",
        "-t",
        "1",
        "--no-disk-cache",
        "Hi",
    )
    t.wait_for("Reading the prompt" if when == "prefill" else r"longer ones get worse\.\s+.{40,}")
    t.interrupt()
    assert t.end() == 130
    assert "Stopped." in t.text
    assert "Traceback" not in t.text


def test_ctrl_c_while_typing_and_ctrl_d(terminal, tiny_endless):
    t = terminal("chat", "-m", str(tiny_endless), "-p", "zero-shot", "-n", "4", "-t", "1")
    t.wait_for(">")
    t.type("half a line\x03")
    t.type("/help\r")
    t.wait_for("/save FILE")
    t.type('"""two\r')
    t.wait_for(r"\. ")
    t.type('lines"""\r')
    t.wait_for("context [1-9]")
    t.type("\x04")
    assert t.end() == 0
