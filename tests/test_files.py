"""Files of the user's and of others: what is written takes a file's place whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from urial_local.base import files, paths
from urial_local.base.errors import UrialError, UsageError
from urial_local.base.files import open_regular, private_append, private_folder, replacing
from urial_local.base.paths import cache_dir
from urial_local.tasks.models.cached import alone


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def write(path: Path, text: str = "new", **how) -> None:
    with replacing(path, **how) as file:
        file.write(text)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "f"
    path.write_text("old")
    with pytest.raises(TypeError), replacing(path) as file:
        print("half", 1, file=file, end=2)  # type: ignore[call-overload]
    assert [p.name for p in tmp_path.iterdir()] == ["f"]
    assert path.read_text() == "old"
    write(path)
    assert path.read_text() == "new"
    write(tmp_path / ("x" * 255))  # a name as long as names may be


def test_permissions_are_kept(tmp_path):
    before = os.umask(0o027)
    try:
        write(tmp_path / "new")
        write(tmp_path / "secret", private=True)
        (tmp_path / "old").write_text("x")
        (tmp_path / "old").chmod(0o604)
        write(tmp_path / "old")
    finally:
        assert os.umask(before) == 0o027, "as it was"
    assert [mode(tmp_path / n) for n in ("new", "secret", "old")] == [0o640, 0o600, 0o604]
    write(tmp_path / "old", private=True)
    assert mode(tmp_path / "old") == 0o600


def test_links_are_replaced_and_other_things_refused(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    link, pipe = tmp_path / "link", tmp_path / "pipe"
    link.symlink_to(victim)
    write(link)
    assert (victim.read_text(), link.read_text(), link.is_symlink()) == ("mine", "new", False)
    os.mkfifo(pipe)
    (tmp_path / "device").symlink_to("/dev/null")
    for path in (pipe, tmp_path / "device", tmp_path):
        with pytest.raises(UrialError, match="not a regular file"):
            write(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["device", "link", "pipe", "victim"]


def test_only_ordinary_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path, tmp_path / "none"):
        with pytest.raises(OSError, match=r"regular|directory"):
            open_regular(path)
    (tmp_path / "f").write_bytes(b"x")
    with open_regular(tmp_path / "f") as file:
        assert file.read() == b"x"


def test_private_folders_and_files(tmp_path):
    assert private_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert [mode(tmp_path / n) for n in ("a", "a/b")] == [0o700, 0o700]
    (tmp_path / "theirs").mkdir(mode=0o755)
    (tmp_path / "theirs").chmod(0o755)
    private_folder(tmp_path / "theirs")
    assert mode(tmp_path / "theirs") == 0o755, "others may use it"
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotADirectoryError):
        private_folder(tmp_path / "file")
    with private_append(tmp_path / "log") as file:
        file.write(b"line\n")
    assert mode(tmp_path / "log") == 0o600


@pytest.mark.parametrize(
    ("variable", "folder"),
    [
        ("URIAL_CONFIG_DIR", paths.config_dir),
        ("URIAL_CACHE_DIR", paths.cache_dir),
        ("URIAL_STATE_DIR", paths.state_dir),
    ],
)
def test_a_tilde_in_a_variable_is_the_users_home(monkeypatch, tmp_path, variable, folder):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(variable, "~/x y")
    assert folder() == tmp_path / "x y"
    monkeypatch.setenv(variable, "rel/~")
    assert folder() == Path("rel/~")
    monkeypatch.setenv(variable, "~no-such-user-here/x")
    with pytest.raises(UsageError, match=variable):
        folder()
    monkeypatch.delenv(variable)
    assert folder().is_absolute()


def test_the_umask_is_never_open_to_all(monkeypatch):
    seen = []
    real = os.umask
    monkeypatch.setattr(files.os, "umask", lambda mask: seen.append(mask) or real(mask))
    files._umask()
    assert seen[0] == 0o077


def test_locks_of_pulls_are_in_a_private_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("URIAL_CACHE_DIR", str(tmp_path / "cache"))
    with alone("someone/model", "file"):
        assert [p.stat().st_mode & 0o777 for p in (cache_dir(), cache_dir() / "pulling")] == [
            0o700,
            0o700,
        ]
