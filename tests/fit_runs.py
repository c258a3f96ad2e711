"""Fits over the embedded demo pair: few candidates, short prompts, questions that it knows."""

from __future__ import annotations

import json
from pathlib import Path

from tests.command import urial

ANIMALS = ("fox", "bear", "duck", "frog", "cat", "dog", "cow", "bee", "hen", "goat")
# Short prompts; one at a time, which has the same numbers always.
QUICK = ("-k", "0", "-np", "1", "-c", "700")
ONE_SHOT = ("-k", "1", "-np", "4", "-c", "700")


def write_probes(path: Path, queries, rule='any = ["lives"]') -> Path:
    text = 'kind = "facts"\nmax_tokens = 8\n'
    for number, query in enumerate(queries):
        text += (
            f"\n[[probes]]\nid = 'p{number}'\nquery = {json.dumps(query)}\nrule = {{ {rule} }}\n"
        )
    path.write_text(text)
    return path


def write_rows(path: Path, rows) -> Path:
    keys = ("id", "query", "answer")
    path.write_text(json.dumps([dict(zip(keys, row, strict=True)) for row in rows]))
    return path


def known_probes(folder: Path) -> Path:
    return write_probes(folder / "probes.toml", [f"Where does a {a} live?" for a in ANIMALS])


def known_answers(folder: Path) -> Path:
    found = [
        (str(i), f"Where does a {a} live?", f"A {a} lives in forests. It eats mice.")
        for i, a in enumerate(ANIMALS)
    ]
    return write_rows(folder / "answers.json", found)


def fit(*args, model="demo"):
    done = urial("fit", model, *QUICK, *args)
    assert done.returncode == 0, done.stderr
    return done


def summary(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
