"""How tests run commands: in this process as in one of its own, and without a trace."""

from __future__ import annotations

import logging
import os
import signal
import sys

import pytest

from tests.command import process, urial


@pytest.mark.parametrize(
    ("args", "stdin"),
    [
        (("prompts", "show", "urial-demo"), b""),
        (("prompts", "render", "urial-demo", "--query", "Wo ist 狐狸?"), b""),
        (("ask", "-m", "none.gguf", "hi"), b""),
        (("ask", "-"), b"hi\xff"),
        (("ask", "--nope"), b""),
        ((), b""),
        (("--version",), b""),
    ],
)
def test_what_is_said_is_the_same(args, stdin):
    assert urial(*args, stdin=stdin) == process(*args, stdin=stdin)


def state() -> dict[str, object]:
    return {
        "environment": dict(os.environ),
        "arguments": list(sys.argv),
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "signals": [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)],
        "folder": os.getcwd(),
        "descriptors": [os.fstat(n).st_ino for n in range(3)],
        "logging": [h.stream for h in logging.getLogger("huggingface_hub").handlers],
    }


@pytest.mark.parametrize("args", [("cache", "path"), ("models", "pull", "hf:no/one"), ("--nope",)])
def test_nothing_stays_changed(args, monkeypatch):
    monkeypatch.delenv("TERM", raising=False)  # which the command sets
    urial("cache", "path")
    before = state()
    urial(*args, HF_HUB_OFFLINE="1", URIAL_ASK_TEMP="abc")
    assert state() == before


def test_what_libraries_read_at_the_start_needs_a_process():
    with pytest.raises(AssertionError, match="OMP_WAIT_POLICY"):
        urial("cache", "path", OMP_WAIT_POLICY="active")
    assert process("cache", "path", OMP_WAIT_POLICY="active").returncode == 0


def test_what_children_and_native_code_write_is_caught(monkeypatch):
    from urial_local.cli import cache

    def written() -> None:
        os.system("echo out; echo err >&2")

    monkeypatch.setattr(cache.command.commands["path"], "callback", written)
    done = urial("cache", "path")
    assert (done.stdout, done.stderr) == ("out\n", "err\n")
