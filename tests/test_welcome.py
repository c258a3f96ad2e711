"""The menu that a bare `urial-local` shows on a terminal."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import click
import pytest

from urial_local.base.registry import registry
from urial_local.cli.main import COMMANDS
from urial_local.cli.welcome import FIRST_MODEL, offers, welcome
from urial_local.tasks.models import catalog


def chosen(monkeypatch, key):
    monkeypatch.setattr(click, "prompt", lambda *_, **__: key)
    return list(welcome())


def rows(monkeypatch, here):
    """The registry's models, those of `here` on this machine with so many bytes."""
    found = [
        replace(row, path="/there", size=here[row.name])
        if row.name in here
        else replace(row, path=None)
        for row in catalog.catalog(registry())
    ]
    monkeypatch.setattr(catalog, "catalog", lambda known: found)


def test_each_offer_is_a_command_that_exists(monkeypatch, capsys):
    rows(monkeypatch, {})
    first, *_ = commands = [chosen(monkeypatch, key) for key in "123"]
    assert first == [["demo"]]
    assert all(command[0] in COMMANDS for several in commands for command in several)
    assert chosen(monkeypatch, "q") == []
    assert "$ urial-local demo" in capsys.readouterr().out


def test_a_real_model_is_fetched_first_and_one_that_is_here_is_not(monkeypatch):
    rows(monkeypatch, {})
    assert chosen(monkeypatch, "2") == [
        ["models", "pull", FIRST_MODEL],
        ["chat", "-m", FIRST_MODEL],
    ]
    assert "MB to download" in offers()[1].text
    rows(monkeypatch, {"smollm2-135m": 10, FIRST_MODEL: 20, "mistral-7b-instruct": 30})
    assert chosen(monkeypatch, "2") == [["chat", "-m", FIRST_MODEL]], "the largest base model"


@pytest.mark.slow
def test_a_pipe_gets_the_help_text():
    done = subprocess.run(
        [sys.executable, "-m", "urial_local"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert "Usage: urial-local" in done.stdout + done.stderr
    assert "q to leave" not in done.stdout
