"""Prompts, frames, judges' templates and conversations that others wrote: whatever they hold, one
sentence names the file and what is wrong, and nothing else is harmed."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.conversations import conversation, repl
from urial_local.base.errors import PromptError
from urial_local.base.paths import user_path
from urial_local.base.texts import read_text
from urial_local.cli.main import cli
from urial_local.cli.plumbing.repl import Repl
from urial_local.prompting.frames import load_frame, parse_frame
from urial_local.prompting.history import MAX_HISTORY_BYTES, read_history
from urial_local.prompting.judging import Case, judge_template
from urial_local.prompting.library import MAX_PROMPT_BYTES, load_prompt, prompt_files
from urial_local.prompting.lint import lint
from urial_local.prompting.toml import MAX_DEPTH, MAX_PARTS, MAX_WORD, TOMLError, parse_toml
from urial_local.tasks.chat import Conversation
from urial_local.tasks.models.describe import _prompts

LOADERS = {
    "prompt.toml": load_prompt,
    "prompt.txt": load_prompt,
    "frame.jinja": load_frame,
    "judge.jinja": judge_template,
    "talk.json": lambda name: read_history(Path(name)),
}
FRAME = '{#- query_marker = "Q:" -#}\n{% block turn %}Q: {{ query }}\n{{ answer }}\n{% endblock %}'
FRAME += "{% block request %}Q: {{ query }}\n{% endblock %}"
RUBRIC = "{% block rubric %}Rate.{% endblock %}{% block case %}{{ query }}{% endblock %}"

DEEP = 'x = "[[[" # [[[\n'
BROKEN = {  # prompts in TOML, and what is said of each
    "lists": ("x = " + "[" * 5000, "deep"),
    "lists, closed": ("x = " + "[" * 5000 + "]" * 5000, "deep"),
    "tables": ("x = " + "{a=" * 5000, "deep"),
    "lists of tables": ("x = " + "[{a=" * 3000, "deep"),
    "deep after a text": (DEEP * 100 + "x = " + "[" * 5000, "deep"),
    "a key": (".".join("a" * 20_000) + " = 1", "parts"),
    "a key with quotes": (" . ".join(['"a"'] * 20_000) + " = 1", "parts"),
    "a key in a table": ("x = {" + ".".join("a" * 20_000) + " = 1}", "parts"),
    "a table": ("[" + ".".join("a" * 20_000) + "]", "parts"),
    "a list of tables": ("[[" + ".".join("a" * 20_000) + "]]", "parts"),
    "an integer": ("[sampling]\ntop_k = " + "1" * 5000, "100 characters"),
    "an integer with marks": ("[sampling]\ntop_k = " + "1_" * 5000 + "1", "100 characters"),
    "an octal integer": ("[sampling]\ntop_k = 0o" + "7" * 5000, "100 characters"),
    "a hexadecimal integer": ("[sampling]\ntop_p = 0x" + "f" * 400, "100 characters"),
    "a float": ("[sampling]\ntop_p = 1." + "1" * 5000, "100 characters"),
    "an infinite float": ("[sampling]\ntop_p = 1e999", "must be a number"),
    "no number": ("[sampling]\ntop_p = nan", "must be a number"),
    "a day": ("x = 2021-13-45", "Expected"),
    "a control character": ("\0", "Invalid"),
    "a text without its end": ('system = """' + '\\"""' * 1000, ""),
    "a long name": ('"' + "a" * 100_000 + '" = 1', "not a known key"),
    "the name of a frame with a zero byte": ('frame = "\\u0000.jinja"', "null"),
    "a frame of nobody": ('frame = "~nosuchuser/x.jinja"', "home"),
    "a frame in a loop of links": ('frame = "loop.jinja"', "symbolic links"),
    "a frame without an end": ('frame = "zero.jinja"', "not a regular file"),
    "a frame that nobody writes": ('frame = "pipe.jinja"', "not a regular file"),
    "a frame's long name": (f'frame = "{"a" * 5000}.jinja"', "5,006 characters"),
    "a frame that is not there": (f'frame = "{"a" * 5000}"', "no frame"),
    "a name longer than a disk's": (f'frame = "{"a" * 300}.jinja"', "too long"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With what may lie in the place of a file."""
    (tmp_path / "loop.jinja").symlink_to("loop.jinja")
    (tmp_path / "zero.jinja").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe.jinja")
    return tmp_path


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_prompt_is_named_with_the_reason(kind, folder):
    text, reason = BROKEN[kind]
    path = folder / "broken.toml"
    path.write_text(text, "utf-8")
    for loader in (load_prompt, lint):
        with pytest.raises(PromptError) as raised:
            loader(str(path))
        assert str(path) in raised.value.message
        assert reason in raised.value.message
        assert len(raised.value.message) < 1500
        assert "\n" not in raised.value.message


@pytest.mark.parametrize("kind", BROKEN)
def test_a_frames_header_has_the_same_limits(kind):
    text, reason = BROKEN[kind]
    if reason in ("deep", "parts", "100 characters"):
        with pytest.raises(PromptError, match=reason):
            parse_frame("x", f"{{#- {text} -#}}")


def test_what_stands_in_texts_and_comments_is_not_counted():
    inside = "[" * 50 + "{" * 50 + "1" * 500 + "." * 500
    for text in (
        f'x = "{inside}\\"{inside}"',
        f"x = '{inside}'",
        f'x = """{inside}""\\"""{inside}"""""',
        f"x = '''{inside}''{inside}'''''",
        f'x = """\n{inside}\\\n   # {inside}"""',
        f'# {inside}\nx = "{inside}" # {inside}',
        f'"{inside}" = "{inside}"',
    ):
        table = parse_toml(text + '\ny = "last"')
        assert inside in [*table.values(), *table][0]
        assert table["y"] == "last"


def test_what_the_limits_allow():
    depth, parts = "[" * MAX_DEPTH + "]" * MAX_DEPTH, ".".join("a" * MAX_PARTS)
    assert parse_toml(f"x = {depth}\n{parts} = {'1' * MAX_WORD}\n")["x"]
    for wrong in (f"x = [{depth}]", f"b.{parts} = 1", "x = 1" + "1" * MAX_WORD):
        with pytest.raises(TOMLError):
            parse_toml(wrong)
    assert len(parse_toml("x = [\n" + "[1.5, 2.5],\n" * 1000 + "]")["x"]) == 1000


@pytest.mark.parametrize("name", LOADERS)
def test_only_ordinary_files_of_some_size_are_read(name, tmp_path):
    path = tmp_path / name
    path.symlink_to("/dev/zero")
    with pytest.raises(PromptError, match="not a regular file"):
        LOADERS[name](str(path))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(PromptError, match="not a regular file"):
        LOADERS[name](str(path))
    path.unlink()
    with path.open("wb") as file:
        file.truncate(1 << 40)  # as large as a disk, and takes no room on it
    with pytest.raises(PromptError, match="larger than"):
        LOADERS[name](str(path))
    path.write_bytes("é".encode("latin-1"))
    with pytest.raises(PromptError, match=r"not valid UTF-8 \(byte 0\)"):
        LOADERS[name](str(path))
    path.write_text("A prompt", encoding="utf-16-le")
    with pytest.raises(PromptError) as raised:
        LOADERS[name](str(path))
    assert "iconv" in raised.value.hint
    path.unlink()
    with pytest.raises(PromptError):
        LOADERS[name](str(path))


@pytest.mark.parametrize("name", ["frame.jinja", "judge.jinja"])
@pytest.mark.parametrize(
    "wrong", ["~nosuchuser/", "a\0", "a" * 300, "b" * 5000, "nowhere/", "loop/"]
)
def test_a_name_that_is_no_files(name, wrong, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    with pytest.raises(PromptError) as raised:
        LOADERS[name](wrong + name)
    assert len(raised.value.message) < 1000


def test_a_folder_and_a_socket_are_no_texts(tmp_path):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        for path in (tmp_path, tmp_path / "s"):
            with pytest.raises(PromptError, match=r"The text .* (not a regular|cannot be read)"):
                read_text(path, "The text", 10)
    path = tmp_path / "ten"
    path.write_bytes(b"\r\n345\r789\n")
    assert read_text(path, "The text", 10) == "\r\n345\r789\n"
    with pytest.raises(PromptError, match="larger than 9 bytes"):
        read_text(path, "The text", 9)
    assert user_path("ten", "The text", tmp_path) == path


def test_a_judges_template_must_show_what_is_judged(tmp_path):
    path = tmp_path / "judge.jinja"
    for case, wrong in [
        ("{{ query }} {{ answer }} {{ other }}", ""),
        ("{{ query }} {{ other }}", "leaves out the answer"),
        ("{{ query }} {{ answer | upper }} {{ other }}", "leaves out the answer, or changes it"),
        ("{{ query }} {{ answer }}", "leaves out the other"),
    ]:
        path.write_text(RUBRIC.replace("{{ query }}", case))
        template = judge_template(str(path))
        if wrong:
            with pytest.raises(PromptError, match=wrong):
                template.case(Case("Why?", "So it is.", "It is not."))
        else:
            assert "So it is. It is not." in template.case(Case("Why?", "So it is.", "It is not."))


def test_a_byte_order_mark_is_no_part_of_a_text(tmp_path):
    texts = {
        "frame.jinja": FRAME,
        "judge.jinja": RUBRIC,
        "talk.json": '["q", "a"]',
        "prompt.toml": 'system = "s"',
        "prompt.txt": "# Query:\n```\nq\n```\n\n# Answer:\n```\na\n```\n",
    }
    for name, text in texts.items():
        path = tmp_path / name
        for form in (text.encode(), b"\xef\xbb\xbf" + text.encode()):
            path.write_bytes(form)
            assert LOADERS[name](str(path))
    for name in ("frame.jinja", "judge.jinja"):  # as some editors write them
        (tmp_path / name).write_bytes(texts[name].replace("\n", "\r\n").encode())
        assert "\r" not in LOADERS[name](str(tmp_path / name)).source  # type: ignore[attr-defined]


@pytest.mark.slow
def test_the_limits_have_room_for_what_is_real(tmp_path):
    biggest = max(path.stat().st_size for path in prompt_files().values())
    assert biggest * 50 < MAX_PROMPT_BYTES
    path = tmp_path / "x.json"
    path.write_text(json.dumps(["q", "a" * (MAX_HISTORY_BYTES - 100)]), "utf-8")
    assert len(read_history(path)) == 1


@pytest.fixture
def broken_prompts(folder: Path) -> set[str]:
    """The user's own prompts: one that is right among many that are not."""
    own = Path(os.environ["URIAL_CONFIG_DIR"]) / "prompts"
    own.mkdir(parents=True)
    for number, (text, _) in enumerate(BROKEN.values()):
        (own / f"broken-{number}.toml").write_text(text, "utf-8")
    (own / "zero.toml").symlink_to("/dev/zero")
    os.mkfifo(own / "pipe.toml")
    (own / "folder.toml").mkdir()
    (own / "endless.jinja").write_text(
        FRAME.replace("{{ answer }}", "{% for _ in range(10**9) %}{% endfor %}"), "utf-8"
    )
    example = '[[examples]]\nquery = "q"\nanswer = "a"\n'
    (own / "endless.toml").write_text('frame = "endless.jinja"\n' + example, "utf-8")
    (own / "mine.toml").write_text('description = "Mine"\n' + example, "utf-8")
    return {path.stem for path in own.glob("*.toml")} - {"mine", "endless"}


def test_broken_prompts_are_a_line_each_and_the_others_are_listed(broken_prompts):
    shown = CliRunner().invoke(cli, ["prompts", "list", "--json"])
    assert shown.exit_code == 0
    names = {row["name"] for row in json.loads(shown.stdout)}
    assert names == set(prompt_files()) - broken_prompts - {"endless"}
    warnings = shown.stderr.splitlines()
    assert len(warnings) == len(broken_prompts) + 1
    for line in warnings:
        assert line.startswith("Warning: The ")
    shown = CliRunner().invoke(cli, ["prompts", "list"])
    assert len(shown.stderr.splitlines()) == len(broken_prompts)
    assert "mine " in shown.stdout


def test_models_show_tells_which_prompts_fit_among_broken_ones(broken_prompts):
    class Vocabulary:
        def tokenize(self, text: str) -> list[str]:
            return text.split()

    found = {row.name: row.tokens for row in _prompts(Vocabulary(), 4096)}  # type: ignore[arg-type]
    assert {name for name, tokens in found.items() if tokens is None} == {
        *broken_prompts,
        "endless",
    }
    assert found["mine"]


def at_terminal(talk: Conversation) -> Repl:
    """Where a person types, who may name files."""
    loop = repl(talk)
    loop._interactive = True
    return loop


@pytest.mark.parametrize(
    "kind", ["lists", "an integer", "a frame of nobody", "a frame without an end"]
)
def test_a_broken_prompt_does_not_end_a_conversation(kind, folder, capsys):
    path = folder / "broken.toml"
    path.write_text(BROKEN[kind][0], "utf-8")
    talk = conversation()
    lines = ("Hi", f"/prompt {path}", "Code?")
    assert [at_terminal(talk).handle(line) for line in lines] == [True, False, True]
    out = capsys.readouterr()
    assert out.out.startswith("Hello!\nLook:")
    assert str(path) in out.err
    assert len(talk.turns) == 2


def test_sampling_that_is_refused_leaves_the_prompt_as_it_was(tmp_path, capsys):
    path = tmp_path / "hot.toml"
    path.write_text("[sampling]\ntemperature = -1", "utf-8")
    talk = conversation()
    before = talk.asker.prompt
    assert not at_terminal(talk).handle(f"/prompt {path}")
    assert "--temp -1 must be" in capsys.readouterr().err
    assert talk.asker.prompt is before


def test_lint_of_a_layout_in_a_frame_without_markers(tmp_path):
    path = tmp_path / "x.toml"
    path.write_text(
        'frame = "raw"\nsystem = "s\\n"\n[[examples]]\nquery = "q"\nanswer = "a"\n'
        'layout = ["", " ", "\\n"]\n',
        "utf-8",
    )
    assert lint(str(path)) == []
