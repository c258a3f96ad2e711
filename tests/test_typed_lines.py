"""The history of typed lines: private, and never a reason to stop."""

from __future__ import annotations

import errno
import os

import pytest

from urial_local.cli.plumbing.chat_history import TypedLines


def loaded(path) -> list[str]:
    return list(TypedLines(path).load_history_strings())


def test_lines_are_kept_and_private(tmp_path):
    path = tmp_path / "new" / "state" / "chat_history"
    history = TypedLines(path)
    for text in ("one", "two\nlines", "", "ünï\ud800"):
        history.store_string(text)
    assert loaded(path) == ["ünï\\ud800", "", "two\nlines", "one"]
    assert history.trouble() == ""
    assert path.stat().st_mode & 0o777 == 0o600
    assert {p.stat().st_mode & 0o777 for p in (path.parent, path.parent.parent)} == {0o700}
    path.chmod(0o644)  # as an earlier release left it
    TypedLines(path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_prompt_toolkits_own_files_are_read(tmp_path):
    path = tmp_path / "h"
    path.write_bytes(b"\n# 2026-01-01 10:00:00.000000\n+one\n\n# x\n+two\n+lines\n\xff\n+\xff\n")
    assert loaded(path) == ["\ufffd", "two\nlines", "one"]


def make_folder(path):
    path.mkdir()


def make_link(path):
    path.symlink_to(path.with_name("victim"))


def make_parent_a_file(path):
    path.parent.rmdir()
    path.parent.write_text("x")


@pytest.mark.parametrize("make", [make_folder, make_link, os.mkfifo, make_parent_a_file])
def test_what_cannot_be_used_is_told_once(tmp_path, make):
    path = tmp_path / "state" / "chat_history"
    path.parent.mkdir()
    make(path)
    history = TypedLines(path)
    assert str(path) in history.trouble()
    assert history.trouble() == ""
    history.append_string("typed")
    assert list(history.load_history_strings()) == []
    assert history.get_strings() == ["typed"], "in memory they are"
    assert history.trouble() == ""
    assert not path.with_name("victim").exists()


def test_a_disk_that_fills_up_is_told_once(tmp_path, monkeypatch):
    import urial_local.cli.plumbing.chat_history as module

    history = TypedLines(tmp_path / "h")

    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(module, "private_append", full)
    history.append_string("one")
    assert "No space left" in history.trouble()
    history.append_string("two")
    assert history.trouble() == ""
    assert history.get_strings() == ["one", "two"]
