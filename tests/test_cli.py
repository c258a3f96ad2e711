"""The command line as a user meets it: streams, exit codes, messages."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import click
import pytest

from tests.command import fails, urial
from urial_local.cli.main import COMMANDS, cli


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom urial_local.cli.main import cli\ncli(['--help'], standalone_mode=False)\n"
        "heavy = {'numpy', 'jinja2', 'llama_cpp', 'rich', 'prompt_toolkit', 'huggingface_hub'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == "[]"
    for word in ("ask", "chat", "shift", "prompts", "cache", "demo", "Examples"):
        assert word in done.stdout


@pytest.mark.parametrize(
    "command",
    [
        *(
            "ask",
            "chat",
            "generate",
            "sweep",
            "benchmark",
            "show",
            "export",
            "shift",
            "merge",
            "report",
        ),
        *("evaluate", "leaderboard", "agreement", "prompts", "models", "doctor", "completion"),
        *("demo", "cache", "slurm"),
    ],
)
def test_every_command_has_help(command):
    assert urial(command, "--help").stdout.startswith("Usage:")


def test_misspelt_commands():
    assert "Did you mean prompts" in fails(2, "promts")
    assert "No such option" in fails(2, "ask", "--nope")


SIGINT_WHEN_IMPORTED = """
import os, signal, sys
if "URIAL_TEST_IGNORED" not in os.environ:  # whatever the tests were started with
    signal.signal(signal.SIGINT, signal.default_int_handler)
class Stop:
    module = sys.argv.pop(1)
    def find_spec(self, name, path=None, target=None):
        if name == self.module and not self.__dict__.get("done"):
            self.done = True
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Stop())
from urial_local.__main__ import main
main()
"""


@pytest.mark.parametrize("module", ["urial_local.cli.main", "click", "urial_local.cli.ask"])
def test_ctrl_c_during_imports(module):
    done = subprocess.run(
        [sys.executable, "-c", SIGINT_WHEN_IMPORTED, module, "ask", "--help"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, "", "Interrupted.")


@pytest.mark.parametrize(
    ("when", "code", "said"),
    [
        ("atexit.register(stop)", 0, ""),
        ("main.prepare = stop", 130, ""),  # before anything can be told
        ("click.echo = stop", 130, "\n"),  # and once more while the first is told
    ],
)
def test_ctrl_c_at_the_end(when, code, said):
    script = f"""
import atexit, click, os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from urial_local.cli import main
def stop(*args, **more):
    os.kill(os.getpid(), signal.SIGINT)
{when}
sys.argv[1:] = ["cache", "path"]
main.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (code, said)


def test_a_command_that_was_told_to_ignore_ctrl_c_does():
    """As nohup does, and a shell for what runs in the background of a script."""
    script = "trap '' INT; exec " + sys.executable + ' -c "$0" "$@"'
    args = ["urial_local.cli.cache", "cache", "path"]
    done = subprocess.run(
        ["sh", "-c", script, SIGINT_WHEN_IMPORTED, *args],
        env={**os.environ, "URIAL_TEST_IGNORED": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_options_are_environment_variables(tiny_llama):
    base = ("ask", "-p", "zero-shot", "-n", "8", "hi")
    env = {"URIAL_MODEL": str(tiny_llama)}
    assert "Invalid value for '--temp'" in fails(2, *base, **env, URIAL_ASK_TEMP="abc")
    assert json.loads(urial(*base, **env, URIAL_ASK_JSON="1").stdout)["finish_reason"]
    whole = urial(*base, **env).stdout
    cut = urial(*base, **env, URIAL_ASK_STOP=whole[3]).stdout
    assert cut.strip() == whole[: whole.index(whole[3])].strip()


def test_each_option_has_the_variable_of_its_own_name():
    for name, option in every_option():
        own = max(option.opts, key=len).lstrip("-").replace("-", "_")
        assert option.name == own or (option.multiple and option.name == f"{own}s"), name
        prefix = f"URIAL_{name.upper().replace(' ', '_').replace('-', '_')}"
        context = click.Context(cli, auto_envvar_prefix=prefix)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(option.envvar or f"{prefix}_{own.upper()}", "1")
            assert option.resolve_envvar_value(context) == "1", name


def every_option():
    def walk(command, name):
        yield from ((name, p) for p in command.params if isinstance(p, click.Option))
        for inner in getattr(command, "commands", {}).values():
            yield from walk(inner, f"{name} {inner.name}")

    for name in COMMANDS:
        yield from walk(cli.get_command(click.Context(cli), name), name)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("the pot", ("the pot",)),
        ("a b\nc  d\r\n", ("a b", "c  d")),
        (" x\u2028y ", (" x\u2028y ",)),
    ],
)
def test_every_option_that_may_be_given_again_reads_lines(monkeypatch, text, values):
    """A text with blanks is one value, of all such options of all commands."""
    repeated = [(name, option) for name, option in every_option() if option.multiple]
    names = {f"{name} {option.name}" for name, option in repeated}
    assert {"ask stop", "shift aligned", "sweep models", "generate where"} <= names
    monkeypatch.setenv("URIAL_VALUE", text)
    for name, option in repeated:
        monkeypatch.setattr(option, "envvar", "URIAL_VALUE")
        found, _ = option.consume_value(click.Context(cli), {})
        assert option.type_cast_value(click.Context(cli), found) == values, name


@pytest.mark.parametrize(("rest", "code"), [("hi >&-", 0), ("<&-", 2)])
def test_closed_streams(tiny_llama, rest, code):
    line = f"{sys.executable} -m urial_local ask -m {tiny_llama} -p raw -n 2 {rest}"
    done = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr
    assert done.returncode == code


def test_output_into_a_closed_pipe():
    done = subprocess.run(
        f"{sys.executable} -m urial_local prompts show urial-8 | head -n 1",
        shell=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "# Instruction\n"
    assert "Traceback" not in done.stderr
