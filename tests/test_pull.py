"""`models pull`, `verify`, `rm`, `path` against a local server that plays the hub's part."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import COMMAND, fails, urial
from tests.hub_server import NAMES, REPO, own_registry


def test_pull_then_everything_works_offline(hub, models):
    own_registry(hub)
    done = models("pull", "tiny")
    assert done.returncode == 0, done.stderr
    path = Path(done.stdout.strip())
    assert path.read_bytes() == hub.repos[REPO][NAMES[0]]
    assert "fetched" in done.stderr
    assert hub.sha256(REPO, NAMES[0]) in done.stderr
    offline = {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}
    assert models("path", "tiny", **offline).stdout.strip() == str(path)
    assert json.loads(models("list", "--local", "--json", **offline).stdout)[-1]["name"] == "tiny"
    done = urial("ask", "-m", "tiny", "-p", "raw", "-n", "4", "hello", **offline)
    assert done.returncode == 0, done.stderr
    done = models("pull", "tiny", **offline)
    assert (done.returncode, done.stdout.strip()) == (0, str(path))
    assert "on this machine already" in done.stderr
    assert "could not be checked" not in done.stderr  # the pull recorded what it is
    done = models("verify", "tiny", **offline)
    assert done.returncode == 0, done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        ["ok", "header"],
        ["ok", "sha256"],
        ["ok", "try"],
    ]
    assert "record of its pull" in done.stdout


def test_names_of_the_hub(hub, models):
    assert models("pull", f"hf:{REPO}:q4_k_m").returncode == 0
    done = urial("models", "path", f"hf:{REPO}:Q4_K_M")
    assert done.stdout.strip().endswith(NAMES[1])
    assert urial("models", "path", f"hf:{REPO}").stdout == done.stdout
    assert models("pull", f"hf:{REPO}:{NAMES[2]}").returncode == 0
    assert "could be any of" in fails(1, "models", "path", f"hf:{REPO}")
    said = fails(2, "models", "pull", f"hf:{REPO}:Q8_0")
    assert "2 models" in said
    assert f"hf:{REPO}:{NAMES[2]}" in said
    rows = {r["name"] for r in json.loads(models("list", "--local", "--json").stdout)}
    assert f"hf:{REPO}:{NAMES[2]}" in rows


def test_dry_run_fetches_nothing(hub, models, tmp_path):
    done = models("pull", f"hf:{REPO}:Q4_K_M", "--dry-run")
    assert hub.sha256(REPO, NAMES[1]) in done.stdout
    assert not any(line.startswith("GET someone") for line in hub.asked)
    assert not list((tmp_path / "hf").rglob("*.gguf"))


def test_missing_names_say_what_is_near(hub, models):
    assert NAMES[0] in fails(1, "models", "pull", f"hf:{REPO}:tiny.Q8_1.gguf")
    said = fails(1, "models", "pull", f"hf:{REPO}:Q2_K")
    assert "no Q2_K file" in said
    assert NAMES[1] in said
    assert "no model someone/nothing" in fails(1, "models", "pull", "hf:someone/nothing")
    said = fails(1, "models", "pull", "hf:someone/gated-GGUF")
    assert "is gated" in said
    assert "hf auth login" in said
    assert "registry has no model 'mistral-8b'" in fails(2, "models", "pull", "mistral-8b")
    assert "Did you mean" in fails(1, "ask", "-m", "mistral-8b", "hello")
    assert "models pull mistral-7b" in fails(1, "ask", "-m", "mistral-7b", "hello")
    assert "names no repository" in fails(2, "models", "pull", "hf:../../etc/passwd")
    assert "neither a quantisation" in fails(2, "models", "pull", f"hf:{REPO}:../x")
    assert "not the name of a GGUF" in fails(2, "models", "pull", f"hf:{REPO}:../../x.gguf")


def test_no_network(hub, models):
    closed = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    said = fails(1, "models", "pull", f"hf:{REPO}:Q8_0", **closed)
    assert "could not be fetched" in said
    assert "network" in said
    said = fails(1, "models", "pull", f"hf:{REPO}:Q8_0", HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE" in said
    hub.broken = True
    assert "hub refused" in fails(1, "models", "pull", f"hf:{REPO}:Q4_K_M")


@pytest.mark.parametrize("fault", ["flips", "lies"])
def test_bytes_that_are_not_what_was_promised_are_removed(hub, models, tmp_path, fault):
    getattr(hub, fault).add(NAMES[0])
    said = fails(1, "models", "pull", f"hf:{REPO}:{NAMES[0]}")
    assert "is not what the hub says" in said
    assert "it was removed" in said
    assert not [p for p in (tmp_path / "hf").rglob("*") if p.is_file() and p.stat().st_size > 1000]
    getattr(hub, fault).clear()
    assert models("pull", f"hf:{REPO}:{NAMES[0]}").returncode == 0


def test_the_registry_is_held_against_the_hub(hub, models):
    own_registry(hub, "0" * 64)
    said = fails(1, "models", "pull", "tiny")
    assert "than the registry says" in said
    assert not any(line.startswith("GET someone") for line in hub.asked)
    own_registry(hub, hub.sha256(REPO, NAMES[0]))
    assert "the registry says" in models("pull", "tiny").stderr
    own_registry(hub)
    data = hub.repos[REPO][NAMES[0]]
    hub.repos[REPO][NAMES[0]] = data + b"\0" * 64
    said = fails(1, "models", "pull", "tiny")
    assert "than an earlier pull says" in said
    assert "models rm" in said
    assert urial("models", "rm", "tiny", "--yes").returncode == 0
    assert models("pull", "tiny").returncode == 0


@pytest.mark.slow
def test_pulls_at_the_same_time_leave_one_good_file(hub, models, tmp_path):
    command = [*COMMAND, "models", "pull", f"hf:{REPO}:Q4_K_M"]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(4)
    ]
    said = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0] * 4, said
    (path,) = {out.strip() for out, _ in said}
    found = hashlib.sha256(Path(path.decode()).read_bytes()).hexdigest()
    assert found == hub.sha256(REPO, NAMES[1])


def test_no_room(hub, models, monkeypatch):
    from urial_local.base.errors import ModelError
    from urial_local.tasks.models import pull as module

    usage = shutil.disk_usage("/")._replace(free=1 << 20)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage)
    for blob in (None, "a" * 64):
        wanted = module.Wanted(REPO, NAMES[0], "c" * 40, 5 << 30, blob, "nobody", blob)
        with pytest.raises(ModelError, match=r"needs 5\.4 GB more, and .* has 1\.0 MB free"):
            module.pull(wanted)


def test_a_damaged_record_is_said(hub, models, monkeypatch):
    import os

    folder = Path(os.environ["URIAL_STATE_DIR"])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pulled.json").write_text("{torn")
    assert "cannot be read" in fails(1, "models", "pull", f"hf:{REPO}:Q4_K_M")


def test_offline_a_model_that_is_here_is_checked_all_the_same(hub, models):
    hub.flips.add(NAMES[0])  # as if another program had fetched it, and checked nothing
    fetch = f"from huggingface_hub import hf_hub_download as d; d({REPO!r}, {NAMES[0]!r})"
    subprocess.run([sys.executable, "-c", fetch], check=True, capture_output=True)
    offline = {"HF_HUB_OFFLINE": "1"}
    done = models("pull", f"hf:{REPO}:{NAMES[0]}", **offline)
    assert done.returncode == 0
    assert "checksum could not be checked" in done.stderr
    own_registry(hub, hub.sha256(REPO, NAMES[0]))
    assert "is not what the registry says" in fails(1, "models", "pull", "tiny", **offline)
    hub.gated.add(REPO)  # an answer, not a silence: it is passed on
    assert "is gated" in fails(1, "models", "pull", "tiny")
    hub.gated.remove(REPO)
    hub.flips.clear()
    said = fails(1, "models", "pull", "tiny")
    assert "it was removed" in said
    assert models("pull", "tiny").returncode == 0
    assert "could not be checked" not in models("pull", "tiny", **offline).stderr


def test_a_file_without_a_checksum_is_recorded(hub, models, tmp_path):
    hub.plain.add(NAMES[0])
    done = models("pull", f"hf:{REPO}:{NAMES[0]}")
    assert "recorded now" in done.stderr
    assert done.returncode == 0, done.stderr
    own_registry(hub, "0" * 64)
    said = fails(1, "models", "pull", "tiny")
    assert "it was removed" in said
    assert not list((tmp_path / "hf").rglob("*.gguf"))


def test_names_that_are_none(hub, models):
    evil = "\x1b[31mevil\x07.Q5_K_M.gguf"
    hub.repos[REPO][evil] = hub.repos[REPO]["x-UD-Q4_K_XL.gguf"] = b"GGUF"
    said = fails(1, "models", "pull", f"hf:{REPO}:Q5_K_M")
    assert "has no Q5_K_M file" in said
    assert "evil" not in said
    assert "x-UD-Q4_K_XL" in models("pull", f"hf:{REPO}:UD-Q4_K_XL", "--dry-run").stdout
    folder = Path(os.environ["URIAL_STATE_DIR"])
    folder.write_text("no folder")
    assert "cannot be written" in fails(1, "models", "pull", f"hf:{REPO}:Q4_K_M")
    assert not any("resolve" in line for line in hub.asked)


def test_a_push_between_question_and_download(hub, models):
    """The bytes are those of the commit that was asked about."""
    assert models("pull", f"hf:{REPO}:Q4_K_M").returncode == 0
    assert any(f"resolve/{hub.commit}/" in line for line in hub.asked)
    folder = next(Path(os.environ["HF_HOME"]).rglob("refs/main"))
    assert folder.read_text() == hub.commit
