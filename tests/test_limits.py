"""Numbers out of range are refused with a sentence, before llama.cpp sees them."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from tests.conversations import conversation, repl
from tests.tiny_gguf import write_llama
from urial_local.base import limits
from urial_local.base.errors import ModelError, PromptError, UsageError
from urial_local.base.gguf_facts import refuse_beyond_memory
from urial_local.base.gguf_header import read_header
from urial_local.cli.main import COMMANDS, cli
from urial_local.runtime.model import Model
from urial_local.runtime.open import RuntimeOptions, open_engine
from urial_local.runtime.prefix_cache import PrefixCache
from urial_local.runtime.sampling import Sampling

HUGE = "9" * 5000


def commands(command: click.Command, path: tuple[str, ...] = ()):
    """All commands, those of groups too, with the words that call them."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from commands(command.get_command(context, name), (*path, name))
    else:
        yield path, command


@pytest.mark.parametrize("name", COMMANDS)
def test_every_number_has_a_top(name):
    group = cli.get_command(click.Context(cli), name)
    for path, command in commands(group, (name,)):
        for option in command.params:
            kind = option.type
            said = f"{' '.join(path)} {option.opts}"
            assert not isinstance(kind, click.types.IntParamType) or (
                isinstance(kind, click.IntRange) and kind.max is not None
            ), said
            words = click.types.StringParamType | click.types.UnprocessedParamType
            if isinstance(kind, click.Choice | click.Path | words):
                continue
            for value in (HUGE, "-" + HUGE, "1/" + HUGE, "nan", "99999999999999999999"):
                try:
                    kind.convert(value, option, click.Context(command))
                except click.BadParameter:
                    continue
                floats = isinstance(kind, click.types.FloatParamType) or "," in kind.name
                assert floats or kind.name == "boolean", f"{said} takes {value[:30]}"


@pytest.mark.parametrize(
    "words",
    [
        ["ask", "-t", "100000", "hi"],
        ["ask", "-c", "4294967297", "hi"],
        ["ask", "-b", "99999999999", "hi"],
        ["ask", "-ngl", HUGE, "hi"],
        ["ask", "--top-k", "-1", "hi"],
        ["generate", "q.txt", "-o", "r", "-np", HUGE],
        ["generate", "q.txt", "-o", "r", "--shard", f"1/{HUGE}"],
        ["shift", "q.txt", "-o", "r", "--base", "demo", "-np", "256"],
    ],
)
def test_the_command_line_says_what_is_wrong(words):
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 2
    assert "Error: Invalid value" in done.output


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 1e-320},
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"top_k": 1 << 40},
        {"repeat_penalty": 1e-300},
        {"repeat_penalty": 1e300},
        {"penalty_scope": "99999999999999999999"},
        {"penalty_scope": HUGE},
        {"penalty_scope": "0"},
        {"penalty_scope": "²"},
    ],
)
def test_sampling_is_in_range(change):
    with pytest.raises(UsageError, match="must be"):
        Sampling(**change)


def test_a_chat_survives_numbers_out_of_range():
    face = repl(conversation())
    for line in (
        "/set penalty-scope 99999999999999999999",
        f"/set seed {HUGE}",
        f"/set max-tokens {limits.TOKENS + 1}",
        "/set repeat-penalty 1e-300",
        "/set temp 1e-320",
    ):
        assert not face.handle(line)
    assert face.session.asker.sampling == Sampling()


@pytest.mark.parametrize("text", [HUGE, "-1", "1e3", "²"])
def test_a_cache_size_that_is_no_number(monkeypatch, text):
    monkeypatch.setenv("URIAL_PREFIX_CACHE_MB", text)
    with pytest.raises(UsageError, match="URIAL_PREFIX_CACHE_MB"):
        PrefixCache("x")


@pytest.mark.parametrize("change", [{"ctx_size": 1 << 32}, {"threads": 1000}, {"batch": 0}])
def test_the_runtime_checks_them_too(tiny_llama, change):
    with pytest.raises(UsageError), open_engine(tiny_llama, RuntimeOptions(**change)):
        pass


def test_a_context_beyond_all_memory_is_refused(tiny_llama):
    header = read_header(tiny_llama)
    refuse_beyond_memory(header, 4096, "f16")
    with pytest.raises(ModelError, match="GB for the KV cache"):
        refuse_beyond_memory(header, 1 << 50, "f16")


# --- what every question would fail with is said before weights are loaded -----------------------


@pytest.fixture
def broken_template(tmp_path, monkeypatch):
    """A model whose template fails, which no command may load."""
    source = "{{ raise_exception('not for you') }}"
    path = write_llama(tmp_path / "broken.gguf", chat_template=source, width=32, layers=1)

    def load(*_: object, **__: object) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(Model, "__init__", load)
    return path


@pytest.mark.parametrize("command", ["generate", "shift", "evaluate", "ask"])
def test_a_template_that_fails_ends_a_run_before_it_begins(broken_template, tmp_path, command):
    questions = tmp_path / "q.jsonl"
    questions.write_text('{"query": "Why?", "answer": "So."}\n')
    words = {
        "generate": [questions, "-m", broken_template, "-o", tmp_path / "r"],
        "shift": [questions, "--base", broken_template, "--aligned", broken_template,
                  "--base-prompt", "zero-shot", "-o", tmp_path / "r"],
        "evaluate": [questions, "--judge", broken_template, "-o", tmp_path / "r"],
        "ask": ["Why?", "-m", broken_template, "-p", "chat"],
    }[command]  # fmt: skip
    done = CliRunner().invoke(cli, [command, *map(str, words)])
    assert isinstance(done.exception, PromptError), done.output
    assert "not for you" in done.exception.message
    assert not (tmp_path / "r").exists()


def test_a_prompt_that_the_model_lacks_is_not_switched_to(monkeypatch):
    talk = conversation()
    monkeypatch.setattr(talk.asker.model, "chat_template", "", raising=False)
    face = repl(talk)
    before = talk.asker.prompt
    assert not face.handle("/prompt chat")
    assert talk.asker.prompt is before


def test_a_context_beyond_the_trained_one_is_remarked_on(tiny_llama):
    done = CliRunner().invoke(cli, ["ask", "-m", str(tiny_llama), "-p", "raw", "-c", "1024", "-n",
                                    "1", "the rain"])  # fmt: skip
    assert "trained for contexts of 512 tokens" in done.output
    done = CliRunner().invoke(cli, ["ask", "-m", str(tiny_llama), "-p", "raw", "-n", "1", "the"])
    assert "trained for" not in done.output
