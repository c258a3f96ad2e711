"""The pages that a person reads: links lead somewhere, and every command in a block is one that the
program takes, with options that exist and values of the right kind."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from urial_local.cli.main import cli

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "tools/demo_pair/README.md",
]
_FENCED = re.compile(r"^(`{3,})(\w*)\n(.*?)^\1$", re.DOTALL | re.MULTILINE)
_SHELL = {"sh", "console", "bash", ""}
_ENDS = {"|", "||", "&&", ";", "&", ">", ">>", "<", "2>", "1>", "&>", "2>>"}


def commands(page: Path) -> list[list[str]]:
    """The arguments of each `urial-local` in the page's blocks, without what the shell adds."""
    found = []
    for _, language, block in _FENCED.findall(page.read_text("utf-8")):
        if language not in _SHELL:
            continue
        lines = block.replace("\\\n", " ").splitlines()
        if language == "console":  # all other lines are output
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        for line in lines:
            lexer = shlex.shlex(line, posix=True, punctuation_chars=";|&<>")
            lexer.whitespace_split, lexer.commenters = True, "#"
            try:
                words = list(lexer)
            except ValueError:
                words = []  # a text, and not a command
            while "urial-local" in words:
                words = words[words.index("urial-local") + 1 :]
                end = next((n for n, word in enumerate(words) if word in _ENDS), len(words))
                if end < len(words) and words[end] == ">" and words[:end][-1:] == ["2"]:
                    end -= 1  # of `2>`
                found.append(words[:end])
    return found


def parse(command: click.Command, name: str, arguments: list[str]) -> None:
    """Raises click.UsageError for what the command does not take."""
    with command.make_context(name, list(arguments), auto_envvar_prefix=None) as context:
        if isinstance(command, click.Group):
            rest = [*context._protected_args, *context.args]
            found, inner, rest = command.resolve_command(context, rest)
            assert inner is not None
            parse(inner, found or "", rest)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text("utf-8")):
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_one(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()  # a folder of that name, as the pages have it
    for arguments in commands(page):
        if any(word in ("-h", "--help", "--version") for word in arguments) or not arguments:
            continue
        try:
            parse(cli, "urial-local", arguments)
        except click.UsageError as error:
            if "does not exist" not in error.message:  # files of the example's reader
                raise AssertionError(
                    f"urial-local {shlex.join(arguments)}: {error.message}"
                ) from None


def test_commands_are_found_and_wrong_ones_are_refused(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("""```sh
printf x | urial-local ask -m demo 'a | b' 2>/dev/null | head
urial-local ask --nope x
```
```text
urial-local no command
```
""")
    right, wrong = commands(page)
    assert right == ["ask", "-m", "demo", "a | b"]
    parse(cli, "urial-local", right)
    with pytest.raises(click.UsageError, match="No such option"):
        parse(cli, "urial-local", wrong)
