"""The answers that are judged: of a generation run, or of any file of answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from urial_local.base.errors import UsageError
from urial_local.base.paths import user_path
from urial_local.prompting.prompts import Turn
from urial_local.records.datasets import Fields, Item, as_item, items_of
from urial_local.records.generated import GenerateConfig, Generated, PromptFacts
from urial_local.records.runs import is_run, latest_rows, read_run
from urial_local.records.sources import RawRow, open_source
from urial_local.runtime.choices import ENDED
from urial_local.tasks.generate.flags import flags_of
from urial_local.tasks.generate.job import KEY

# Parts of just-eval-instruct whose rows are safety rows, in files that have no category.
SAFETY_SETS = ("hh-rlhf/red-team-attempts", "MaliciousInstruct")


@dataclass(frozen=True, slots=True)
class Answered:
    """One question, or dialogue, with its answers. `error` says why there is none."""

    id: str
    repeat: int
    number: int  # of the row in its dataset, from 0
    turns: tuple[Turn, ...]
    generator: str  # what wrote the answers
    tags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    flags: tuple[str, ...] = ()  # see tasks.generate.flags
    ended: bool | None = None  # by the model itself; None where the file does not say
    references: tuple[str, ...] = ()  # reference answers by turn
    unanswered: bool = False  # a question alone
    error: str = ""

    @property
    def safety(self) -> bool:
        if category := self.tags.get("category"):
            return "safety" in category
        return any(value in SAFETY_SETS for value in self.tags.get("dataset", ()))

    @property
    def words(self) -> int:
        """Of the first answer, split at blanks, as the reference counts."""
        return len(self.turns[0].answer.split()) if self.turns else 0


def read_answered(
    name: str, fields: Fields | None = None, kind: str | None = None
) -> Iterator[Answered]:
    """The rows of a run folder of `generate`, or of a file with answers.

    Raises UsageError for a run of another kind.
    """
    folder = user_path(name)
    if is_run(folder):
        yield from _of_run(folder)
        return
    met: Counter[str] = Counter()  # shards that were merged have the same ids again
    with open_source(name, kind) as source:
        for item, row in items_of(source, fields or Fields()):
            yield _of_file(item, row, name, met[item.id])
            met[item.id] += 1


def _of_run(folder: Path) -> Iterator[Answered]:
    info = read_run(folder)
    if info.task != "generate":
        raise UsageError(f"{folder} is a run of {info.task}, which holds no answers to judge.")
    config = info.config_as(GenerateConfig)
    prompt = config.prompt.name if isinstance(config.prompt, PromptFacts) else ""
    generator = f"{config.model.name} {prompt}"
    # In the dataset's order, so that the first rows of two runs are the same questions.
    rows = latest_rows(folder, KEY, Generated.read)
    for row in sorted(rows, key=lambda r: (r.number, r.repeat)):
        item = as_item(row.number, RawRow(row.number, row.fields))
        yield Answered(
            row.id,
            row.repeat,
            row.number,
            tuple(Turn(t.query, t.answer) for t in row.turns) or (Turn(row.query, ""),),
            generator.strip(),
            item.tags,
            row.flags,
            None if row.error else all(turn.finish_reason in ENDED for turn in row.turns),
            _references(row.fields),
            False,
            row.error,
        )


def _of_file(item: Item, row: RawRow, name: str, repeat: int) -> Answered:
    answer = item.answer or ""
    tags = dict(item.tags)
    config = row.fields.get("eval_config")  # a judged file of JUST-EVAL, to be judged again
    if isinstance(config, Mapping) and config.get("mode") == "score_safety":
        tags["category"] = ("safety",)
    return Answered(
        item.id,
        repeat,
        item.number,
        (Turn(item.query, answer), *(Turn(query, "") for query in item.later)),
        generator_name(row.fields, Path(name).stem),
        tags,
        () if item.answer is None else tuple(flags_of(answer, "")),
        None,
        _references(row.fields),
        item.answer is None,
        item.error,
    )


def generator_name(fields: Mapping[str, Any], default: str) -> str:
    """Who wrote an answer, as the field says; of a path its stem, as in JUST-EVAL's files."""
    for name in ("generator_cand", "generator", "model_id", "model"):
        value = fields.get(name)
        if isinstance(value, str) and value.strip():
            last = value.strip().split("/")[-1]
            return last.removesuffix(".json") or value.strip()
    return default


def _references(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """MT-bench's reference answers, one a turn."""
    found = fields.get("reference")
    if isinstance(found, list) and all(isinstance(text, str) for text in found):
        return tuple(found)
    return (found,) if isinstance(found, str) else ()
