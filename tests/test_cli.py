"""The command line as a user meets it: streams, exit codes, messages."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import filelock
import pytest

from tests.command import ask, fails, urial
from urial_local.base.errors import RunError, UsageError
from urial_local.base.paths import cache_dir, user_prompts_dir
from urial_local.cli.demo import emptied
from urial_local.cli.main import COMMANDS, cli
from urial_local.tasks.models.cached import alone

QUERY = "What are the names of some famous actors that started their careers on Broadway?"


# --- help ----------------------------------------------------------------------------------------


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
        *("ask", "chat", "generate", "sweep", "show", "export", "shift", "merge", "report"),
        *("evaluate", "leaderboard", "agreement", "prompts", "models", "doctor", "completion"),
        *("demo", "cache"),
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


# --- ask -----------------------------------------------------------------------------------------


def test_ask_answers_on_stdout(tiny_llama):
    done = ask(tiny_llama, "Why", "then?")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("\n")
    assert ask(tiny_llama, "-", stdin=b"Why then?\n").stdout == done.stdout
    assert (
        urial(
            "ask",
            "-p",
            "zero-shot",
            "-n8",
            "Why then?",
            URIAL_MODEL=str(tiny_llama),
            URIAL_ASK_THREADS="1",
        ).stdout
        == done.stdout
    )


def test_ask_json(tiny_llama):
    cold = json.loads(ask(tiny_llama, "--json", "-p", "vanilla", "Hi").stdout)
    warm = json.loads(ask(tiny_llama, "--json", "-p", "vanilla", "Hi").stdout)
    assert cold["text"] == warm["text"]
    assert cold["finish_reason"] in ("length", "eos", "frame")
    assert cold["cached_tokens"] == 0
    assert 0 < warm["cached_tokens"] < warm["prompt_tokens"]
    assert warm["timings"]["prefill_tokens"] == warm["prompt_tokens"] - warm["cached_tokens"]
    assert warm["mean_logprob"] < 0
    assert len(warm["model"]["fingerprint"]) == 32
    assert warm["prompt"]["name"] == "vanilla"
    listed = json.loads(urial("cache", "list", "--json").stdout)
    assert [e["tokens"] for e in listed] == [warm["cached_tokens"]]
    assert urial("cache", "clear").returncode == 0
    assert json.loads(urial("cache", "list", "--json").stdout) == []


def test_the_defaults_say_what_they_chose(tiny_chat, tiny_llama):
    small = urial("ask", "-m", tiny_llama, "-c", "400", "-n", "1", "Hi")
    assert "urial-mini" in small.stderr
    aligned = urial("ask", "-m", tiny_chat, "-c", "8192", "-n", "1", "Hi")
    assert "carries a chat template" in aligned.stderr
    assert "--prompt chat" in aligned.stderr
    assert urial("ask", "-m", tiny_chat, "-p", "chat", "-n", "1", "Hi").stderr == ""
    assert "its own chat template" in urial("ask", "-m", "demo-aligned", "-n", "1", "Hi").stderr
    assert "embedded demo model" in urial("ask", "-n", "1", "Hi").stderr


def test_bad_model_files(tmp_path, tiny_llama):
    def message(path: os.PathLike[str] | str) -> str:
        return fails(1, "ask", "-m", path, "-p", "raw", "hi")

    assert "no model file" in message(tmp_path / "none.gguf")
    assert "directory" in message(tmp_path)
    (tmp_path / "t.gguf").write_text("Once upon a time")
    assert "not a GGUF file" in message(tmp_path / "t.gguf")
    (tmp_path / "cut.gguf").write_bytes(tiny_llama.read_bytes()[:-1000])
    cut = message(tmp_path / "cut.gguf")
    assert "should end at byte" in cut
    assert "download it again" in cut


def test_bad_questions(tiny_llama):
    base = ("ask", "-m", str(tiny_llama))
    assert "The question is empty" in fails(2, *base, "  ")
    assert "The question is empty" in fails(2, *base, "-")
    assert "not valid UTF-8 (byte 2)" in fails(2, *base, "-", stdin=b"hi\xff")
    long = fails(1, *base, "-p", "zero-shot", "-c", "256", "-", stdin=b"long " * 500)
    assert "and the context 256" in long
    assert "Did you mean urial" in fails(1, *base, "-p", "urail", "hi")
    assert "temperature" in fails(2, *base, "-p", "raw", "--temp", "-1", "hi")
    assert "markers" in fails(1, *base, "-p", "zero-shot", "--markers", "refuse", "# Query: x")
    assert "needs a chat template" in fails(1, *base, "-p", "chat", "hi")


def test_a_vocabulary_that_cannot_spell_the_question(shared_file):
    path = shared_file("models/tinystories656K-base-q8_0.gguf")
    said = fails(1, "ask", "-m", path, "-p", "raw", "a ☃")
    assert "'☃' (U+2603)" in said


def test_a_full_disk_under_the_cache_loses_no_answer(tiny_llama, tmp_path):
    (tmp_path / "cache").write_text("in the way")
    done = ask(tiny_llama, "-p", "vanilla", "Hi", URIAL_CACHE_DIR=str(tmp_path / "cache"))
    assert done.returncode == 0
    assert done.stdout == ask(tiny_llama, "-p", "vanilla", "--no-disk-cache", "Hi").stdout
    assert "could not be kept" in done.stderr


def test_a_full_disk_under_stdout(tiny_llama):
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    command = [
        sys.executable,
        "-m",
        "urial_local",
        "ask",
        "-m",
        tiny_llama,
        "-p",
        "raw",
        "-n4",
        "a",
    ]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert b"No space left" in done.stderr


def test_options_that_make_no_sense(tiny_llama):
    base = ("ask", "-m", str(tiny_llama), "-p", "zero-shot")
    assert "no answer" in fails(2, *base, "-n", "0", "hi")
    assert "--stop needs a text" in fails(2, *base, "--stop", "", "hi")
    assert "penalty scope" in fails(2, *base, "--penalty-scope", "²", "hi")
    assert "neither auto nor all" in fails(2, *base, "-ngl", "²", "hi")
    assert "-c needs -m" in fails(2, "prompts", "lint", "urial", "-c", "10")
    assert "no model 'dmo'" in fails(1, "ask", "-m", "dmo", "hi")
    assert "URIAL" not in urial(*base, "-b", "1", "-n", "4", "hi").stderr
    assert urial(*base, "-b", "1", "-n", "4", "hi").returncode == 0
    assert "no room" in fails(1, *base, "-c", "1", "hi")


def test_options_are_environment_variables(tiny_llama):
    base = ("ask", "-p", "zero-shot", "-n", "8", "hi")
    env = {"URIAL_MODEL": str(tiny_llama)}
    assert "Invalid value for '--temp'" in fails(2, *base, **env, URIAL_ASK_TEMP="abc")
    assert json.loads(urial(*base, **env, URIAL_ASK_JSON="1").stdout)["finish_reason"]
    whole = urial(*base, **env).stdout
    cut = urial(*base, **env, URIAL_ASK_STOP=whole[3]).stdout
    assert cut.strip() == whole[: whole.index(whole[3])].strip()


def every_option():
    def walk(command, name):
        yield from ((name, p) for p in command.params if isinstance(p, click.Option))
        for inner in getattr(command, "commands", {}).values():
            yield from walk(inner, f"{name} {inner.name}")

    for name in COMMANDS:
        yield from walk(cli.get_command(click.Context(cli), name), name)


def test_every_option_that_may_be_given_again_reads_lines(monkeypatch):
    """A text with blanks is one value, of all such options of all commands."""
    repeated = [(name, option) for name, option in every_option() if option.multiple]
    names = {f"{name} {option.name}" for name, option in repeated}
    assert {"ask stop", "shift aligned", "sweep models", "generate where"} <= names
    for text, values in (
        ("the pot", ("the pot",)),
        ("a b\nc  d\r\n", ("a b", "c  d")),
        (" x\u2028y ", (" x\u2028y ",)),
    ):
        monkeypatch.setenv("URIAL_VALUE", text)
        for name, option in repeated:
            monkeypatch.setattr(option, "envvar", "URIAL_VALUE")
            found, _ = option.consume_value(click.Context(cli), {})
            assert option.type_cast_value(click.Context(cli), found) == values, name


def test_a_file_that_breaks_llama_cpp_is_a_clear_error(tiny_llama, tmp_path):
    """Well-formed and absurd: llama.cpp aborts, which must not end our process."""
    data = bytearray(tiny_llama.read_bytes())
    at = data.index(b"llama.block_count") + len("llama.block_count") + 4
    data[at : at + 4] = bytes(4)
    (tmp_path / "bad.gguf").write_bytes(data)
    said = fails(1, "ask", "-m", tmp_path / "bad.gguf", "-p", "raw", "hi")
    assert "breaks down (SIGABRT)" in said
    assert "download it again" in said


def test_names_in_files_cannot_drive_the_terminal(tmp_path):
    from tests.tiny_gguf import write_llama

    path = write_llama(tmp_path / "m.gguf", name="\x1b]0;HACKED\x07evil", chat_template="x")
    done = urial("ask", "-m", path, "-c", "8192", "-n", "1", "hi")
    assert "evil" in done.stderr
    assert "\x1b]" not in done.stderr


def test_closed_streams(tiny_llama):
    command = f"{sys.executable} -m urial_local ask -m {tiny_llama} -p raw -n 2"
    for redirect, code in ((">&-", 0), ("<&-", 2)):
        line = f"{command} {'hi' if code == 0 else ''} {redirect}"
        done = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=60)
        assert "Traceback" not in done.stderr
        assert done.returncode == code


# --- chat ----------------------------------------------------------------------------------------


def test_chat_without_a_terminal(shared_file):
    model, prompt = shared_file("models/toyworld-base-q8_0.gguf"), "models/toyworld-prompt.txt"
    done = urial(
        "chat",
        "-m",
        model,
        "-p",
        shared_file(prompt),
        "-t",
        "1",
        stdin=b"Where does a fox live?\nHow do I make soup?\n",
    )
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.startswith("Great question! A fox lives in forests. It eats mice.\n\nI hope")
    assert done.stdout.count("Great question!") == 2
    assert done.stdout.count("I hope this helps!\n") == 2


def test_chat_reports_failed_lines_in_its_exit_code(tiny_llama):
    done = urial("chat", "-m", tiny_llama, "-p", "zero-shot", "-n4", stdin=b"\xff\nHi\n/nope\n")
    assert done.returncode == 1
    assert "Line 1" in done.stderr
    assert "no command /nope" in done.stderr
    assert done.stdout


# --- prompts and cache ---------------------------------------------------------------------------


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


def test_locks_of_pulls_are_in_a_private_folder():
    with alone("someone/model", "file"):
        assert [p.stat().st_mode & 0o777 for p in (cache_dir(), cache_dir() / "pulling")] == [
            0o700,
            0o700,
        ]


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


# --- demo ----------------------------------------------------------------------------------------


def test_demo_with_a_model_of_ones_own(tiny_llama):
    """Without a counterpart there is nothing to analyse; the questions are asked all the same."""
    done = urial("demo", "-m", tiny_llama, "-p", "vanilla")
    assert done.returncode == 0, done.stderr
    assert "the same under a URIAL prompt:" in done.stdout
    assert "its aligned counterpart:" not in done.stdout
    assert "How far" not in done.stdout
    assert f"urial-local chat -m {tiny_llama}" in done.stdout


DEMO = {"format": 1, "config": {"task": "shift"}, "sessions": [{"command": "urial-local demo"}]}


@pytest.fixture
def demo_folder(tmp_path):
    folder = tmp_path / "demo"
    (folder / "notes").mkdir(parents=True)
    for name in ("thesis.txt", "notes/report.html"):
        (folder / name).write_text("mine")
    return folder


def test_demo_empties_its_own_folder_only(demo_folder):
    assert emptied(demo_folder) == demo_folder, "nothing of ours there"
    for name in ("rows.jsonl", "report.html", "tokens-x.json", "run.lock"):
        (demo_folder / name).write_text("{}")
    (demo_folder / "run.json").write_text(json.dumps(DEMO))
    with filelock.FileLock(demo_folder / "run.lock"), pytest.raises(RunError, match="Another"):
        emptied(demo_folder)
    emptied(demo_folder)
    left = {p.name: p.read_text() for p in demo_folder.rglob("*") if p.is_file()}
    left.pop("run.lock", None)
    assert left == {"thesis.txt": "mine", "report.html": "mine"}


@pytest.mark.parametrize(
    "info",
    [
        "",
        "[" * 100_000,
        "[]",
        json.dumps(DEMO | {"sessions": []}),
        json.dumps(DEMO | {"sessions": [{"command": 3}]}),
        json.dumps(DEMO | {"sessions": [*DEMO["sessions"], {"command": "urial-local shift q"}]}),
    ],
)
def test_demo_leaves_other_runs_alone(demo_folder, info):
    (demo_folder / "run.json").write_text(info)
    before = sorted(demo_folder.rglob("*"))
    with pytest.raises(UsageError, match="left as it is"):
        emptied(demo_folder)
    assert sorted(demo_folder.rglob("*")) == before
    (demo_folder / "run.json").unlink()
    (demo_folder / "report.html").write_text("mine, too")
    with pytest.raises(UsageError, match="left as it is"):
        emptied(demo_folder)


def test_demo_twice(tmp_path):
    """The second makes the first one's run again, in a folder that nobody else can read."""
    state = tmp_path / "state"
    args = ("-m", "demo", "--aligned", "demo-aligned")
    for _ in range(2):
        done = urial("demo", *args, URIAL_STATE_DIR=str(state))
        assert done.returncode == 0, done.stderr
        assert "How far" in done.stdout
        (state / "demo" / "notes.txt").write_text("mine")
    assert (state / "demo" / "notes.txt").exists()
    assert len(json.loads((state / "demo" / "run.json").read_text())["sessions"]) == 1
    assert [p.stat().st_mode & 0o777 for p in (state, state / "demo")] == [0o700, 0o700]
