"""A model's default prompt: kept by its fingerprint; what is said where it is of no use."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import replace

import pytest

from tests.command import fails, urial
from urial_local.base.errors import PromptError, UsageError
from urial_local.base.paths import user_prompts_dir
from urial_local.prompting.library import load_prompt
from urial_local.tasks.fitted import (
    defaults_path,
    fit_name,
    fitted_prompt,
    keep_default,
    keep_prompt,
    prompt_name,
)
from urial_local.tasks.model_file import model_file
from urial_local.tasks.prompt_choice import base_prompts, choose_prompt

A, B = "a" * 32, "b" * 32


@pytest.fixture
def own_prompt():
    """A prompt of the user's own, called `mine`."""
    keep_prompt(replace(load_prompt("urial-demo"), name="mine"))
    return user_prompts_dir() / "mine.toml"


def test_a_default_is_kept_listed_and_taken_back():
    assert fitted_prompt(A) is None
    keep_default(A, "urial")
    keep_default(B, "vanilla")
    assert (fitted_prompt(A), fitted_prompt(B)) == ("urial", "vanilla")
    keep_default(A, None)
    assert (fitted_prompt(A), fitted_prompt(B)) == (None, "vanilla")
    assert json.loads(defaults_path().read_text()) == {B: "vanilla"}


def test_what_changes_nothing_writes_nothing():
    keep_default(A, None)
    assert not defaults_path().exists()


@pytest.mark.parametrize(
    "text", ["", '{"aaaaaaaa": ', "[1]", '{"aaaaaaaa": 1}', '{"../x": "urial"}', "[" * 10_000]
)
def test_malformed_settings_are_said_and_left_alone(text):
    defaults_path().parent.mkdir(parents=True, exist_ok=True)
    defaults_path().write_text(text)
    with pytest.raises(UsageError, match="malformed"):
        keep_default(A, "urial")
    assert defaults_path().read_text() == text
    done = urial("prompts", "default", "demo")
    assert done.returncode == 0
    assert "malformed" in done.stdout
    assert "'urial-demo'" in done.stdout
    assert "malformed" in fails(2, "prompts", "default", "demo", "vanilla")
    with pytest.raises(PromptError, match="malformed"):
        base_prompts(model_file("demo"))


def test_settings_that_are_no_file():
    defaults_path().mkdir(parents=True)
    with pytest.raises(UsageError, match="cannot be read"):
        fitted_prompt(A)


def test_two_at_a_time_lose_nothing():
    keep_default("0" * 32, "urial")
    names = [f"{i:032x}" for i in range(1, 13)]
    threads = [threading.Thread(target=keep_default, args=(n, "urial")) for n in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(json.loads(defaults_path().read_text())) == {"0" * 32, *names}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(own_folders):
    (own_folders / "config").mkdir(0o500)
    with pytest.raises(UsageError, match="cannot be written"):
        keep_default(A, "urial")
    with pytest.raises(UsageError, match="cannot be written"):
        keep_prompt(load_prompt("urial"))


def test_a_folder_that_is_a_file(own_folders):
    (own_folders / "config").write_text("")
    with pytest.raises(UsageError, match="cannot be"):
        keep_default(A, "urial")
    with pytest.raises(UsageError, match="cannot be written"):
        keep_prompt(load_prompt("urial"))


def test_names_are_those_of_files():
    assert fit_name("Llama-3.2-1B") == "fit-Llama-3.2-1B"
    assert fit_name('../a "b"\n\udc80') == "fit-.._a__b___"
    assert len(fit_name("x" * 300)) == 54


def test_a_prompt_replaces_none_but_its_models_own():
    keep_prompt(replace(load_prompt("urial"), name="fit-m", evidence={"fingerprint": A}))
    assert prompt_name("m", A) == "fit-m"
    assert prompt_name("m", B) == "fit-m-bbbbbbbb"
    keep_prompt(replace(load_prompt("urial"), name="fit-n"))
    assert prompt_name("n", A) == "fit-n-aaaaaaaa", "one of the user's own"
    (user_prompts_dir() / "fit-o.toml").write_text("[[")
    assert prompt_name("o", A) == "fit-o-aaaaaaaa"


def test_the_chosen_prompt_is_the_default(own_prompt):
    file = model_file("demo")
    keep_default(file.fingerprint, "mine")
    choice = choose_prompt(file)
    assert choice.certain is not None
    assert choice.certain.name == "mine"
    assert "chosen default" in choice.reason
    assert base_prompts(file) == ("mine",)
    assert choose_prompt(file, "vanilla").certain.name == "vanilla"
    assert choose_prompt(file, otherwise=("zero-shot",)).certain.name == "urial-demo"


def test_the_chosen_prompt_is_called_as_it_was_chosen(own_prompt):
    own_prompt.write_text(own_prompt.read_text().replace('"mine"', '"other"'))
    keep_default(model_file("demo").fingerprint, "mine")
    listed = json.loads(urial("prompts", "list", "-m", "demo", "--json").stdout)
    assert [row["name"] for row in listed if row["default"]] == ["other"]
    assert "'mine'" in urial("prompts", "default", "demo").stdout


def test_set_listed_and_cleared_by_command():
    said = urial("prompts", "default", "demo", "vanilla").stdout
    assert said == "urial-local demo base is asked under 'vanilla', its chosen default.\n"
    lines = urial("prompts", "list", "-m", "demo").stdout.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("*")] == ["vanilla"]
    assert "'urial-demo'" in urial("prompts", "default", "demo", "--clear").stdout
    assert json.loads(defaults_path().read_text()) == {}


def test_the_same_file_under_another_name_has_the_same_default(tmp_path):
    copy = tmp_path / "another name.gguf"
    copy.write_bytes(model_file("demo").path.read_bytes())
    urial("prompts", "default", copy, "vanilla")
    assert "'vanilla'" in urial("prompts", "default", "demo").stdout


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("vanila",), "vanilla"),
        (("vanilla", "--clear"), "exclude each other"),
        (("broken",), "malformed"),
        (("chat",), "chat template"),
    ],
)
def test_a_default_that_makes_no_sense(own_prompt, args, said):
    (user_prompts_dir() / "broken.toml").write_text("[[")
    done = urial("prompts", "default", "demo", *args)
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert not defaults_path().exists()


def test_a_file_is_no_default(tmp_path, own_prompt):
    path = own_prompt.rename(tmp_path / "there.toml")
    assert "a default must be a prompt's name" in fails(2, "prompts", "default", "demo", path)


@pytest.mark.parametrize("text", [None, "[[", "frame = 'chat'", "frame = 'gone.jinja'"])
def test_a_default_of_no_use_is_said_and_passed_over(own_prompt, text):
    """Its file was deleted, or changed so that nothing can be asked under it."""
    file = model_file("demo")
    keep_default(file.fingerprint, "mine")
    if text is None:
        own_prompt.unlink()
    else:
        own_prompt.write_text(text)
    choice = choose_prompt(file)
    assert choice.certain is not None
    assert choice.certain.name == "urial-demo"
    assert "`urial-local prompts default demo --clear`" in choice.reason
    done = urial("ask", "-m", "demo", "-n", "2", "Where does an owl live?")
    assert done.returncode == 0
    assert "--clear" in done.stderr
    assert urial("prompts", "list", "-m", "demo").returncode == 0
    with pytest.raises(PromptError, match="--clear"):
        base_prompts(file)
    assert "'urial-demo'" in urial("prompts", "default", "demo", "--clear").stdout


def test_a_file_of_that_name_is_not_taken_for_the_prompt(own_prompt, tmp_path, monkeypatch):
    keep_default(model_file("demo").fingerprint, "mine.toml")
    own_prompt.rename(tmp_path / "mine.toml")
    monkeypatch.chdir(tmp_path)
    assert choose_prompt(model_file("demo")).certain.name == "urial-demo"


def test_how_a_command_names_a_model(tmp_path):
    assert model_file("demo").argument == "demo"
    path = tmp_path / "a b.gguf"
    path.write_bytes(model_file("demo").path.read_bytes())
    assert model_file(str(path)).argument == f"'{path}'"
