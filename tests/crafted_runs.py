"""Small run folders of every kind, written as the commands write them, without any model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from urial_local.records.datasets import Item
from urial_local.records.generated import Generated
from urial_local.records.judged import KEY as JUDGED_KEY
from urial_local.records.judged import JudgedRow
from urial_local.records.runlog import RunLog, asked_digest, write_json
from urial_local.runtime.rows import Completion
from urial_local.runtime.shift_rows import shift_rows_numpy
from urial_local.tasks.evaluate.answered import Answered
from urial_local.tasks.evaluate.job import rows_to_judge
from urial_local.tasks.evaluate.modes import MODES
from urial_local.tasks.generate.job import KEY as GENERATE_KEY
from urial_local.tasks.generate.job import answer_record
from urial_local.tasks.shift.record import (
    ALIGNED_COLUMNS,
    CONTEXT_COLUMNS,
    SHAPE_COLUMNS,
    Answer,
    noise_to_json,
    to_json,
)
from urial_local.tasks.shift.record import KEY as SHIFT_KEY
from urial_local.tasks.shift.scoring import columns

MODEL = {"name": "m", "file": "m.gguf", "title": "M", "architecture": "llama"}
MODEL |= {"quantisation": "F32", "fingerprint": "0" * 32}
GENERATE = {
    "task": "generate",
    "model": MODEL,
    "prompt": {"name": "urial", "sha": "1"},
    "shots": None,
    "sampling": {"temperature": 0.7},
    "max_tokens": None,
    "stop": [],
    "job": {"repeat": 1, "candidates": 2, "pick": "first", "seed": 0, "turns": 0},
    "shard": None,
}
SHIFT = {
    "task": "shift",
    "base": MODEL,
    "aligned": [{**MODEL, "name": "a", "prompt": "chat", "prompt_sha": "0"}],
    "contexts": {"zero-shot": {"name": "zero-shot", "sha": "1"}, "urial": {"name": "urial"}},
    "noise_floor": MODEL,
    "answers": "generated",
    "sampling": {"temperature": 0.0, "seed": 0},
    "max_tokens": 9,
    "kv_type": "f16",
    "top": 10,
    "shard": None,
}
JUDGED = {
    "task": "evaluate",
    "judge": {"name": "j", "fingerprint": "0"},
    "mode": "auto",
    "templates": {"general": "1"},
    "answers": ["one"],
    "against": [],
    "shard": None,
}
VOCABULARY = 40


def generated_run(folder: Path) -> None:
    """A plain row, one with candidates, a dialogue, and an error row."""
    with RunLog(folder, GENERATE, GENERATE_KEY, Generated.read) as log:
        for i, turns in enumerate((1, 1, 2)):
            item = Item(f"q{i}", i, f"Question {i}?", tags={"task": ("math",)},
                        fields={"id": f"q{i}", "query": f"Question {i}?", "category": "math",
                                "question_id": i, "reference": ["r"]})  # fmt: skip
            said = [{"query": f"Question {i}?", **_answer(f"Answer {n}.")} for n in range(turns)]
            row = {"id": item.id, "repeat": 0, "number": i, **said[0], "prompt": "1"}
            row |= {
                "tags": {"task": ["math"]},
                "asked_sha": asked_digest(item.query, *item.later),
                "seconds": 0.1,
            }
            row["fields"] = dict(item.fields)
            if i == 1:
                row["candidates"] = [{"candidate": n, **_answer(f"No. {n}")} for n in (0, 1)]
            if turns > 1:
                row |= {"turns": said, "flags": []}
            log.append(row)
        log.append(
            {"id": "q9", "repeat": 0, "number": 9, "query": "Q", "error": "No.", "fields": {}}
        )


def _answer(text: str) -> dict[str, Any]:
    return answer_record(
        Completion(text, text, (1, 2), (-0.5, -0.25), "eos", 0, 12, 4, 0.1, 0.2)
    )  # fmt: skip


def shift_run(folder: Path, n: int = 3, length: int = 6) -> None:
    """Rows with two contexts and a noise floor; one position without a base distribution, one with
    an infinite divergence; and an error row."""
    rng = np.random.default_rng(0)
    with RunLog(folder, SHIFT, SHIFT_KEY, Answer.read) as log:
        for i in range(n):
            base = rng.normal(size=(length, VOCABULARY)).astype(np.float32) * 3
            ids = rng.integers(0, VOCABULARY, length).astype(np.int32)
            aligned = base + rng.normal(size=base.shape).astype(np.float32)
            contexts = {}
            for name in SHIFT["contexts"]:
                seen = base + rng.normal(size=base.shape).astype(np.float32)
                seen[2] = np.nan if i == 1 else seen[2]
                seen[3, int(ids[3])] = -np.inf if i == 2 else seen[3, int(ids[3])]
                found = columns(shift_rows_numpy(seen, aligned, ids))
                contexts[name] = to_json(found, CONTEXT_COLUMNS)
            row = {"id": f"q{i}", "number": i, "aligned": "a", "query": f"Question {i}?"}
            row |= {"tags": {"task": ["math"]}, "answer": "Answer.", "answer_ids": ids.tolist()}
            row |= {"ended": True, "end_token": True, "finish_reason": "eos", "seconds": 0.1}
            row |= {**to_json(found, ALIGNED_COLUMNS), "contexts": contexts}
            if i == 0:
                row["batch_shape"] = {n: contexts["zero-shot"][n][:4] for n in SHAPE_COLUMNS}
            row["noise_floor"] = noise_to_json(columns(shift_rows_numpy(base, base + 0.1, ids)))
            log.append(row)
        log.append({"id": "e", "number": 9, "aligned": "a", "query": "Q", "error": "No."})
    write_json(folder / "tokens-a.json", [f" word{i}" for i in range(VOCABULARY)])


def judged_run(folder: Path) -> None:
    """Rows of every mode, pairs in both orders, and an error row."""
    with RunLog(folder, JUDGED, JUDGED_KEY, JudgedRow.read) as log:
        for row in judged_rows():
            log.append(row)


def judged_rows() -> list[dict[str, Any]]:
    from urial_local.prompting.prompts import Turn

    found: list[dict[str, Any]] = []
    one = [
        Answered(f"q{i}", 0, i, (Turn(f"Question {i}?", "Answer."), Turn("And?", "So.")), "one",
                 {"task": ("math",)}, (), True)
        for i in range(2)
    ]  # fmt: skip
    other = [Answered(a.id, 0, a.number, (Turn(a.turns[0].query, "No."),), "two") for a in one]
    others = {(a.id, a.repeat): a for a in other}
    for mode in MODES:
        for row, _case in rows_to_judge(one, mode, others):  # type: ignore[arg-type]
            record = MODES[mode]._nested([p.options[-2] if p.options else "Because."
                                          for p in MODES[mode].places])  # fmt: skip
            row |= {"judge": "j", "prompt": "All.", "result": "{}", "parsed_result": record}
            row |= {"expected": {"depth": 3.5}} if mode in ("general", "safety") else {}
            found.append({**row, "prompt_tokens": 9, "completion_tokens": 3, "seconds": 0.1})
    bad = Answered("q9", 0, 9, (Turn("Q", ""),), "one", error="No.")
    found += [row for row, _ in rows_to_judge([bad], "general")]
    return found


def just_eval_file(path: Path) -> None:
    """Judgements in JUST-EVAL's shape, of the modes that it knows."""
    from urial_local.records.judged import just_eval_record

    rows = [JudgedRow.read(r) for r in judged_rows() if r["mode"] in ("general", "safety")]
    path.write_text(json.dumps([just_eval_record(r, "j") for r in rows if not r.error]))
