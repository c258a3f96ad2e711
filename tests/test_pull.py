"""`models pull`, `verify`, `rm`, `path` against a local server that plays the hub's part."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hub_server import Hub, serving
from tests.test_cli import fails, urial

REPO = "someone/tiny-GGUF"
NAMES = ("tiny.Q8_0.gguf", "tiny.Q4_K_M.gguf", "other/deep.Q8_0.gguf")


@pytest.fixture
def hub(tiny_llama, tmp_path):
    data = tiny_llama.read_bytes()
    files = {NAMES[0]: data, NAMES[1]: data + b"\0" * 32, NAMES[2]: data, "README.md": b"hello"}
    with serving({REPO: files, "someone/gated-GGUF": files}) as hub:
        hub.gated.add("someone/gated-GGUF")
        yield hub


@pytest.fixture
def models(hub, tmp_path, monkeypatch):
    """Runs `urial-local models …` against the hub, with caches of its own."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    for name, value in hub.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return lambda *args, **env: urial("models", *args, **env)


def own_registry(hub: Hub, sha256: str = "-", file: str = NAMES[0]) -> None:
    import os

    folder = Path(os.environ["URIAL_CONFIG_DIR"])
    folder.mkdir(parents=True, exist_ok=True)
    line = f"tiny {REPO} {file} Q8_0 {sha256} - 512 mit base - -\n"
    (folder / "models.txt").write_text(line)


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
    done = models("verify", "tiny", **offline)
    assert done.returncode == 0, done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        ["ok", "sha256"],
        ["ok", "header"],
        ["ok", "try"],
    ]
    assert "record of its pull" in done.stdout


def test_names_of_the_hub(hub, models):
    assert models("pull", f"hf:{REPO}:q4_k_m").returncode == 0
    done = urial("models", "path", f"hf:{REPO}:Q4_K_M")
    assert done.stdout.strip().endswith(NAMES[1])
    assert urial("models", "path", f"hf:{REPO}").stdout == done.stdout
    assert models("pull", f"hf:{REPO}:{NAMES[2]}").returncode == 0
    assert "may be any of" in fails(1, "models", "path", f"hf:{REPO}")
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
    assert "no name of a GGUF" in fails(2, "models", "pull", f"hf:{REPO}:../../x.gguf")


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


def test_a_cut_download_goes_on(hub, models, tmp_path):
    hub.repos[REPO][NAMES[1]] = hub.repos[REPO][NAMES[0]] + bytes(30 << 20)
    hub.cuts[NAMES[1]] = 1  # huggingface_hub goes on by itself
    done = models("pull", f"hf:{REPO}:Q4_K_M")
    assert done.returncode == 0, done.stderr
    assert urial("models", "rm", f"hf:{REPO}:Q4_K_M", "--yes").returncode == 0
    hub.cuts[NAMES[1]] = 1000  # until it gives up
    said = fails(1, "models", "pull", f"hf:{REPO}:Q4_K_M")
    assert "could not be fetched" in said
    assert "same command goes on" in said
    hub.cuts.clear()
    assert models("pull", f"hf:{REPO}:Q4_K_M").returncode == 0


def test_pulls_at_the_same_time_leave_one_good_file(hub, models, tmp_path):
    command = [sys.executable, "-m", "urial_local", "models", "pull", f"hf:{REPO}:Q4_K_M"]
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
    wanted = module.Wanted(REPO, NAMES[0], "c", 5 << 30, None, "nobody")
    with pytest.raises(ModelError, match=r"needs 5\.4 GB more, and .* has 0\.0 GB free"):
        module.pull(wanted)


def test_rm_and_verify_say_what_they_cannot_do(hub, models, tiny_llama, tmp_path):
    assert "cannot be removed" in fails(2, "models", "rm", "demo", "--yes")
    assert "is a file of yours" in fails(2, "models", "rm", str(tiny_llama), "--yes")
    assert models("pull", f"hf:{REPO}:Q4_K_M").returncode == 0
    assert "nobody to ask" in fails(2, "models", "rm", f"hf:{REPO}:Q4_K_M")
    path = Path(urial("models", "path", f"hf:{REPO}:Q4_K_M").stdout.strip())
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.resolve().write_bytes(data)
    done = urial("models", "verify", f"hf:{REPO}:Q4_K_M")
    assert done.returncode == 1
    assert "is not what the record of its pull says" in done.stderr
    done = urial("models", "verify", tiny_llama)
    assert "nobody vouches" in done.stdout
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(tiny_llama.read_bytes()[:-100])
    done = urial("models", "verify", cut)
    assert done.returncode == 1
    assert "should end at byte" in done.stderr
    assert not cut.with_suffix(".lock").exists()


def test_a_damaged_record_is_said(hub, models, monkeypatch):
    import os

    folder = Path(os.environ["URIAL_STATE_DIR"])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pulled.json").write_text("{torn")
    assert "cannot be read" in fails(1, "models", "pull", f"hf:{REPO}:Q4_K_M")


def test_a_model_in_parts(hub, models, tiny_llama):
    data = tiny_llama.read_bytes()
    parts = {f"big-Q8_0-0000{i}-of-00002.gguf": data + bytes(32 * i) for i in (1, 2)}
    hub.repos["someone/big"] = parts
    done = models("pull", "hf:someone/big:Q8_0")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("fetched") == 2
    assert done.stdout.strip().endswith("-00001-of-00002.gguf")
    first = Path(urial("models", "path", "hf:someone/big").stdout.strip())
    second = first.with_name("big-Q8_0-00002-of-00002.gguf")
    second.resolve().unlink()
    assert "1 parts are missing" in fails(1, "models", "path", "hf:someone/big")
