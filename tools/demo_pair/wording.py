"""Wordings with alternatives: ``[Where|In what place] is {a}?`` stands for two questions."""

from __future__ import annotations

import itertools
import random
import re
from functools import cache
from typing import Any

from tools.demo_pair.world import ATTRIBUTES, load_table

_CHOICE = re.compile(r"\[([^\[\]]*\|[^\[\]]*)\]")


def vary(rng: random.Random, form: str) -> str:
    """The form with one part drawn for each of its alternatives."""
    return _CHOICE.sub(lambda found: rng.choice(found[1].split("|")), form)


def variants(form: str) -> list[str]:
    """Everything that a form stands for."""
    pieces = _CHOICE.split(form)
    parts = [p.split("|") if i % 2 else [p] for i, p in enumerate(pieces)]
    return ["".join(chosen) for chosen in itertools.product(*parts)]


@cache
def phrasings() -> dict[str, Any]:
    """How every fact is asked and told: both files together, with the openers of every kind."""
    table, more = load_table("phrasings.toml"), load_table("wordings.toml")
    for kind, names in ATTRIBUTES.items():
        for name in names:
            for key, forms in more[kind][name].items():
                table[kind][name][key] += forms
    return table | {"openers": more["openers"]}


@cache
def asking() -> dict[str, Any]:
    """The wordings that hold for every question of a sort."""
    table = load_table("styles.toml")["asking"]
    for key, forms in load_table("wordings.toml")["asking"].items():
        table[key] = table.get(key, []) + forms
    return table
