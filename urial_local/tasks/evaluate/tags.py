"""Tags that a judge gave to questions: its yes and no as the tags that everything else reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from urial_local.records.judged import Judgement

KINDS = ("task", "topic")


def tags_of(judgement: Judgement) -> dict[str, tuple[str, ...]]:
    """task, topic and difficulty of a judgement in the mode `tags`."""
    found: dict[str, tuple[str, ...]] = {}
    for kind in KINDS:
        said = judgement.record.get(kind)
        if isinstance(said, Mapping):
            found[kind] = tuple(str(name) for name, answer in said.items() if answer == "yes")
    if difficulty := judgement.record.get("difficulty"):
        found["difficulty"] = (str(difficulty),)
    return found


def count_tags(judgements: Iterable[Judgement]) -> dict[str, dict[str, int]] | None:
    """How many questions have each tag, the most frequent first; None without such judgements."""
    rows = [j for j in judgements if j.mode == "tags" and not j.error]
    if not rows:
        return None
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in (*KINDS, "difficulty")}
    for j in rows:
        for kind, names in tags_of(j).items():
            counts[kind].update(names)
    return {kind: dict(counter.most_common()) for kind, counter in counts.items()}
