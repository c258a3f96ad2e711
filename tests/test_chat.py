"""Conversations, on a model whose answers are known: whole transcripts, and what the model saw."""

from __future__ import annotations

import json

import pytest

from tests.conversations import ASK, PROMPT, conversation, repl
from urial_local.assistant import Settings
from urial_local.base.errors import ContextOverflow, Interrupted
from urial_local.base.terminal import printable
from urial_local.prompting.prompts import Turn
from urial_local.runtime.sequences import Aborted
from urial_local.tasks.chat import Conversation


def run(lines: str, talk: Conversation | None = None, file_commands: bool = True) -> bool:
    source = (line.encode() + b"\n" for line in lines.split("\n"))
    return repl(talk or conversation(), file_commands).pipe(source)


def test_a_transcript(capsys):
    talk = conversation()
    assert run("Hi\nCode?\n/undo\n/retry\n/bye\nnot read", talk)
    out = capsys.readouterr()
    assert out.out == "Hello!\nLook:\n\n```py\nx = 1\n```\n\nDone.\nHello!\n"
    assert out.err == "Took back: Code?\n"
    assert [t.query for t in talk.turns] == ["Hi"]


def test_history_becomes_further_examples():
    talk = conversation()
    assert "".join(talk.ask("Hi")) == "Hello!"
    assert "".join(talk.ask("Code?")) == "Look:\n\n```py\nx = 1\n```\n\nDone."
    seen = bytes(talk.engine.decoder.tokens(1)).decode()  # type: ignore[attr-defined]
    assert seen.startswith(
        PROMPT.prefix() + ASK.format("Hi") + "Hello!\n```\n" + ASK.format("Code?")
    )
    assert talk.last is not None
    assert talk.last.cached_tokens > len(PROMPT.prefix()) + len(ASK.format("Hi"))


def test_questions_of_several_lines_and_slashes(capsys):
    assert run('"""two\nlines"""\n//slash\n\n   \n')
    assert capsys.readouterr().out == "Both read.\nA slash.\n"


def test_commands_and_their_errors(capsys, tmp_path):
    talk = conversation()
    ok = run(
        "Hi\n/set temp 0.5\n/set seed 7\n/show settings\n/set warmth 3\n/set temp hot\n/prompt\n"
        "/prompt nowhere\n/undone\n/show history\n/help\n/retry\n/clear\n/undo",
        talk,
    )
    out = capsys.readouterr()
    assert not ok, "some commands failed, and the exit code says so"
    assert "temp            0.5\n" in out.out
    assert "> Hi\nHello!\n" in out.out
    assert "/save FILE" in out.out
    for complaint in (
        "/set does not know 'warmth'",
        "/set temp takes a number, not 'hot'",
        "There is no prompt 'nowhere'",
        "There is no command /undone",
        "Did you mean undo?",
        "Prompt 'test'",
        "There is nothing to take back.",
    ):
        assert complaint in out.err
    assert talk.asker.sampling.seed == 8, "/retry takes the next seed"


def test_save_and_load(capsys, tmp_path):
    path = tmp_path / "talk.json"
    assert run(f"Hi\nCode?\n/save {path}")
    data = json.loads(path.read_text())
    assert (data["version"], data["model"], data["prompt"]) == (1, "fake", "test")
    talk = conversation()
    assert run(f"/load {path}\nHi", talk)
    assert [t.query for t in talk.turns] == ["Hi", "Code?", "Hi"]
    assert not run(f"/save {tmp_path}/no/such/folder.json\n/load {tmp_path}/none.json\n/save")
    assert "could not be written" in capsys.readouterr().err


def test_raw_shows_exactly_what_the_model_would_see(capsys):
    run("Hi\n/raw Next")
    expected = PROMPT.prefix() + ASK.format("Hi") + "Hello!\n```\n" + ASK.format("Next")
    assert capsys.readouterr().out == "Hello!\n" + expected + "\n"


def test_the_oldest_turns_go_and_the_prefix_stays(capsys):
    talk = conversation(cells=400, max_tokens=60)
    assert run("\n".join(["Hi"] * 12), talk)
    out = capsys.readouterr()
    assert out.out == "Hello!\n" * 12
    assert "no longer sent" in out.err
    assert len(talk.turns) == 12, "what is no longer sent is still there to save"
    assert talk.start > 0
    assert talk.pending("x").text.startswith(PROMPT.prefix() + "\n# Query:")
    assert talk.context_used <= 400


def test_a_question_too_long_is_refused_before_decoding(capsys):
    talk = conversation(cells=400)
    decoded = talk.engine.decoder.decoded  # type: ignore[attr-defined]
    with pytest.raises(ContextOverflow, match="400: no room"):
        list(talk.ask("long " * 100))
    assert talk.engine.decoder.decoded == decoded  # type: ignore[attr-defined]
    assert "".join(talk.ask("Hi")) == "Hello!"


def test_a_stopped_turn_is_not_kept_and_the_next_answer_is_the_same():
    talk = conversation()
    list(talk.ask("Hi"))
    talk.engine.decoder.abort_after = 3  # type: ignore[attr-defined]
    with pytest.raises(Aborted):
        list(talk.ask("Code?"))
    talk.engine.decoder.abort_after = -1  # type: ignore[attr-defined]
    assert [t.query for t in talk.turns] == ["Hi"]
    fresh = conversation()
    list(fresh.ask("Hi"))
    assert "".join(talk.ask("Code?")) == "".join(fresh.ask("Code?"))


def test_stopping_a_pipe_ends_it():
    talk = conversation()
    talk.engine.decoder.abort_after = 0  # type: ignore[attr-defined]
    with pytest.raises(Interrupted):
        run("Hi\nHi", talk)


def test_invalid_utf8_fails_its_line_only(capsys):
    assert not repl(conversation()).pipe([b"\xff\n", b"Hi\n"])
    out = capsys.readouterr()
    assert out.out == "Hello!\n"
    assert "Line 1" in out.err
    assert not repl(conversation()).pipe([b'"""never\n', b"ends\n"])
    assert "has no end" in capsys.readouterr().err


def test_a_line_with_a_nul_is_left_out(capsys):
    talk = conversation()
    assert not repl(talk).pipe([b"a\0b\n", b"Hi\n"])
    assert [turn.query for turn in talk.turns] == ["Hi"]
    assert "Line 1 of standard input holds a NUL" in capsys.readouterr().err


def test_a_terminal_gets_no_control_characters():
    assert printable("a\x1b]52;c;ZXZpbA==\x07b\x9b31mc\n\td é😀") == "a]52;c;ZXZpbA==b31mc\n\td é😀"
    assert printable("\x00\x08\r\x7f\u202e\u2066x") == "x"


def test_a_failed_load_or_retry_loses_nothing(capsys, tmp_path):
    talk = conversation()
    assert not run(f"Hi\n/load {tmp_path}/none.json", talk)
    assert [t.query for t in talk.turns] == ["Hi"]
    talk.engine.decoder.abort_after = 0  # type: ignore[attr-defined]
    face = repl(talk)
    face._last_question = "Hi"
    with pytest.raises(Interrupted):
        face.handle("/retry")
    assert [(t.query, t.answer) for t in talk.turns] == [("Hi", "Hello!")]


@pytest.mark.parametrize("name", [".", "/", "a\0b", "~no-such-user-here/x", "x" * 300, "/dev/null"])
def test_names_that_are_no_files(capsys, name):
    talk = conversation()
    assert not run(f"Hi\n/save {name}\n/load {name}", talk)
    assert capsys.readouterr().err.count("Error: ") == 2
    assert len(talk.turns) == 1


def test_save_follows_the_users_own_link_and_leaves_no_part(tmp_path):
    assert run(f"/save {tmp_path}/real.json")
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    assert run(f"Hi\n/save {tmp_path}/link.json")
    assert (tmp_path / "link.json").is_symlink()
    assert "Hello!" in (tmp_path / "real.json").read_text()
    assert {p.name for p in tmp_path.iterdir()} == {"real.json", "link.json"}


def test_lines_of_a_pipe_touch_no_files(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rc").write_text("export A=1\n")
    assert run(f"Hi\n/save {tmp_path}/talk.json")
    (tmp_path / "own").write_text('system = "S"\n')
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    capsys.readouterr()
    talk = conversation()
    for line in (f"/save {tmp_path}/rc", "/save", f"/save {tmp_path}/new.json", "/save  rc",
                 f"/load {tmp_path}/talk.json", f"/prompt {tmp_path}/own.toml", "/prompt own",
                 "/prompt ~/own.toml", "/prompt own.toml/../own"):  # fmt: skip
        assert not run(line, talk, file_commands=False), line
        assert "read and write no files" in capsys.readouterr().err
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before
    assert talk.turns == []
    assert talk.asker.prompt is PROMPT
    assert run("/prompt urial-1\n/set seed 3\n/prompt\n/clear", talk, file_commands=False)
    assert talk.asker.prompt.name == "urial-1", "commands that touch no files of others go on"


@pytest.mark.parametrize(
    ("text", "ours"),
    [
        ("export A=1\n", False),
        ('{"a": 1}', False),
        ('["a question", "an answer"]', False),
        ('{"version": 1, "model": "m", "prompt": "p", "turns": 3}', False),
        ('{"version": 1, "model": "m", "prompt": "p", "turns": []}', True),
        ("", True),
    ],
)
def test_save_replaces_only_what_save_wrote(capsys, tmp_path, monkeypatch, text, ours):
    path = tmp_path / "file"
    path.write_text(text)
    path.chmod(0o600)
    assert run(f"Hi\n/save {path}") is ours, "nobody is there to be asked"
    assert (path.read_text() == text) is not ours
    assert path.stat().st_mode & 0o777 == 0o600, "a private file stays private"
    face = repl(conversation())
    face._interactive = True
    asked = []
    for answer in (False, True):
        path.write_text(text)
        monkeypatch.setattr("click.confirm", lambda what, a=answer, **_: asked.append(what) or a)
        assert face.handle(f"/save {path}") is (ours or answer)
        assert len(asked) == (0 if ours else 1 + answer)
        assert (path.read_text() == text) is not (ours or answer)


def test_save_follows_no_link_that_it_does_not_see(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "talk.json.part").symlink_to(victim)
    (tmp_path / "away.json").symlink_to(tmp_path / "not-there")
    assert run(f"Hi\n/save {tmp_path}/talk.json")
    assert not run(f"/save {tmp_path}/away.json")
    assert victim.read_text() == "mine"
    assert not (tmp_path / "not-there").exists()


def test_blocks_of_code_with_docstrings(capsys):
    code = 'What is this?\ndef f():\n    """Doc."""\n    """\n    More.\n    """\n    return 1'
    talk = conversation()
    run(f'"""\n{code}\n"""\nHi', talk)
    assert [t.query for t in talk.turns] == [code, "Hi"]
    for block in ('"""two\nlines"""', '"""\ntwo\nlines\n"""', '"""  \ntwo\nlines\n"""  '):
        talk = conversation()
        assert run(block, talk)
        assert [t.query for t in talk.turns] == ["two\nlines"]
    assert not run('"""\nan end that is none"""')
    assert "has no end" in capsys.readouterr().err


def test_half_characters_in_a_conversation_are_refused(capsys, tmp_path):
    (tmp_path / "t.json").write_text('["a\\ud800", "b"]')
    assert not run(f"/load {tmp_path}/t.json")


def test_a_bad_byte_inside_a_block_is_named_by_its_line(capsys):
    lines = [b"Hi\n", b'"""a\n', b"\xff\n", b'b"""\n', b"Hi\n"]
    assert not repl(conversation()).pipe(lines)
    out = capsys.readouterr()
    assert out.out == "Hello!\nHello!\n"
    assert "Line 3" in out.err


def test_raw_after_dropped_turns_is_what_would_be_asked():
    talk = conversation(cells=400, max_tokens=60)
    for _ in range(6):
        list(talk.ask("Hi"))
    expected, _ = talk.asker.fit("Hi", talk.turns[talk.start :], 400)
    assert talk.pending("Hi").text.encode() == bytes(expected.tokens)
    list(talk.ask("Hi"))
    assert talk.seen.encode() == bytes(expected.tokens)


def test_a_prompt_chosen_later_keeps_the_users_frame_and_sampling(capsys, tmp_path):
    (tmp_path / "p.toml").write_text(
        'system = "S"\n[sampling]\ntemperature = 0.7\ntop_k = 5\nmax_tokens = 9\n'
    )
    talk = conversation()
    face = repl(talk)
    face.session.chosen, face.session.frame = Settings(sampling={"top_k": 3}), "user-assistant"
    face.handle("/set seed 4")
    assert face.handle(f"/prompt {tmp_path}/p.toml")
    sampling = talk.asker.sampling
    assert (sampling.temperature, sampling.top_k, sampling.seed) == (0.7, 3, 4)
    assert talk.asker.max_tokens == 9
    assert "# User:" in talk.pending("x").text
    assert not face.handle("/prompt " + "x" * 300)
    assert not face.handle("/set penalty-scope \u00b2")
    assert not face.handle("/set max-tokens 0")


def test_dropping_many_turns_tokenises_few_times(monkeypatch):
    talk = conversation(cells=400, max_tokens=60)
    talk.turns = [Turn(f"q{i}", "a" * 20) for i in range(500)]
    calls = []
    tokenize = talk.asker.model.vocab.tokenize
    monkeypatch.setattr(
        talk.asker.model.vocab, "tokenize", lambda *a, **k: calls.append(1) or tokenize(*a, **k)
    )
    request, kept = talk.asker.fit("Hi", talk.turns, 400)
    assert len(request.tokens) <= 300
    assert kept == tuple(talk.turns[-len(kept) :])
    assert len(calls) < 20
