"""Small run folders of `shift --texts`, `--handover` and `--swap`, made without any model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.crafted_runs import MODEL
from urial_local.records.runlog import RunLog, asked_digest
from urial_local.runtime.shift_rows import shift_rows_numpy
from urial_local.tasks.interventions import handover_record, swap_record
from urial_local.tasks.interventions.handover_record import HandedOver
from urial_local.tasks.interventions.swap_record import Swapped
from urial_local.tasks.shift_texts import record as texts_record
from urial_local.tasks.shift_texts.mining import Mined
from urial_local.tasks.shift_texts.record import ScoredText, columns_json, preferred_json

VOCABULARY = 40
PAIR = {
    "base": MODEL,
    "aligned": {**MODEL, "name": "a", "prompt": "chat", "prompt_sha": "0"},
    "contexts": {"zero-shot": {"name": "zero-shot", "sha": "1"}},
    "sampling": {"temperature": 0.0, "seed": 0},
    "max_tokens": 9,
    "kv_type": "f16",
    "shard": None,
}
TEXTS = {
    **{"task": texts_record.TASK, "base": MODEL, "aligned": {**MODEL, "name": "a"}},
    **{"vocabulary": VOCABULARY, "ctx": 16, "score": "all", "k": 4, "kv_type": "f16"},
    "shard": None,
}
HANDOVER = {**PAIR, "task": handover_record.TASK, "after": ["0", "2", "sentence", "all"]}
SWAP = {**PAIR, "task": swap_record.TASK, "writer": "base", "criteria": ["js>0.1"], "budget": "5%"}
KINDS = {
    "shift-texts": (TEXTS, texts_record.KEY, ScoredText.read),
    "shift-handover": (HANDOVER, handover_record.KEY, HandedOver.read),
    "shift-swap": (SWAP, swap_record.KEY, Swapped.read),
}


def texts_run(folder: Path, said: str = " word") -> None:
    rng = np.random.default_rng(0)
    with RunLog(folder, *KINDS["shift-texts"]) as log:
        for i in range(3):
            base = rng.normal(size=(12, VOCABULARY)).astype(np.float32) * 3
            aligned = base + rng.normal(size=base.shape).astype(np.float32)
            ids = rng.integers(0, VOCABULARY, 12).astype(np.int32)
            mined = Mined(VOCABULARY)
            overlap = mined.add(base, aligned)
            row = columns_json(shift_rows_numpy(base, aligned, ids), overlap)
            log.append({"id": f"t{i // 2}", "chunk": i % 2, "number": i, "ids": ids.tolist(),
                        **row, "preferred": preferred_json(mined), "asked_sha": "0"})  # fmt: skip
        log.append({"id": "e", "chunk": 0, "number": 9, "error": f"Not a text{said}."})
    texts = [f"{said}{i}" for i in range(VOCABULARY)]
    (folder / "tokens-a.json").write_text(json.dumps(texts))


def _answered(said: str, i: int) -> dict:
    query = f"Question {i}?{said}"
    return {
        **{"id": f"q{i}", "number": i, "query": query, "tags": {}},
        **{"asked_sha": asked_digest(query), "answer": f"One two.{said}"},
        **{"answer_ids": [3, 4, 5, i], "ended": True, "finish_reason": "eos"},
        **{"flags": ["refusal"] * (i % 2), "seconds": 0.1},
    }


def handover_run(folder: Path, said: str = "") -> None:
    with RunLog(folder, *KINDS["shift-handover"]) as log:
        for i in range(3):
            plain = {**_answered(said, i), "given": 0, "given_characters": 0, "whole": False}
            for side in ("aligned", "base"):
                for after in HANDOVER["after"]:
                    context = "" if (side, after) == ("aligned", "0") else "zero-shot"
                    given = {"0": 0, "2": 2, "sentence": 3, "all": 4}[after]
                    kl = {"kl_base_aligned": 0.5, "kl_aligned_base": 0.25, "tokens": 4 - given}
                    log.append({**plain, "goes_on": side, "context": context, "after": after,
                                "given": given, "given_characters": given, "whole": given == 4,
                                "divergences": {"zero-shot": kl}})  # fmt: skip
        log.append({"id": "e", "number": 9, "goes_on": "base", "context": "zero-shot",
                    "after": "0", "query": said, "error": f"No.{said}"})  # fmt: skip


def swap_run(folder: Path, said: str = "") -> None:
    arms = ("writer", "js>0.1", "random as js>0.1", "other")
    with RunLog(folder, *KINDS["shift-swap"]) as log:
        for i in range(3):
            for arm in arms:
                swapped = {"at": [1], "values": [0.3], "put": [4], "instead": [7],
                           "spans": [[1, 3]]}  # fmt: skip
                row = {**_answered(said, i), "positions": 5, "arm": arm,
                       "context": "" if arm == "other" else "zero-shot"}  # fmt: skip
                log.append(row if arm in ("writer", "other") else {**row, **swapped})
        log.append({"id": "e", "number": 9, "context": "zero-shot", "arm": "writer",
                    "query": said, "error": f"No.{said}"})  # fmt: skip


MAKERS = {
    "shift-texts": texts_run,
    "shift-handover": handover_run,
    "shift-swap": swap_run,
}
