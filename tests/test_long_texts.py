"""Texts that are long or odd enough to hurt llama.cpp's tokeniser."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import gguf
import numpy as np
import pytest

from tests.tiny_gguf import write_llama
from urial_local.base.errors import ContextOverflow, TokenizeError
from urial_local.prompting.library import load_prompt
from urial_local.prompting.prompts import Turn
from urial_local.runtime import native_tokenizer
from urial_local.runtime.llama_api import lib
from urial_local.runtime.model import open_vocabulary
from urial_local.runtime.open import RuntimeOptions, open_engine
from urial_local.tasks.prompted import PromptedModel

WHOLE = gguf.TokenType.USER_DEFINED


@pytest.fixture(scope="module")
def newlines(tmp_path_factory):
    """A vocabulary in which newlines are tokens that stand for themselves, as in Gemma's."""
    special = {"\n": WHOLE, "\n\n": WHOLE, "\n\n\n": WHOLE, "th\n": WHOLE, "<end>": 0}
    path = tmp_path_factory.mktemp("long") / "newlines.gguf"
    with open_vocabulary(write_llama(path, special=special)) as vocab:
        yield vocab


@pytest.mark.parametrize("pre", ["tekken", "falcon", "gpt-4o", "deepseek-llm"])
def test_long_runs_of_one_class_do_not_overflow_the_stack(tmp_path, pre):
    with open_vocabulary(write_llama(tmp_path / "m.gguf", bpe=pre)) as vocab:
        for text in ("a", "-", "日", "\n", " "):
            assert vocab.tokenize(text * 60_000).dtype == np.int32


def test_a_run_that_no_stack_holds_is_refused_and_lines_are_not(newlines, monkeypatch):
    monkeypatch.setattr(native_tokenizer, "LONGEST_RUN", 5000)
    with pytest.raises(TokenizeError, match="6,000 characters without a space"):
        newlines.tokenize("a" * 6000)
    assert len(newlines.tokenize("a b\n" * 3000)) > 3000


@pytest.mark.parametrize(
    "text", ["\r\n", "th\n", "the rain\n\n\n\n\nate ", "a\nth\n\nb", "x<end>\n"]
)
def test_pieces_have_the_tokens_of_the_whole(newlines, monkeypatch, text):
    text *= 40
    data = text.encode()
    ids = (lib.llama_token * 2000)()
    n = lib.llama_tokenize(newlines._handle, data, len(data), ids, 2000, False, False)
    for size in (1, 2, 7, 30):
        monkeypatch.setattr(native_tokenizer, "SLICE", size)
        assert len(newlines._native._pieces(text)) > 1
        assert newlines._native.ids(text) == list(ids[:n])


@pytest.mark.slow
def test_a_text_that_cannot_fit_is_refused_before_it_is_tokenised_whole(newlines, monkeypatch):
    asked = []
    real = newlines._native._ids
    monkeypatch.setattr(
        newlines._native, "_ids", lambda text: asked.append(len(text)) or real(text)
    )
    monkeypatch.setattr(newlines, "most", 2000)
    with pytest.raises(ContextOverflow, match="400,000 characters"):
        newlines.tokenize("\r\n" * 200_000)
    assert sum(asked) < 10_000
    assert max(asked) <= native_tokenizer.SLICE
    asked.clear()
    monkeypatch.setattr(newlines, "most", 100_000)
    assert len(newlines.tokenize("\r\n" * 20_000)) == 60_001  # BOS; a blank before each piece
    assert max(asked) <= native_tokenizer.SLICE + 2


def test_an_endless_history_is_dropped_and_an_endless_question_refused(tiny_endless):
    with open_engine(tiny_endless, RuntimeOptions(disk_cache=False)) as (model, engine):
        asker = PromptedModel(model, load_prompt("zero-shot"), max_tokens=20)
        turns = [Turn("x" * 90_000, "long"), Turn("short", "too")]
        _, kept = asker.fit("And now?", turns, engine.ctx_size)
        assert kept == tuple(turns[1:])
        with pytest.raises(ContextOverflow):
            asker.fit("x" * 90_000, [], engine.ctx_size)


@pytest.mark.parametrize("left", [True, False])
def test_control_tokens_take_the_blanks_beside_them_as_in_llama_cpp(tmp_path, left):
    # llama.cpp gives the attribute by the model's name: phi-3's tokens take those on their right.
    name = "Phi-3" if not left else "plain"
    path = write_llama(tmp_path / "m.gguf", special={"<|user|>": 0, "<|endoftext|>": 0}, name=name)
    text = "the rain <|user|> \n the heat <|user|>\u00a0then"
    data = text.encode()
    ids = (lib.llama_token * 200)()
    with open_vocabulary(path) as vocab:
        n = lib.llama_tokenize(vocab._handle, data, len(data), ids, 200, True, True)
        assert vocab.tokenize(text, parse_special=True).tolist() == list(ids[:n])


def test_an_interruption_waits_for_the_native_code():
    """What is interrupted closes the vocabulary next, and llama.cpp would go on with it."""
    ended = []

    def work():
        signal.raise_signal(signal.SIGINT)  # which the main thread hears, here in its wait
        time.sleep(0.3)
        ended.append(True)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            native_tokenizer._on_stack(1 << 20, work)
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended == [True]


def test_errors_of_llama_cpp_are_kept_by_no_python():
    """In a callback in Python a KeyboardInterrupt would be dropped; and bytes may be anything."""
    code = (
        "import sys, threading, signal; from urial_local.runtime.llama_api import lib;"
        "from ctypes import CFUNCTYPE, c_char_p, c_int, c_void_p;"
        "log = CFUNCTYPE(None, c_int, c_char_p, c_void_p);"
        "from urial_local.runtime.native import native; keep = log(native.log_callback());"
        "keep(4, b'one\\xff', None); keep(2, b'two', None);"
        "from urial_local.runtime import llama_api; print(ascii(llama_api.last_errors()));"
        "print(ascii(llama_api.last_errors()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["'one\\ufffd'", "''"]
