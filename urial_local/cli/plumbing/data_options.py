"""Options of commands that read a dataset: which rows, which fields."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from urial_local.base import limits
from urial_local.base.errors import UsageError
from urial_local.base.paths import user_path
from urial_local.base.texts import read_text
from urial_local.cli.plumbing.numbers import Whole
from urial_local.cli.plumbing.options import Repeated, together

F = TypeVar("F", bound=Callable[..., Any])
MAX_IDS = 64 << 20  # bytes of a file of ids
FAILED = 3  # exit code: finished, some rows failed


class ShardType(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """i/n, as in 2/8."""

    name = "i/n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        first, _, second = str(value).partition("/")
        i, n = limits.count(first, limits.SHARDS), limits.count(second, limits.SHARDS)
        if i is not None and n is not None and 1 <= i <= n:
            return i, n
        return self.fail(f"{value!r} is not a shard; write 2/8 for the second of eight", param, ctx)


def output_option(text: str) -> Callable[[F], F]:
    """-o, the folder that a command writes."""
    return click.option(
        "-o",
        "--output",
        required=True,
        type=click.Path(path_type=Path, file_okay=False),
        metavar="FOLDER",
        help=text,
    )


# Which rows of the dataset, and where their texts are.
data_options = together(
    click.option("--query-field", metavar="NAME", help="The field that holds questions."),
    click.option("--id-field", metavar="NAME", help="The field that holds ids, or none."),
    click.option(
        "--format",
        type=click.Choice(["json", "jsonl", "csv", "tsv", "text", "parquet"]),
        help="The file's format, if its extension does not tell it.",
    ),
    click.option(
        "--limit",
        type=Whole(1, limits.ROWS),
        metavar="N",
        help="Only the first N rows.",
    ),
    click.option(
        "--ids", metavar="A,B,…|@FILE", help="Only rows with these ids, or those in FILE."
    ),
    click.option(
        "--where",
        cls=Repeated,
        metavar="FIELD=VALUE",
        help="Only rows whose field (or one of its values) is this; given again, all must hold.",
    ),
    click.option("--shard", type=ShardType(), help="Only the i-th of n parts; see merge."),
)


# How judgements are read: N/A, expected scores, which rows.
reading_options = together(
    click.option(
        "--na",
        type=click.Choice(["five", "drop", "three"]),
        default="five",
        help="What N/A counts as; five is the reference's.  [default: five]",
    ),
    click.option("--expected", is_flag=True, help="Use expected scores where there are any."),
    click.option("--ids", metavar="A,B,…|@FILE", help="Only rows with these ids; a lite subset."),
)


def selection(options: Mapping[str, Any]) -> Any:
    """The rows that the options choose. Raises UsageError for a malformed --where."""
    from urial_local.records.datasets import Selection

    where = []
    for text in options["where"]:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"--where {text!r} is not FIELD=VALUE.", "As in category=safety.")
        where.append((name, value))
    return Selection(
        limit=options["limit"],
        ids=chosen_ids(options["ids"]),
        where=tuple(where),
        shard=options["shard"],
    )


def fields(options: Mapping[str, Any]) -> Any:
    from urial_local.records.datasets import Fields

    return Fields(query=options["query_field"], id=options["id_field"])


def chosen_ids(text: str | None) -> frozenset[str] | None:
    """Ids from `--ids A,B` or `--ids @FILE`: lines, a JSON list, or an object of lists, all of
    whose ids are taken. Raises UsageError."""
    from urial_local.records.ids import id_text

    if text is None:
        return None
    if not text.startswith("@"):
        return frozenset(filter(None, map(str.strip, text.split(","))))
    said = read_text(user_path(text[1:]), "The list of ids", MAX_IDS, error=UsageError).strip()
    value: Any = said.split()
    if said[:1] in ("[", "{"):
        try:
            value = json.loads(said)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{text[1:]} is not JSON: {error}.") from None
    lists = list(value.values()) if isinstance(value, dict) else [value]
    if not all(isinstance(one, list) for one in lists):
        raise UsageError(f"{text[1:]} does not hold a list of ids.")
    try:
        found = [id_text(i) for one in lists for i in one]
    except ValueError as error:
        raise UsageError(f"{text[1:]} has {error} among its ids.") from None
    return frozenset(i for i in found if i is not None)
