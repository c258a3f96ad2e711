"""`shift --texts`: stretches, counts and figures against plain float64, and llama-perplexity."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.command import fails, interrupted_at_rows, killed_until_done, size_of, urial
from tests.test_shift_scoring import V, fake, oracle
from urial_local.base.errors import UsageError
from urial_local.records.datasets import Item
from urial_local.records.typed import Malformed
from urial_local.runtime.teacher_forced import TeacherForced
from urial_local.tasks.shift_texts.chunks import Chunk, cut, of_shard, reading
from urial_local.tasks.shift_texts.job import TextScorer
from urial_local.tasks.shift_texts.mining import Mined
from urial_local.tasks.shift_texts.record import ScoredText, pack, unpack
from urial_local.tasks.shift_texts.summary import FEW, summarise

BOS = 1
TALE = "the rain in Spain stays on the plain and a fox sleeps under the old oak"
WORDS = TALE.split()


class Letters:
    """Token n is the character n; BOS as asked."""

    bos = BOS

    def __init__(self, add_bos: bool = True) -> None:
        self.add_bos = add_bos

    def tokenize(self, text: str) -> np.ndarray:
        return np.array([BOS] * self.add_bos + list(text.encode()), np.int32)


def item(text: str, name: str = "t") -> Item:
    return Item(name, 0, text)


def joined(lists) -> list[int]:
    return list(itertools.chain.from_iterable(lists))


def tokens(chunks: list[Chunk]) -> list[list[int]]:
    return [c.tokens.tolist() for c in chunks]


def test_every_token_is_scored_once_in_stretches_that_fit():
    text = "abcdefghijklmnopqrstuvwxyz"
    chunks, short = cut([item(text)], Letters(), 8, "all", True)
    assert short == 0
    assert joined(tokens(chunks)) == list(text.encode())
    read = [reading(c.tokens, "all", Letters(), Letters()) for c in chunks]
    assert all(r.base == r.aligned == [BOS] for r in read)
    assert all(len(r.base) + len(r.scored) <= 8 for r in read)
    assert joined(r.scored for r in read) == list(text.encode())


def test_without_bos_the_first_token_of_a_stretch_has_nothing_before_it():
    chunks, _ = cut([item("abcdefghij")], Letters(False), 6, "all", False)
    read = reading(chunks[0].tokens, "all", Letters(False), Letters(False))
    assert (read.base, read.scored) == ([ord("a")], list(b"bcde"))
    mixed = reading(chunks[0].tokens, "all", Letters(True), Letters(False))
    assert (mixed.base, mixed.aligned) == ([BOS, ord("a")], [ord("a")])
    assert mixed.scored == list(b"bcde")


@pytest.mark.parametrize("add_bos", [True, False])
def test_second_halves_are_those_of_llama_perplexity(add_bos):
    text = "abcdefghijklmnopqrst"
    vocab = Letters(add_bos)
    whole = vocab.tokenize(text).tolist()
    chunks, _ = cut([item(text)], vocab, 9, "second-half", add_bos)
    assert tokens(chunks) == [whole[:9], whole[9:18]], "what is left over is not read"
    for chunk in chunks:
        read = reading(chunk.tokens, "second-half", vocab, vocab)
        seen = [*read.base, *read.scored]
        assert seen[0] == (BOS if add_bos else chunk.tokens[0])
        assert seen[1:] == chunk.tokens[1:].tolist()
        assert len(read.scored) == 9 - 1 - 9 // 2


def test_texts_that_are_too_short_are_told():
    with pytest.raises(UsageError, match="None of the texts has 16 tokens"):
        cut([item("abc")], Letters(), 16, "second-half", True)
    chunks, short = cut([item("abc"), item("x" * 40, "u")], Letters(), 16, "second-half", True)
    assert (len(chunks), short) == (2, 1)
    assert [(c.id, c.chunk, c.number) for c in chunks] == [("u", 0, 0), ("u", 1, 1)]
    assert [c.number for c in of_shard(chunks, (2, 2))] == [1]


def softmax64(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    x = x - x.max(-1, keepdims=True)
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def test_counts_are_those_of_plain_loops():
    rng = np.random.default_rng(3)
    base, aligned = (rng.normal(size=(40, 50)).astype(np.float32) * 3 for _ in range(2))
    aligned[:, 7] = base[:, 7] = -np.inf  # a token that no model can write
    aligned[5, 0] = np.nan
    mined = Mined(50, k=5)
    overlap = mined.add(base, aligned)
    top, positive, gain = np.zeros(50, int), np.zeros(50, int), np.zeros(50)
    for t in range(40):
        if t == 5:
            assert math.isnan(overlap[t])
            continue
        b, a = softmax64(base[t]), softmax64(aligned[t])
        assert overlap[t] == pytest.approx(np.minimum(a, b).sum(), abs=1e-6)
        d = {v: math.log(a[v] / b[v]) for v in range(50) if a[v] > 0}
        for v in sorted(d, key=lambda v: (-d[v], v))[:5]:
            top[v] += d[v] > 0
        for v, value in d.items():
            positive[v] += value > 0
        gain += a - b
    assert mined.positions == 39
    assert mined.top.tolist() == top.tolist()
    assert mined.positive.tolist() == positive.tolist()
    np.testing.assert_allclose(mined.gain, gain, atol=1e-5)


def test_ties_go_to_the_lower_id_and_the_same_model_prefers_nothing():
    base = np.zeros((1, 30), np.float32)
    aligned = base.copy()
    aligned[0, [4, 9, 20]] = 1.0
    mined = Mined(30, k=2)
    mined.add(base, aligned)
    assert np.flatnonzero(mined.top).tolist() == [4, 9]
    same = Mined(30)
    assert same.add(base, base)[0] == pytest.approx(1, abs=1e-6)
    assert not same.top.any()
    assert not same.positive.any()


def scored_row(tokens: list[int], score: str = "second-half") -> ScoredText:
    """A stretch through known logits, written and read back."""
    scorer = TextScorer(
        TeacherForced(fake("base")), TeacherForced(fake("aligned")), Letters(), Letters()
    )
    chunk = Chunk("t", 0, 0, np.array(tokens, np.int32))
    row = {"id": "t", "chunk": 0, "number": 0, **scorer.score(chunk, score)}
    return ScoredText.read(json.loads(json.dumps(row)))


def test_figures_are_those_of_float64_arithmetic():
    """Perplexities, ratios, divergences and their errors as llama-perplexity defines them, each
    written out here from the logits."""
    rng = np.random.default_rng(0)
    stretches = [rng.integers(2, V, 80).tolist() for _ in range(3)]
    rows = [scored_row(s) for s in stretches]
    b, a = [], []
    targets: list[int] = []
    for s in stretches:
        prompt, rest = [BOS, *s[1:41]], s[41:]
        b.append(softmax64(oracle("base", prompt, rest)))
        a.append(softmax64(oracle("aligned", prompt, rest)))
        targets += rest
    b, a = np.concatenate(b), np.concatenate(a)
    at = np.arange(len(targets)), np.array(targets)
    n = len(targets)
    assert n == 3 * (80 - 1 - 40)
    nll = {"base": -np.log(b[at]), "aligned": -np.log(a[at])}
    kl = (b * np.log(b / a)).sum(1)
    found = summarise(rows, tuple(map(str, range(V))))
    f = found.figures
    for side, values in nll.items():
        value, error = f[f"ppl_{side}"].value, f[f"ppl_{side}"].error
        assert value == pytest.approx(np.exp(values.mean()), rel=1e-6)
        assert error == pytest.approx(
            np.exp(values.mean()) * math.sqrt(values.var() / (n - 1)), rel=1e-5
        )
    cov = np.cov(nll["base"], nll["aligned"], bias=True)
    assert f["ln_ratio"].value == pytest.approx((nll["aligned"] - nll["base"]).mean(), rel=1e-5)
    assert f["ln_ratio"].error == pytest.approx(
        math.sqrt((cov[0, 0] + cov[1, 1] - 2 * cov[0, 1]) / (n - 1)), rel=1e-5
    )
    assert found.cor == pytest.approx(np.corrcoef(nll["base"], nll["aligned"])[0, 1], rel=1e-4)
    assert f["kl"].value == pytest.approx(kl.mean(), rel=1e-5)
    assert f["kl"].error == pytest.approx(math.sqrt(kl.var() / (n - 1)), rel=1e-4)
    assert f["kl_back"].value == pytest.approx((a * np.log(a / b)).sum(1).mean(), rel=1e-5)
    assert f["overlap"].value == pytest.approx(np.minimum(a, b).sum(1).mean(), rel=1e-5)
    same = (a.argmax(1) == b.argmax(1)).mean()
    assert f["same_top"].value == pytest.approx(same)
    assert f["same_top"].error == pytest.approx(math.sqrt(same * (1 - same) / (n - 1)))
    delta = a[at] - b[at]
    assert f["delta_p_rms"].value == pytest.approx(math.sqrt((delta**2).mean()), rel=1e-5)
    ordered = np.sort(kl)
    for q, value in found.quantiles["kl"].items():
        p = float(q) * (n - 1)
        low, high = int(p), min(int(p) + 1, n - 1)
        want = ordered[low] + (p - low) * (ordered[high] - ordered[low])
        assert value == pytest.approx(want, rel=1e-5, abs=1e-6)
    assert found.positions == n
    gains = {t.id: t.gain for t in (*found.by_gain, *found.by_loss)}
    whole = 1000 * (a - b).sum(0) / n
    assert len(gains) > 20
    for token, gain in gains.items():
        assert gain == pytest.approx(whole[token], abs=1000 * 0.01 * 3 / n + 1e-3)


def test_few_values_have_no_error():
    row = scored_row(list(range(10, 10 + 2 * FEW)))
    found = summarise([row], tuple(map(str, range(V))))
    assert found.tokens == FEW - 1
    assert found.figures["kl"].error == 0


def test_packed_counts_come_back_and_no_more_than_fits_is_unpacked():
    counts = np.arange(500) % 7
    assert unpack(pack(counts), "x", 500).tolist() == counts.tolist()
    for wrong in ("", "????", pack(counts)[:20], 3):
        with pytest.raises(Malformed):
            unpack(wrong, "x", 500)
    with pytest.raises(Malformed, match="must hold 499 counts"):
        unpack(pack(counts), "x", 499)


# --- whole runs ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "text.txt"
    rng = np.random.default_rng(1)
    path.write_text(" ".join(rng.choice(WORDS, 900)) + "\n")
    return path


def rows_of(folder: Path) -> list[dict]:
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    for row in rows:
        row.pop("seconds")
    return sorted(rows, key=lambda row: row["number"])


@pytest.fixture(scope="module")
def run(text, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    done = urial("shift", "--texts", text, "--base", "demo", "--ctx", 64, "-o", folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_run_prints_and_leaves_its_figures(run, text):
    done = urial("shift", "--texts", text, "--base", "demo", "--ctx", 64, "-o", run, "--json")
    assert "rows are already there." in done.stderr
    found = json.loads(done.stdout)
    assert found["figures"]["kl"]["value"] > 0
    assert found["tokens"] == sum(len(row["ids"]) for row in rows_of(run))
    names = {p.name for p in run.iterdir()}
    assert {"rows.jsonl", "summary.json", "report.html", "tokens-demo-aligned.json"} <= names
    again = urial("report", run)
    assert again.returncode == 0, again.stderr
    assert "perplexity of the base" in again.stdout


def test_the_perplexity_of_a_model_with_itself(text, tmp_path):
    args = ("--base", "demo", "--aligned", "demo", "--ctx", 64, "-o", tmp_path / "r", "--json")
    found = json.loads(urial("shift", "--texts", text, *args).stdout)["figures"]
    assert found["kl"]["value"] == 0
    assert found["ln_ratio"] == {"value": 0, "error": 0}
    assert found["same_top"]["value"] == 1
    assert found["overlap"]["value"] == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
def test_shards_and_kills_change_nothing(run, text, tmp_path):
    args = ("shift", "--texts", text, "--base", "demo", "--ctx", 64)
    parts = [tmp_path / str(i) for i in (1, 2)]
    for i, part in enumerate(parts, 1):
        assert urial(*args, "-o", part, "--shard", f"{i}/2").returncode == 0
    done = urial("merge", *parts, "-o", tmp_path / "merged")
    assert done.returncode == 0, done.stderr
    assert rows_of(tmp_path / "merged") == rows_of(run)
    row = size_of(run / "rows.jsonl") // len(rows_of(run))
    rows = tmp_path / "killed" / "rows.jsonl"
    assert killed_until_done(rows, 6 * row, *args, "-o", tmp_path / "killed") >= 1
    assert rows_of(tmp_path / "killed") == rows_of(run)


def test_rows_of_a_file_are_texts(tmp_path):
    lines = [{"id": f"n{i}", "text": " ".join(WORDS[i:])} for i in range(3)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, lines)))
    args = ("shift", "--texts", tmp_path / "t.jsonl", "--base", "demo", "-o", tmp_path / "r")
    assert urial(*args).returncode == 0
    assert [row["id"] for row in rows_of(tmp_path / "r")] == ["n0", "n1", "n2"]
    lines[0]["text"] = "another"
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert "differs from the one in this run" in fails(2, *args)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("q.txt", "--texts", "t.txt"), "takes the place of QUESTIONS"),
        ((), "QUESTIONS are missing"),
        (("q.txt", "--ctx", "64"), "--ctx needs --texts"),
        (("--texts", "t.txt", "--base-prompt", "urial"), "--base-prompt has no meaning"),
        (("--texts", "none.txt"), "cannot be read"),
        (("--texts", "t.txt", "--ctx", "9000"), "was trained for"),
        (("--texts", "t.txt", "--score", "second-half"), "None of the texts has 512 tokens"),
    ],
)
def test_what_does_not_go_together_is_refused(args, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("q.txt", "t.txt"):
        Path(name).write_text("the rain\n")
    assert said in fails(2, "shift", *args, "--base", "demo", "-o", "r")


def test_ctrl_c_keeps_the_rows_that_are_done(tiny_llama, tiny_aligned, tmp_path):
    (tmp_path / "t.txt").write_text("the rain in the plain " * 4000)
    args = ("shift", "--texts", tmp_path / "t.txt", "--base", tiny_llama)
    args = (*args, "--aligned", tiny_aligned, "--ctx", 64, "-o", tmp_path / "r", "-t", 1)
    code, said = interrupted_at_rows(tmp_path / "r" / "rows.jsonl", *args)
    assert code == 130, said
    assert "Run the same command again" in said


PERPLEXITY = Path(os.environ.get("LLAMA_CPP_BIN", "")) / "llama-perplexity"


@pytest.mark.skipif(
    not os.environ.get("LLAMA_CPP_BIN") or not PERPLEXITY.exists(),
    reason="LLAMA_CPP_BIN names no folder with llama-perplexity",
)
def test_figures_are_those_of_llama_perplexity(tiny_llama, tiny_aligned, text, tmp_path):
    """On float32 weights. Its file of the base's log-probabilities has 16 bits for each, and none
    is further than 16 nats below the largest: of a mean over positions the former leaves less than
    1e-4, but the base's perplexity from that file is too low where the text has less likely tokens,
    so its own run is what is compared."""
    compare_with_llama_perplexity(tiny_llama, tiny_aligned, text, tmp_path, 64)


def compare_with_llama_perplexity(base, aligned, text, folder, ctx):
    args = ("-f", text, "-c", ctx, "-b", ctx, "-fa", "off", "-ctk", "f32", "-ctv", "f32", "-t", 1)
    saved = ("--kl-divergence-base", folder / "base.kld")

    def perplexity(*more) -> str:
        command = [str(a) for a in (PERPLEXITY, *args, *saved, *more)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    first = perplexity("-m", base)
    told = perplexity("-m", aligned, "--kl-divergence")
    done = urial(
        *("shift", "--texts", text, "--base", base, "--aligned", aligned, "--ctx", ctx),
        *("--score", "second-half", "--kv-type", "f32", "-o", folder / "r", "--json"),
    )
    found = json.loads(done.stdout)
    figures, kl = found["figures"], found["quantiles"]["kl"]
    want = {
        "Mean PPL(Q)": figures["ppl_aligned"],
        "Final estimate: PPL =": figures["ppl_base"],
        "Mean    KLD": figures["kl"],
    }
    for name, figure in want.items():
        said = first if name.startswith("Final") else told
        match = re.search(rf"{re.escape(name)}\s*:?\s*([-\d.]+) (?:±|\+/-)\s*([-\d.]+)", said)
        assert match, name
        scale = max(1.0, abs(figure["value"]))
        assert float(match[1]) == pytest.approx(figure["value"], abs=1e-4 * scale), name
        assert float(match[2]) == pytest.approx(figure["error"], abs=1e-4 * scale), name
    for name, q in (("Maximum KLD", "1"), ("99.0%   KLD", "0.99"), ("Median  KLD", "0.5")):
        match = re.search(rf"{re.escape(name)}:\s*([-\d.]+)", told)
        assert match, name
        assert float(match[1]) == pytest.approx(kl[q], abs=1e-3), name
    match = re.search(r"Same top p:\s*([\d.]+) ±\s*([\d.]+) %", told)
    assert match
    assert float(match[1]) == pytest.approx(100 * figures["same_top"]["value"], abs=0.2)
