"""A conversation as a run, in the shape of `generate`'s, so that `show`, `report`, `evaluate` and
`export` read it. Where it lies is ours to say, not the client's."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Any

from urial_local.base import limits
from urial_local.base.errors import UrialError
from urial_local.records.runlog import RunLog, asked_digest
from urial_local.server.errors import ApiError, wrong
from urial_local.server.fields import Fields
from urial_local.server.lanes import Lane
from urial_local.tasks.generate.flags import flags_of

MAX_TURNS = 1000
ENDINGS = ("eos", "frame", "stop", "length", "context", "form", "loop")
SAMPLING = ("temperature", "top_p", "min_p", "top_k", "repeat_penalty", "seed")


def save(folder: Path, lane: Lane, prompt: str, fields: Fields) -> dict[str, Any]:
    """Write the run; returns where it is. Raises ApiError."""
    items = fields.items("turns", MAX_TURNS)
    if not items:
        raise wrong("turns must hold at least one question with its answer.", "turns")
    turns = [_turn(item, f"turns[{i}]", lane) for i, item in enumerate(items)]
    name = f"chat-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
    asked = lane.prompts[prompt]
    sampling = fields.inner("sampling")
    config = {
        "task": "generate",
        "model": lane.plan.file.about(),
        "prompt": {"name": asked.name, "sha": asked.fingerprint()},
        "sampling": {
            key: sampling.number(key, -limits.SEED, limits.SEED)
            for key in SAMPLING
            if sampling.has(key)
        },
        "ctx_size": lane.ctx_size,
        "kv_type": lane.plan.runtime.kv_type,
        "exact": lane.plan.exact,
        "source": "serve",
        **({"guide": lane.plan.guide.config()} if lane.plan.guide else {}),
    }
    first, *later = turns
    row = {
        "id": name,
        "repeat": 0,
        "number": 1,
        **first,
        "tags": {},
        "prompt": asked.fingerprint(),
        "asked_sha": asked_digest(*(turn["query"] for turn in turns)),
        "fields": {},
    }
    if later:
        row["turns"] = turns
        row["flags"] = list(dict.fromkeys(flag for turn in turns for flag in turn["flags"]))
    try:
        with RunLog(folder / name, config, ("id", "repeat")) as log:
            log.append(row)
            written = sum(turn["completion_tokens"] for turn in turns)
            log.end_session(rows=1, tokens=written, seconds=0.0)
    except UrialError as error:
        raise ApiError(500, error.message, code="not_saved") from None
    return {"run": name, "turns": len(turns)}


def _turn(item: Any, at: str, lane: Lane) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise wrong(f"{at} must be an object.", at)
    fields = Fields(item, f"{at}.")
    reason = fields.text("finish_reason", "length")
    if reason not in ENDINGS:
        raise wrong(f"{at}.finish_reason must be one of {', '.join(ENDINGS)}.", at)
    query, answer = fields.text("query"), fields.text("answer")
    if not query:
        raise wrong(f"{at}.query is missing.", f"{at}.query")
    ids = fields.ids("answer_ids", limits.TOKENS, lane.model.vocab.size)
    return {
        "query": query,
        "answer": answer,
        "raw_answer": answer,
        "answer_ids": ids,
        "finish_reason": reason,
        "flags": flags_of(answer, reason),
        "prompt_tokens": fields.whole("prompt_tokens", 0, limits.TOKENS, 0),
        "cached_tokens": fields.whole("cached_tokens", 0, limits.TOKENS, 0),
        "completion_tokens": fields.whole("completion_tokens", 0, limits.TOKENS, len(ids)),
        "mean_logprob": fields.number("mean_logprob", -1e6, 0),
    }
