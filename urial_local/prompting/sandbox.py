"""Jinja2 for templates that we wrote, in this process, and for templates of strangers, in a child.

A GGUF's chat template and a user's frame are programs. Jinja2's sandbox keeps them from executing
code but not from filling memory or looping for ever, so they run in a child process with a limit
on memory, on output and on time, and a child that misbehaves is ended.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import selectors
import subprocess
import sys
import threading
import time
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined
from jinja2.environment import Template
from jinja2.sandbox import ImmutableSandboxedEnvironment

from urial_local.base.errors import PromptError

TIME_LIMIT = 2.0  # seconds for one rendering
START_LIMIT = 20.0  # seconds for the child to start on a busy machine
MAX_REPLY = 16 << 20  # bytes of JSON; a text of a million characters may need six bytes each


@cache
def _compiled(source: str) -> Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined
    )
    return environment.from_string(source)


def render_block(source: str, block: str, context: dict[str, Any]) -> str:
    """One block of a template of our own."""
    template = _compiled(source)
    return "".join(template.blocks[block](template.new_context(context)))


class _Child:
    """The process that renders for us: one JSON line in, one JSON line out."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("sandbox_child.py")
        self.process = subprocess.Popen(
            [sys.executable, "-I", str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for us, not for the child
        )
        try:
            self._read(START_LIMIT)  # its first line says that it is ready
        except BaseException:
            self.end()
            raise

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()
        return self._read(TIME_LIMIT)

    def _read(self, seconds: float) -> dict[str, Any]:
        assert self.process.stdout is not None
        deadline = time.monotonic() + seconds
        fd = self.process.stdout.fileno()
        reply = bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(fd, selectors.EVENT_READ)
            while not reply.endswith(b"\n"):
                left = deadline - time.monotonic()
                if left <= 0 or not selector.select(left):
                    raise TimeoutError
                chunk = os.read(fd, 1 << 16)
                if not chunk or len(reply) > MAX_REPLY:
                    raise EOFError
                reply += chunk
        result: dict[str, Any] = json.loads(reply)
        return result

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


_lock = threading.Lock()
_child: _Child | None = None


def render_untrusted(source: str, context: dict[str, Any], block: str = "") -> str:
    """A stranger's template, or one block of it, rendered in the child.

    Raises PromptError when it fails, takes longer than two seconds, needs too much memory or
    writes too much.
    """
    global _child
    with _lock:
        if _child is None:
            _start()
        assert _child is not None
        try:
            reply = _child.ask({"source": source, "context": context, "block": block})
        except TimeoutError:
            _forget()
            raise PromptError(
                f"The template did not finish within {TIME_LIMIT:.0f} seconds and was stopped.",
                "Choose another frame or prompt; `prompt=urial` uses a shipped one.",
            ) from None
        except (EOFError, OSError, ValueError):
            _forget()
            raise PromptError(
                "The template needed too much memory or ended the process that renders it.",
                "Choose another frame or prompt; `prompt=urial` uses a shipped one.",
            ) from None
        except BaseException:
            _forget()  # interrupted: a reply that comes later would be taken for the next one
            raise
    if "error" in reply:
        raise PromptError(f"The template failed: {reply['error']}")
    return str(reply["text"])


def _start() -> None:
    global _child
    try:
        _child = _Child()
    except (TimeoutError, EOFError, OSError, ValueError):
        raise PromptError(
            "The process that renders untrusted templates did not start.",
            "It runs this Python in isolated mode; is Jinja2 in its site-packages?",
        ) from None
    atexit.register(_forget)


def _forget() -> None:
    global _child
    if _child is not None:
        _child.end()
        _child = None
