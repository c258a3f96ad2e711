"""Every capability on real models, as a user would try it: cold, warm, at 1 and 8 rows.

`make real-models` fetches them; without them these tests skip.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.adapters import write_lora
from tests.command import process, urial
from urial_local.base.gguf_parts import read_model
from urial_local.runtime.alphabet import Alphabet
from urial_local.runtime.forms import Choice, Form, Literal, Text
from urial_local.runtime.model import Model
from urial_local.runtime.open import RuntimeOptions, open_engine
from urial_local.runtime.rows import Request
from urial_local.runtime.sequences import BatchToken, Sequences
from urial_local.runtime.shift_rows import shift_rows_numpy
from urial_local.tasks.model_file import ModelFile, model_file
from urial_local.tasks.prompted import PromptedModel

pytestmark = pytest.mark.real
QUESTIONS = ["How do I make soup?", "Where can I find a fox?", "What is tea?"]


def asked(model: Path, question: str, *more: str, **env: str) -> dict:
    done = process("ask", "-m", model, "-n", "16", "--json", *more, question, **env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def dataset(tmp_path) -> Path:
    path = tmp_path / "questions.txt"
    path.write_text("\n".join(QUESTIONS) + "\n")
    return path


def rows_of(run: Path) -> dict[str, dict]:
    """Rows by id, without what is measured rather than computed."""
    measured = ("seconds", "cached_tokens", "number", "batch_shape")
    lines = (run / "rows.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return {r["id"]: {k: v for k, v in r.items() if k not in measured} for r in rows}


def test_ask_cold_and_warm(real_base):
    """The second start finds the prefix on disk, windows and all, and says the same."""
    cold, warm = (asked(real_base, "What is tea?", "-p", "urial") for _ in range(2))
    assert cold["text"] == warm["text"]
    assert cold["cached_tokens"] == 0
    assert warm["cached_tokens"] > 512, "longer than the window"
    plain = asked(real_base, "What is tea?", "-p", "urial", "--no-disk-cache")
    assert plain["text"] == cold["text"]


def test_chat_after_another_prompt_equals_ask(real_base):
    """urial-1 begins as urial does; what the disk holds of that does not reach back so far."""
    lines = b"What is tea?\n/clear\n/prompt urial-1\nHow do I plant a tree?\n"
    chat = ("chat", "-m", real_base, "-p", "urial", "-n", "12")
    answers = [urial(*chat, stdin=lines).stdout.splitlines()[-1] for _ in range(2)]
    assert answers[0] == answers[1]
    plain = asked(real_base, "How do I plant a tree?", "-p", "urial-1", "-n", "12")
    assert plain["text"].splitlines()[-1] == answers[0]


def test_an_aligned_model_answers_in_its_template(real_aligned):
    found = asked(real_aligned, "Hi", "-p", "chat", "-n", "40")
    assert found["text"].startswith("Hello!")
    assert found["finish_reason"] == "eos"


@pytest.mark.parametrize("sampling", [(), ("--temp", "0.8", "--top-p", "0.9", "--seed", "3")])
def test_generate_in_a_batch_answers_all(real_base, dataset, tmp_path, sampling):
    run = tmp_path / "run"
    command = ("generate", dataset, "-m", real_base, "-p", "urial-1", "-n", "12", "-np", "8")
    done = urial(*command, *sampling, "-o", run)
    assert done.returncode == 0, done.stderr
    rows = rows_of(run)
    assert len(rows) == 3
    assert all(r["turns"][0]["answer"] if "turns" in r else r["answer"] for r in rows.values())
    again = urial(*command, *sampling, "-o", run)
    assert rows_of(run) == rows
    assert "3 rows are already there" in again.stderr


def test_generate_exact_is_the_same_on_every_start(real_base, dataset, tmp_path):
    """Cold, warm, and row by row as shards would have it."""

    def run(name: str, *more: str) -> dict[str, dict]:
        command = ("generate", dataset, "-m", real_base, "-p", "urial", "-n", "16", "--exact")
        done = process(*command, *more, "-o", tmp_path / name)
        assert done.returncode == 0, done.stderr
        return rows_of(tmp_path / name)

    cold, warm = run("cold"), run("warm")
    assert cold == warm
    assert run("none", "--no-disk-cache") == cold
    alone = {}
    for name in cold:
        alone |= run(f"only-{name}", "--ids", name)
    assert alone == cold


def test_shift_against_itself_is_zero_and_the_same_on_every_start(real_base, dataset, tmp_path):
    """One model on both sides: KL 0 in the same prompt, and the same numbers cold and warm."""
    found = []
    for name in ("cold", "warm"):
        done = process(
            *("shift", dataset, "--base", real_base, "--aligned", real_base, "-n", "12"),
            *("--aligned-prompt", "urial-1", "--base-prompt", "urial-1", "--base-prompt", "urial"),
            *("-o", tmp_path / name),
        )
        assert done.returncode == 0, done.stderr
        found.append(rows_of(tmp_path / name))
    cold, warm = found
    assert cold == warm
    for row in cold.values():
        same = row["contexts"]["urial-1"]
        assert max(same["kl_base_aligned"]) == 0
        assert max(row["contexts"]["urial"]["kl_base_aligned"]) > 0


def test_shift_statistics_equal_float64_arithmetic(real_base, dataset, tmp_path):
    """A row's numbers, from raw logits of a fresh context in batches of the same shape."""
    run = tmp_path / "run"
    done = urial(
        *("shift", dataset, "--base", real_base, "--aligned", real_base, "-n", "10"),
        *("--aligned-prompt", "zero-shot", "--base-prompt", "urial-1", "--kv-type", "f32"),
        *("--limit", "1", "-o", run),
    )
    assert done.returncode == 0, done.stderr
    (row,) = rows_of(run).values()
    answer = row["answer_ids"]
    from urial_local.prompting.library import load_prompt

    sides = {}
    with Model(real_base) as model:
        for name in ("urial-1", "zero-shot"):
            request = PromptedModel(model, load_prompt(name)).request(QUESTIONS[0])
            tokens = list(request.tokens)
            sequences = Sequences(model, cells=1024, n_seq=1, kv_type="f32", unified=False)
            for piece in (range(request.shared), range(request.shared, len(tokens) - 1)):
                batch = [BatchToken(tokens[i], i, 0, False) for i in piece]
                for start in range(0, len(batch), sequences.batch_size):
                    sequences.decode(batch[start : start + sequences.batch_size])
                if piece.start == 0 and len(piece) >= 64:
                    sequences.settle(0, keep=False)
            chunk = [tokens[-1], *answer[:-1]]
            at = len(tokens) - 1
            logits = sequences.decode([BatchToken(t, at + i, 0, True) for i, t in enumerate(chunk)])
            sides[name] = logits.copy()
            sequences.close()
    oracle = shift_rows_numpy(sides["urial-1"], sides["zero-shot"], np.array(answer, np.int32))
    got = row["contexts"]["urial-1"]
    assert got["base_rank"] == oracle.base_rank.tolist()
    assert got["base_top_ids"] == oracle.base_top_ids.tolist()
    for name in ("base_logprob", "kl_base_aligned", "kl_aligned_base", "js", "base_entropy"):
        np.testing.assert_allclose(got[name], getattr(oracle, name), rtol=2e-5, atol=1e-6)


def test_a_form_is_filled_in_a_byte_pair_vocabulary(real_aligned):
    with open_engine(real_aligned, RuntimeOptions(ctx_size=512)) as (model, engine):
        parts = (
            Literal('{"reason": "'),
            Text("reason", 8),
            Literal('", "score": "'),
            Choice("score", ("1", "2", "3", "4", "5")),
            Literal('"}'),
        )
        form = Form(Alphabet(model.vocab), parts)
        prompt = model.vocab.tokenize("Is water wet? Answer in JSON:\n").tolist()
        done = engine.complete([Request([*prompt, *form.opening], form=form)])[0]
    record = json.loads('{"reason": "' + done.text if "{" not in done.text else done.text)
    assert set(record) == {"reason", "score"}
    assert done.finish_reason == "form"
    score = done.fields[1]
    assert score.text in "12345"
    assert sum(score.probabilities.values()) == pytest.approx(1)


@pytest.mark.parametrize("judge", ["real_base", "real_aligned"])
def test_judgements_are_the_same_on_every_start(judge, request, dataset, tmp_path):
    """Cold, warm, without a cache, and resumed: the same records and expected scores. The base
    model stands in for a judge whose layers are windowed, over a rubric longer than the window."""
    answers = tmp_path / "answers.json"
    rows = [{"id": q[:5], "query": q, "answer": f"It is {q[-5:]}"} for q in QUESTIONS]
    answers.write_text(json.dumps(rows))
    command = ("evaluate", answers, "--judge", request.getfixturevalue(judge))
    command = (*command, "--exact", "--expected")

    def judged(name: str, *more: str) -> dict[str, dict]:
        done = process(*command, "--reason-tokens", "8", *more, "-o", tmp_path / name)
        assert done.returncode == 0, done.stderr
        return rows_of(tmp_path / name)

    cold = judged("cold")
    assert all(row["expected"] for row in cold.values())
    assert judged("warm") == cold
    assert judged("none", "--no-disk-cache") == cold
    judged("resumed", "--limit", "1")
    assert judged("resumed") == cold


def test_a_guide_of_another_family_puts_words(real_base, real_aligned):
    """By text, since the vocabularies differ; token rules say why they cannot."""
    more = ("-p", "zero-shot", "--guide", real_aligned)
    found = asked(real_base, "What is tea?", *more)
    guide = found["guide"]
    assert 0 < guide["rate"] < 1
    assert all(top < 0.4 for top in guide["base_top"][:-1])
    assert all(0 <= a < b <= len(found["text"]) for a, b in guide["spans"])
    alone = asked(real_base, "What is tea?", "-p", "zero-shot")
    assert asked(real_base, "What is tea?", *more, "--gamma", "0")["text"] == alone["text"]
    refused = process("ask", "-m", real_base, *more, "--guide-rule", "bet", "Hi")
    assert refused.returncode != 0
    assert "vocabularies" in refused.stderr


def test_an_adapter_on_the_real_base(real_base, tmp_path):
    """Of all of its layers' matrices, beside quantised and repacked weights: half of it twice is
    the whole of it, and the base's numbers are untouched beside it."""
    names = [
        t.name for t in read_model(real_base).tensors if t.name[:4] == "blk." and len(t.shape) == 2
    ]
    made = write_lora(
        tmp_path / "a.gguf", real_base, architecture="gemma3", names=names, rank=8, size=0.05
    )
    tokens = [BatchToken(t, i, 0, True) for i, t in enumerate([2, *range(1000, 1040)])]

    def logits(file: ModelFile) -> np.ndarray:
        with file.load(0) as model:
            sequences = Sequences(model, cells=256, n_seq=1, batch=256, threads=2)
            try:
                return sequences.decode(tokens).astype(np.float64)
            finally:
                sequences.close()

    base = model_file(str(real_base))
    before = logits(base)
    with base.load(0):
        whole = logits(model_file(f"{real_base}+{made}"))
        halves = logits(model_file(f"{real_base}+{made}@0.5+{made}@0.5"))
        assert np.array_equal(logits(base), before)
    effect = np.abs(whole - before).mean()
    assert effect > 0.1
    assert np.abs(whole - halves).mean() < 0.05 * effect
