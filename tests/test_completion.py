"""Completion of commands: scripts for shells, and the words that they offer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import urial

BASH = r"""
set -e
eval "$(urial-local completion bash)"
COMP_LINE="$1" COMP_POINT=${#1}
# As bash splits a line: at blanks, and before and after each run of : and =.
read -r -a COMP_WORDS <<< "$(sed -E 's/([:=]+)/ \1 /g' <<< "$1")"
[[ "$1" == *' ' ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
COMPREPLY=()
$(complete -p urial-local | sed 's/.*-F \([^ ]*\) .*/\1/') urial-local "${COMP_WORDS[-1]}"
printf '%s\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell):
    script = urial("completion", shell).stdout
    assert "_URIAL_LOCAL_COMPLETE" in script


@pytest.mark.parametrize(
    ("words", "begun", "expected"),
    [
        ("urial-local ", "ch", ["chat"]),
        ("urial-local models ", "pu", ["pull"]),
        ("urial-local ask -m ", "mistral-7b-i", ["mistral-7b-instruct", "mistral-7b-instruct-q4"]),
        ("urial-local ask -p ", "urial-d", ["urial-demo"]),
        ("urial-local models show ", "llama-2-70b-", ["llama-2-70b-chat"]),
    ],
)
def test_completion_of_words(words, begun, expected, tmp_path):
    count = len(words.split())
    env = {"_URIAL_LOCAL_COMPLETE": "bash_complete", "COMP_WORDS": words + begun,
           "COMP_CWORD": str(count), "HF_HOME": str(tmp_path)}  # fmt: skip
    done = urial(**env)
    assert [line.split(",", 1)[1] for line in done.stdout.splitlines()] == expected, done.stderr


@pytest.mark.parametrize("kind", ["", "cvec:"])
def test_completion_of_adapters(kind, tmp_path):
    """Behind a plus: files of the folder that is begun."""
    for name in ("lora1.gguf", "lora2.gguf", "other.gguf", "lora.txt"):
        (tmp_path / name).touch()
    begun = f"demo+{kind}{tmp_path}/lora"
    env = {"_URIAL_LOCAL_COMPLETE": "bash_complete", "COMP_WORDS": f"urial-local ask -m {begun}",
           "COMP_CWORD": "3"}  # fmt: skip
    done = urial(**env)
    words = [line.split(",", 1)[1] for line in done.stdout.splitlines()]
    assert words == [f"{begun}1.gguf", f"{begun}2.gguf"], done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("urial-local ask -m hf:some/o", ["some/one:a.Q8_0.gguf"]),
        ("urial-local ask -m hf:some/one:a", ["a.Q8_0.gguf"]),
        ("urial-local ask -m hf:", ["some/one:a.Q8_0.gguf"]),
        ("urial-local ask --model=smollm2-1.7b-i", ["smollm2-1.7b-instruct"]),
        ("urial-local ask --model=hf:some/o", ["some/one:a.Q8_0.gguf"]),
        ("urial-local ask -m mistral-7b-instruct-", ["mistral-7b-instruct-q4"]),
        ("urial-local prompts show urial-d", ["urial-demo"]),
        ("urial-local prompts lint urial-demo urial-d", ["urial-demo"]),
        ("urial-local prompts lint -m mistral-7b-instruct-", ["mistral-7b-instruct-q4"]),
        ("urial-local comp", ["completion"]),
        ("urial-local completion ", ["bash", "zsh", "fish"]),
    ],
)
@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not here")
def test_completion_in_bash(line, expected, tmp_path):
    folder = tmp_path / "hub" / "models--some--one" / "snapshots" / ("c" * 40)
    folder.mkdir(parents=True)
    (folder / "a.Q8_0.gguf").write_bytes(b"GGUF")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", BASH, "bash", line],
        env={**os.environ, "PATH": path, "HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.splitlines() == expected, done.stderr


EVIL = (
    "x$(touch PWNED).gguf",
    "x`id`.gguf",
    "x;id.gguf",
    "x\nplain,id.gguf",
    "x y.gguf",
    "x*.gguf",
)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_no_name_is_offered_that_a_shell_would_act_upon(shell, tmp_path, monkeypatch):
    from click.shell_completion import get_completion_class

    from urial_local.cli.main import cli
    from urial_local.cli.plumbing import completion

    folder = tmp_path / "hub" / "models--some--one" / "snapshots" / ("c" * 40)
    folder.mkdir(parents=True)
    prompts = Path(os.environ["URIAL_CONFIG_DIR"]) / "prompts"
    prompts.mkdir(parents=True)
    for name in ("x-Q8_0.gguf", "x\u00e9.gguf", *EVIL):
        (folder / name).write_bytes(b"GGUF")
        (prompts / name.replace("gguf", "toml")).write_text("")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    completion.teach()
    kind = get_completion_class(shell)
    complete = kind(cli, {}, "urial-local", "_URIAL_LOCAL_COMPLETE")
    found = complete.get_completions(["ask", "-m"], "hf:some/one:x")
    assert [i.value for i in found] == ["hf:some/one:x-Q8_0.gguf", "hf:some/one:x\u00e9.gguf"]
    found = complete.get_completions(["ask", "-p"], "x")
    assert [i.value for i in found] == ["x-Q8_0", "x\u00e9"]
