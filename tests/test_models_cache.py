"""What `models` does with files that are in the hub's cache: verify, rm, list, path."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

from tests.command import COMMAND, fails, urial
from tests.hub_server import NAMES, REPO, own_registry
from tests.split_gguf import split
from tests.tiny_gguf import write_llama

Q8, Q4 = f"hf:{REPO}:{NAMES[0]}", f"hf:{REPO}:Q4_K_M"


def pulled(models, name: str) -> Path:
    done = models("pull", name)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.resolve().write_bytes(data)


def on_a_terminal(*args: str) -> bytes:
    main, side = pty.openpty()
    command = [*COMMAND, *args]
    process = subprocess.Popen(command, stdin=side, stdout=side, stderr=side)
    os.close(side)
    said = b""
    try:
        while piece := os.read(main, 9999):
            said += piece
    except OSError:  # how Linux says that the other side is closed
        pass
    os.close(main)
    process.wait(60)
    return said


# --- rm ------------------------------------------------------------------------------------------


def test_rm_says_what_it_cannot_do(models, tiny_llama):
    assert "cannot be removed" in fails(2, "models", "rm", "demo", "--yes")
    assert "is a file of yours" in fails(2, "models", "rm", str(tiny_llama), "--yes")
    assert "no model file" in fails(1, "models", "rm", "nothere.gguf", "--yes")
    assert "nothing to remove" in fails(1, "models", "rm", "mistral-7b", "--yes")
    assert "no model 'mistral-8b'" in fails(1, "models", "rm", "mistral-8b", "--yes")
    pulled(models, Q4)
    assert "not a terminal" in fails(2, "models", "rm", Q4)


def test_rm_keeps_what_another_file_needs(hub, models):
    """NAMES[0] and NAMES[2] are the same bytes, which the cache holds once."""
    first, other = pulled(models, Q8), pulled(models, f"hf:{REPO}:{NAMES[2]}")
    assert first.resolve() == other.resolve()
    done = models("rm", Q8, "--yes")
    assert "Freed 0 bytes" in done.stderr
    assert "another file" in done.stderr
    assert models("path", f"hf:{REPO}:{NAMES[2]}").stdout.strip() == str(other)
    assert "not on this machine" in fails(1, "models", "path", Q8)
    blob = other.resolve()
    assert "Freed 0 bytes" not in models("rm", f"hf:{REPO}:{NAMES[2]}", "--yes").stderr
    assert not blob.exists()


def test_rm_takes_all_snapshots(hub, models):
    old = pulled(models, Q8)
    hub.repos[REPO][NAMES[0]] += b"\0" * 32
    said = fails(1, "models", "pull", Q8)
    assert "than an earlier pull says" in said
    hub.commit = "d" * 40
    (Path(os.environ["URIAL_STATE_DIR"]) / "pulled.json").unlink()
    new = pulled(models, Q8)
    assert old.exists()
    assert old.parent != new.parent
    assert models("path", Q8).stdout.strip() == str(new)
    assert models("rm", Q8, "--yes").returncode == 0
    assert "not on this machine" in fails(1, "models", "path", Q8)
    assert not list((old.parents[2] / "blobs").iterdir())


def test_rm_unlinks_a_shared_store_and_leaves_it(models, tmp_path):
    path = pulled(models, Q8)
    blob, store = path.resolve(), tmp_path / "store"
    blob.rename(store)
    blob.symlink_to(store)
    assert models("rm", Q8, "--yes").returncode == 0
    assert store.exists()
    assert not os.path.lexists(blob)
    assert not os.path.lexists(path)


def test_a_commit_that_has_other_bytes_now(hub, models):
    old = pulled(models, Q8)
    hub.repos[REPO][NAMES[0]] += b"\0" * 32
    (Path(os.environ["URIAL_STATE_DIR"]) / "pulled.json").unlink()
    assert pulled(models, Q8) == old
    assert old.read_bytes() == hub.repos[REPO][NAMES[0]]


# --- verify --------------------------------------------------------------------------------------


def test_verify(models, tiny_llama, tmp_path):
    path = pulled(models, Q4)
    damage(path)
    done = models("verify", Q4, "--json")
    assert done.returncode == 1
    assert "is not what the record of its pull says" in done.stderr
    checks = json.loads(done.stdout)
    assert [(c["name"], c["failed"]) for c in checks] == [("header", False), ("sha256", True)]
    assert "nobody vouches" in models("verify", tiny_llama).stdout
    assert "part of urial-local" in models("verify", "demo").stdout
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(tiny_llama.read_bytes()[:-100])
    done = models("verify", cut)
    assert done.returncode == 1
    assert "should end at byte" in done.stderr
    assert done.stdout == ""  # no checksum was taken of what is not a model
    assert not cut.with_suffix(".lock").exists()
    assert json.loads(models("verify", tmp_path / "none.gguf", "--json").stdout)[0]["failed"]


def test_a_registry_that_is_wrong_is_pointed_at(hub, models):
    pulled(models, Q8)
    own_registry(hub, "0" * 64)
    said = fails_with_output(models("verify", "tiny"))
    assert "the registry's line tiny says another sha256" in said
    assert "would not help" in said
    assert hub.sha256(REPO, NAMES[0]) in said


def fails_with_output(done) -> str:
    assert done.returncode == 1
    return done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("text", ['{"x": 1}', "[]", '{"some/one/a": [], "a/b/c": {}}', "null"])
def test_records_of_other_shapes_are_none(models, text):
    path = pulled(models, Q8)
    record = Path(os.environ["URIAL_STATE_DIR"]) / "pulled.json"
    record.write_text(text)
    assert "nobody vouches" in models("verify", Q8).stdout
    assert pulled(models, Q8) == path
    assert list(json.loads(record.read_text())) == [f"{REPO}/{NAMES[0]}"]


# --- models in parts -----------------------------------------------------------------------------


@pytest.fixture
def parts(hub, tmp_path):
    """A model in two parts at the hub, and their names."""
    first = split(write_llama(tmp_path / "m.gguf"), tmp_path / "parts", name="big-Q8_0")
    found = {path.name: path.read_bytes() for path in sorted(first.parent.iterdir())}
    hub.repos["someone/big"] = found
    return list(found)


def test_a_model_in_parts(hub, models, parts):
    done = models("pull", "hf:someone/big:Q8_0")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("fetched") == 2
    first = Path(done.stdout.strip())
    assert first.name == parts[0]
    (row,) = [r for r in json.loads(models("list", "--json").stdout) if "big" in r["name"]]
    assert row["name"] == f"hf:someone/big:{parts[0]}"
    assert row["size"] == sum(map(len, hub.repos["someone/big"].values()))
    assert models("verify", "hf:someone/big").stdout.count("record of its pull") == 2
    second = first.with_name(parts[1])
    damage(second)
    done = models("verify", "hf:someone/big")
    assert done.returncode == 1
    assert f"{second} is not what" in done.stderr
    second.resolve().unlink()
    assert f"{parts[1]} for one" in fails(1, "models", "path", "hf:someone/big")
    assert "big" not in models("list", "--local").stdout
    assert models("rm", "hf:someone/big", "--yes").returncode == 0
    assert not first.exists()


def test_parts_that_do_not_fit_each_other(hub, models, parts):
    hub.repos["someone/big"][parts[1]] = hub.repos["someone/big"][parts[0]]
    assert "not the part that its name says" in fails(1, "models", "pull", "hf:someone/big:Q8_0")


# --- what a terminal is shown --------------------------------------------------------------------


@pytest.mark.slow
def test_names_do_not_drive_the_terminal(models, tmp_path, tiny_llama):
    evil = "\x1b[31mx\x1b]0;own\x07\n.gguf"
    path = pulled(models, Q8)
    path.with_name(evil).symlink_to(path.resolve())
    mine = tmp_path / evil
    mine.write_bytes(tiny_llama.read_bytes())
    commands = [[c, str(mine)] for c in ("path", "show", "verify", "rm")]
    for args in (["list"], ["list", "--json"], ["show", str(mine), "--json"], *commands):
        said = on_a_terminal("models", *args)
        for ours in (b"\x1b[2m", b"\x1b[0m"):
            said = said.replace(ours, b"")
        assert b"own" in said or "verify" in args
        assert b"\x1b" not in said
        assert b"\x07" not in said
    assert urial("models", "path", mine).stdout == f"{mine}\n"  # a program gets it as it is
