"""The installer's progress, from what pip prints."""

from __future__ import annotations

import pytest

from tools.install import Progress

LINES = [
    "Obtaining file:///somewhere/urial-local\n",
    "Collecting llama-cpp-python==0.3.36 (from urial-local==0.1.0)\n",
    "  Using cached something.tar.gz (1 MB)\n",
    "  Building wheel for llama-cpp-python (pyproject.toml): started\n",
    "  Running command Building wheel for llama-cpp-python (pyproject.toml)\n",
    "  [1/4] Building CXX object a.cpp.o\n",
    "  [3/4] Building CXX object b.cpp.o\n",
    "Installing collected packages: numpy, llama-cpp-python\n",
]


@pytest.mark.parametrize("terminal", [True, False])
def test_compiling_says_how_much_is_done(capsys, monkeypatch, terminal):
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal, raising=False)
    progress = Progress()
    seen = []
    for line in LINES:
        progress.read(line)
        seen.append((progress.doing.split(" (")[0], progress.share))
    assert seen == [
        ("Preparing", ""),
        ("Fetching llama-cpp-python", ""),
        ("Fetching llama-cpp-python", ""),
        ("Compiling llama-cpp-python", ""),
        ("Compiling llama-cpp-python", ""),
        ("Compiling llama-cpp-python", " 25 %"),
        ("Compiling llama-cpp-python", " 75 %"),
        ("Installing packages", ""),
    ]
    told = capsys.readouterr().out
    assert "Compiling llama-cpp-python (5 to 15 minutes" in told
    assert ("75 %" in told) == terminal, "a pipe gets a line now and then"
