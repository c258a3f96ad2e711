"""How the command line spells parameters. What lies below the faces names them as a program does:
`ctx_size`, or `prompt=urial` with a value."""

from __future__ import annotations

import re

# Where an option is not called as its parameter is.
OPTIONS = {"temperature": "temp", "candidates": "n", "batch": "batch-size"}
PARAMETERS = frozenset(
    [
        "aligned",
        "aligned_prompt",
        "alpha",
        "allow_vocab_mismatch",
        "base_url",
        "batch",
        "beta",
        "budget",
        "candidates",
        "chat_template",
        "ctx",
        "ctx_size",
        "exact",
        "expected",
        "frame",
        "gamma",
        "gpu_layers",
        "guide",
        "guide_base",
        "guide_prompt",
        "guide_rule",
        "handover",
        "id_field",
        "ids",
        "kinds",
        "kv_type",
        "markers",
        "max_tokens",
        "min_p",
        "mix_judges",
        "mode",
        "model",
        "noise_floor",
        "parallel",
        "prefill",
        "penalty_scope",
        "prompt",
        "repeat",
        "repeat_penalty",
        "restyle",
        "retrieve",
        "score",
        "seed",
        "shots",
        "stop",
        "swap",
        "temperature",
        "template",
        "threads",
        "top_k",
        "top_p",
        "where",
        "writer",
    ]
)
_NAMED = re.compile(r"`([a-z_]+)(?:=([^`\n]+))?`")


def spelled(text: str) -> str:
    """A message with options in the place of parameters."""

    def option(match: re.Match[str]) -> str:
        name, value = match.groups()
        if name not in PARAMETERS:
            return match.group()
        flag = f"--{OPTIONS.get(name, name).replace('_', '-')}"
        return f"{flag} {value}" if value else flag

    return _NAMED.sub(option, text)
