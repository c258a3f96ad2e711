"""Judgements a second: a shared rubric and forms in a batch, against one judgement at a time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.engine import high_level, row
from urial_local.runtime import llama_api
from urial_local.runtime.alphabet import Alphabet
from urial_local.runtime.forms import Choice, Form, Literal, Part, Text
from urial_local.runtime.model import Model
from urial_local.runtime.open import RuntimeOptions, open_engine
from urial_local.runtime.rows import Request
from urial_local.runtime.threads import default_threads

# Tokens of our general rubric and of a case (question and answer of some 170 words) in a usual
# vocabulary; judgements; tokens of each of the five reasons.
RUBRIC, CASE, JUDGEMENTS, REASON = 350, 260, 8, 24
FIELDS = ("a", "b", "c", "d", "e")
rng = np.random.default_rng(2)
RUBRIC_IDS = [1, *rng.integers(400, 32000, RUBRIC - 1).tolist()]
CASE_IDS = [rng.integers(400, 32000, CASE).tolist() for _ in range(JUDGEMENTS)]
# The model's vocabulary spells words letter by letter; these names keep the fixed text as long, in
# tokens, as a usual vocabulary makes that of the real record.
GRAMMAR = r"""root ::= "{" a "," b "," c "," d "," e "}"
a ::= "\"a\":\"" t "\",\"" s "\""
b ::= "\"b\":\"" t "\",\"" s "\""
c ::= "\"c\":\"" t "\",\"" s "\""
d ::= "\"d\":\"" t "\",\"" s "\""
e ::= "\"e\":\"" t "\",\"" s "\""
s ::= [1-5]
t ::= [^"\\\n]+
"""


def parts() -> tuple[Part, ...]:
    made: list[Part] = []
    for i, name in enumerate(FIELDS):
        before = "{" if not i else '",'
        made += [Literal(f'{before}"{name}":"'), Text(f"{name}.reason", REASON)]
        made += [Literal('","'), Choice(f"{name}.score", ("1", "2", "3", "4", "5"))]
    return (*made, Literal('"}'))


def ours(path: Path, parallel: int, shared: bool) -> float:
    """Judgements a second; `shared` decodes the rubric once."""
    options = RuntimeOptions(1024, parallel, disk_cache=False)
    with open_engine(path, options) as (model, engine):
        form = Form(Alphabet(model.vocab), parts())
        form.alphabet.safe, form.alphabet.closing  # noqa: B018  # made once a model
        began = time.perf_counter()
        for batch in [CASE_IDS] if shared else [[case] for case in CASE_IDS]:
            if not shared:
                engine.held.evict_all()
            done = engine.complete(
                Request(
                    [*RUBRIC_IDS, *case, *form.opening],
                    form=form,
                    shared=RUBRIC if shared else 0,
                )
                for case in batch
            )
            assert {c.finish_reason for c in done} == {"form"}
        return JUDGEMENTS / (time.perf_counter() - began)


def theirs(path: Path, n: int = 2) -> float:
    """Judgements a second by Llama.create_completion with a grammar, one after the other; it reuses
    the prefix that it read last. As many tokens are written as ours, ended by their number."""
    with Model(path) as model:
        form = Form(Alphabet(model.vocab), parts())
        written = len(form.opening) + form.max_tokens
        threads = default_threads(model.n_params)
    llama = high_level(path, threads)
    llama.create_completion(RUBRIC_IDS, max_tokens=1, temperature=0)
    began = time.perf_counter()
    for case in CASE_IDS[:n]:
        grammar = llama_api.lib.LlamaGrammar.from_string(GRAMMAR, verbose=False)
        llama.create_completion(
            [*RUBRIC_IDS, *case], max_tokens=written, temperature=0, repeat_penalty=1.0,
            grammar=grammar,
        )  # fmt: skip
    return n / (time.perf_counter() - began)


def run(path: Path) -> list[dict[str, Any]]:
    together, alone = ours(path, JUDGEMENTS, True), ours(path, 1, False)
    high = theirs(path)
    what = f"judgements of five aspects, {JUDGEMENTS} at a time over one rubric"
    return [
        row(what, f"{together:.3f}/s", f"one by one, rubric read each time: {alone:.3f}/s",
            together / alone, "≥ 3×"),
        row(what, f"{together:.3f}/s", f"Llama with a grammar, one by one: {high:.3f}/s",
            together / high, "≥ 3×"),
    ]  # fmt: skip
