"""`prompts` and `cache` as a user meets them."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys

from tests.command import fails, urial
from urial_local.base.paths import user_prompts_dir

QUERY = "What are the names of some famous actors that started their careers on Broadway?"


def test_prompts_list_and_show():
    names = [row["name"] for row in json.loads(urial("prompts", "list", "--json").stdout)]
    assert {"urial", "urial-help", "urial-1", "urial-8", "urial-mini"} <= set(names)
    assert urial("prompts").stdout == urial("prompts", "list").stdout
    text = urial("prompts", "show", "urial").stdout
    assert text.startswith("# Instruction\n")
    assert text.endswith("```\n")
    assert json.loads(urial("prompts", "show", "urial", "--json").stdout)["frame"] == "fenced"


def test_prompts_import_and_render(shared_file, tmp_path):
    path = shared_file("data/urial_prompts/inst_1k_v4.txt")
    history = tmp_path / "h.json"
    history.write_text('["Hello!", "Hi!"]')
    single = urial("prompts", "render", path, "--query", QUERY)
    assert hashlib.sha256(single.stdout.encode()).hexdigest()[:16] == "65602fd868fcaa16"
    assert "3 examples" in urial("prompts", "import", path, "--name", "mine").stderr
    three = urial("prompts", "render", "mine", "--query", "How are you?", "--history", history)
    assert hashlib.sha256(three.stdout.encode()).hexdigest()[:16] == "c97e67ed2e13689f"
    assert "already" in fails(2, "prompts", "import", path, "--name", "mine")
    assert urial("prompts", "import", path, "--name", "mine", "--force").returncode == 0
    assert "cannot be a prompt's name" in fails(2, "prompts", "import", path, "--name", "../x")


def test_a_full_disk_leaves_the_imported_prompt(tmp_path):
    path = tmp_path / "p.txt"
    path.write_text("# Query:\n```\nq\n```\n\n# Answer:\n```\na\n```\n")
    assert urial("prompts", "import", path, "--name", "mine").returncode == 0
    target = user_prompts_dir() / "mine.toml"
    before = target.read_text()
    path.write_text("long " * 4000 + path.read_text())
    limited = f"ulimit -f 8; exec {sys.executable} -m urial_local prompts import {path}"
    done = subprocess.run(
        ["sh", "-c", f"{limited} --name mine --force"],
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
    )
    assert done.returncode == 1
    assert "could not be written" in done.stderr
    assert target.read_text() == before
    assert [p.name for p in target.parent.iterdir()] == ["mine.toml"]
    assert target.parent.stat().st_mode & 0o777 == 0o700


def test_prompts_lint(tmp_path, tiny_llama):
    assert urial("prompts", "lint", "urial", "urial-mini").returncode == 0
    (tmp_path / "p.txt").write_text("# Query:\n```\nq\n```\n")
    done = urial("prompts", "lint", tmp_path / "p.txt")
    assert done.returncode == 1
    assert "no answer after it" in done.stdout
    done = urial("prompts", "lint", "urial", "-m", tiny_llama)
    assert done.returncode == 1
    assert "does not fit a context of 512" in done.stdout


def test_cache_path_and_prompts_path(tmp_path):
    assert urial("cache", "path", URIAL_CACHE_DIR=str(tmp_path)).stdout == f"{tmp_path}/prefixes\n"
    assert urial("prompts", "path").stdout.count("\n") == 2
