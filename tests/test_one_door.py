"""A model is opened, and its prompt chosen, in one place."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import urial_local
from tests.tiny_gguf import write_llama
from urial_local.base.errors import ModelError, PromptError
from urial_local.runtime import probe
from urial_local.tasks import model_file as door
from urial_local.tasks.prompt_choice import SMALL_PARAMETERS, choose_prompt

PACKAGE = Path(urial_local.__file__).parent
# Who may name what only the door may use: `models verify` tries a file again on purpose.
ALLOWED = {
    "Model": {"tasks/model_file.py"},
    "open_engine": {"tasks/model_file.py"},
    "open_vocabulary": {"tasks/model_file.py"},
    "Embedder": {"tasks/model_file.py"},
    "check_unknown": {"tasks/model_file.py", "tasks/models/verify.py"},
}


def called(path: Path) -> set[str]:
    """The names that a module calls."""
    return {
        node.func.id
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }


@pytest.mark.parametrize("name", ALLOWED)
def test_only_the_door_opens_models(name):
    users = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if name in called(path) and path.relative_to(PACKAGE).parts[0] != "runtime"
    }
    assert users == ALLOWED[name]


def test_only_one_place_knows_the_default_prompts():
    users = [
        path.name
        for path in PACKAGE.rglob("*.py")
        if '"urial-mini"' in path.read_text("utf-8") and path.parent.name != "prompting"
    ]
    assert sorted(users) == ["prompt_choice.py", "prompted.py", "setup.py"], "a hint, a benchmark"


@pytest.mark.parametrize(
    "command",
    [
        ("ask", "-m", "FILE", "-n", "1", "Hi"),
        ("demo", "-m", "FILE"),
        ("prompts", "lint", "urial", "-m", "FILE"),
        ("generate", "QUESTIONS", "-m", "FILE", "-o", "OUT"),
        ("evaluate", "ANSWERS", "--judge", "FILE", "-o", "OUT"),
        ("shift", "QUESTIONS", "--base", "FILE", "--aligned", "FILE", "-o", "OUT"),
        ("models", "show", "FILE"),
        ("serve", "-m", "FILE", "--port", "0"),
    ],
)
def test_every_command_tries_an_unknown_file_first(command, tmp_path, monkeypatch):
    """The try is a stand-in that says what a file that breaks llama.cpp down would say."""
    from urial_local.cli.main import cli

    def refuse(path, *more, **named):
        raise ModelError(f"llama.cpp crashes (SIGABRT) when it loads {path}.")

    for module in (door, probe):
        monkeypatch.setattr(module, "check_unknown", refuse)
    (tmp_path / "questions.txt").write_text("Why?\n")
    (tmp_path / "answers.json").write_text('[{"id": "1", "query": "Why?", "answer": "So."}]')
    names = {
        "FILE": write_llama(tmp_path / "m.gguf"),
        "QUESTIONS": tmp_path / "questions.txt",
        "ANSWERS": tmp_path / "answers.json",
        "OUT": tmp_path / "out",
    }
    with pytest.raises(ModelError, match="crashes"):
        cli.main([str(names.get(part, part)) for part in command], standalone_mode=False)


TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"


@pytest.fixture
def file():
    def made(template: str = "", prompt: str | None = None) -> door.ModelFile:
        found = door.model_file("demo")
        metadata = {**found.header.metadata, "tokenizer.chat_template": template}
        header = type(found.header)(
            **{
                name: metadata if name == "metadata" else getattr(found.header, name)
                for name in found.header.__dataclass_fields__
            }
        )
        return door.ModelFile("x", found.path, header, "0" * 32, prompt)

    return made


def test_the_rule_for_the_prompt(file):
    """Asked for, then known to suit, then the model's own template, then what fits."""
    assert choose_prompt(file(TEMPLATE, "urial-demo"), "vanilla").certain.name == "vanilla"
    assert choose_prompt(file(TEMPLATE, "urial-demo")).certain.name == "urial-demo"
    chosen = choose_prompt(file(TEMPLATE))
    assert (chosen.certain.name, "carries a chat template" in chosen.reason) == ("chat", True)
    assert choose_prompt(file(TEMPLATE), frame="fenced").candidates[0].name == "urial-small"
    assert choose_prompt(file(), otherwise=("zero-shot",)).certain.name == "zero-shot"
    assert choose_prompt(file()).certain is None
    with pytest.raises(PromptError):
        choose_prompt(file("{{ nothing }}"))


@pytest.mark.parametrize(
    ("parameters", "ctx_size", "name"),
    [
        (7_000_000_000, 4096, "urial"),
        (7_000_000_000, 700, "urial-mini"),
        (270_000_000, 4096, "urial-small"),
        (SMALL_PARAMETERS, 600, "urial-mini"),
        (SMALL_PARAMETERS + 1, 64, "urial-mini"),
    ],
)
def test_the_fullest_default_that_fits(file, monkeypatch, parameters, ctx_size, name):
    monkeypatch.setattr("urial_local.base.gguf_facts.parameters", lambda header: parameters)
    choice = choose_prompt(file()).fitting(lambda text: len(text) // 4, ctx_size)
    assert choice.certain.name == name
    assert ("small" in choice.reason) == (name == "urial-mini")
