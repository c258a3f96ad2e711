"""`urial-local serve` as an operator meets it."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys

import httpx2 as httpx
import pytest

pytest.importorskip("starlette")

from tests.command import COMMAND, fails, urial
from tests.serving import SOUP
from urial_local.server.run import listen


def test_the_help_has_examples():
    said = urial("serve", "--help").stdout
    assert "urial-local serve -m base.gguf --aligned chat.gguf" in said
    assert "--api-key-file" in said
    assert "serve" in urial("--help").stdout


def test_what_cannot_be_served_is_told_before_weights_are_loaded(tmp_path):
    assert "key is needed" in fails(2, "serve", "--host", "0.0.0.0")
    assert "does not hold a key" in fails(2, "serve", "--api-key-file", _file(tmp_path, ""))
    assert "must be exact" in fails(2, "serve", "--allow-origin", "*")
    assert "no prompt" in fails(1, "serve", "-p", "nothing-such")
    said = fails(1, "serve", "-m", "demo", "--aligned", tmp_path / "none.gguf")
    assert "There is no model file" in said
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert "cannot listen" in fails(2, "serve", "-m", "demo", "--port", port)


def _file(folder, text: str):
    path = folder / "key"
    path.write_text(text)
    return path


def test_without_its_packages_it_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "urial_local.server.run")
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert "pip install 'urial-local[serve]'" in fails(2, "serve", "-m", "demo")


def test_small_replies_are_not_held_back_for_more():
    """asyncio turns the delay off for sockets that are named as TCP, and for no others."""
    listening = listen("127.0.0.1", 0)
    assert listening.proto == socket.IPPROTO_TCP
    listening.close()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_it_is_told_to_end(number):
    child = subprocess.Popen(
        [*COMMAND, "serve", "-m", "demo", "--port", "0", "-t", "1", "--no-disk-cache"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        said = ""
        while "Ready" not in said:
            line = child.stderr.readline()
            assert line, said
            said += line
        (url,) = re.findall(r"Ready: (http://127\.0\.0\.1:\d+)", said)
        body = {"messages": SOUP, "stream": True}
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60) as reply:
            lines = reply.iter_lines()
            next(line for line in lines if line.startswith("data: "))
            child.send_signal(number)
            rest = list(lines)
        assert rest[-2] == "data: [DONE]" or "data: [DONE]" in rest, "the answer could end"
        out, err = child.communicate(timeout=60)
    finally:
        child.kill()
        child.wait()
    assert child.returncode == 0, err
    assert out == ""
    assert "Traceback" not in said + err
    assert "soup" not in said + err
