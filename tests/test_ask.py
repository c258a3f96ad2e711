"""`ask` and `chat` as a user meets them: streams, exit codes, messages."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.command import COMMAND, ask, fails, urial


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
    assert "--prompt urial" in aligned.stderr
    assert urial("ask", "-m", tiny_chat, "-p", "chat", "-n", "1", "Hi").stderr == ""
    assert "carries a chat template" in urial("ask", "-m", "demo-aligned", "-n", "1", "Hi").stderr
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
    assert "--temp" in fails(2, *base, "-p", "raw", "--temp", "-1", "hi")
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
    command = [*COMMAND, "ask", "-m", tiny_llama, "-p", "raw", "-n4", "a"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert b"No space left" in done.stderr


def test_options_that_make_no_sense(tiny_llama):
    base = ("ask", "-m", str(tiny_llama), "-p", "zero-shot")
    assert "no answer" in fails(2, *base, "-n", "0", "hi")
    assert "--stop needs a text" in fails(2, *base, "--stop", "", "hi")
    assert "--penalty-scope" in fails(2, *base, "--penalty-scope", "²", "hi")
    assert "neither auto nor all" in fails(2, *base, "-ngl", "²", "hi")
    assert "-c needs -m" in fails(2, "prompts", "lint", "urial", "-c", "10")
    assert "no model 'dmo'" in fails(1, "ask", "-m", "dmo", "hi")
    assert "URIAL" not in urial(*base, "-b", "1", "-n", "4", "hi").stderr
    assert urial(*base, "-b", "1", "-n", "4", "hi").returncode == 0
    assert "no room" in fails(1, *base, "-c", "1", "hi")


def test_a_file_that_breaks_llama_cpp_is_a_clear_error(tiny_llama, tmp_path):
    """Well-formed and absurd: llama.cpp aborts, which must not end our process."""
    data = bytearray(tiny_llama.read_bytes())
    at = data.index(b"llama.block_count") + len("llama.block_count") + 4
    data[at : at + 4] = bytes(4)
    (tmp_path / "bad.gguf").write_bytes(data)
    said = fails(1, "ask", "-m", tmp_path / "bad.gguf", "-p", "raw", "hi")
    assert "crashes (SIGABRT)" in said
    assert "download it again" in said


def test_names_in_files_cannot_drive_the_terminal(tmp_path):
    from tests.tiny_gguf import write_llama

    plain = "{% for m in messages %}{{ m.content }}{% endfor %}"
    path = write_llama(tmp_path / "m.gguf", name="\x1b]0;HACKED\x07evil", chat_template=plain)
    done = urial("ask", "-m", path, "-c", "8192", "-n", "1", "hi")
    assert "evil" in done.stderr
    assert "\x1b]" not in done.stderr


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


ASK = "```\n{}\n```\n\n# Answer:\n```\n"


def test_an_answer_ends_where_the_frame_does(scripted):
    scripted({ASK.format("Hi"): "Hello!\n```\n\n# Query:\n```\nAnd more"})
    done = urial("ask", "-p", "zero-shot", "-m", "demo", "Hi")
    assert (done.returncode, done.stdout, done.stderr) == (0, "Hello!\n", "")
    found = json.loads(urial("ask", "-p", "zero-shot", "-m", "demo", "--json", "Hi").stdout)
    assert (found["text"], found["finish_reason"]) == ("Hello!", "frame")
    assert len(found["model"]["fingerprint"]) == 32
    cut = urial("ask", "-p", "zero-shot", "-m", "demo", "--json", "-n", "3", "Hi").stdout
    assert (json.loads(cut)["text"], json.loads(cut)["finish_reason"]) == ("Hel", "length")


def test_chat_shows_the_model_what_was_said(scripted):
    """The second question is known only together with the first one's answer."""
    first = ASK.format("Hi")
    second = "Hello!\n```\n\n# Query:\n" + ASK.format("Why?")
    scripted({first: "Hello!\n```\n", second: "Because.\n```\n"})
    done = urial("chat", "-p", "zero-shot", "-m", "demo", stdin=b"Hi\nWhy?\n/undo\n/bye\nHi\n")
    assert (done.returncode, done.stdout) == (0, "Hello!\nBecause.\n")
    assert done.stderr == "Took back: Why?\n"


def test_a_model_that_answers_nothing(scripted):
    scripted({})
    done = urial("ask", "-p", "raw", "-m", "demo", "Hi")
    assert (done.returncode, done.stdout.strip()) == (0, "")
