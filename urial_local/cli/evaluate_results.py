"""What `evaluate`, `report` and `merge` do with judgements: summary, page, tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import click

from urial_local.base.errors import UsageError
from urial_local.base.paths import user_path
from urial_local.cli.cells import padded, width_of
from urial_local.cli.data_options import chosen_ids
from urial_local.cli.terminal import say, say_json, tell

F = TypeVar("F", bound=Callable[..., Any])


def finish(folder: Path) -> dict[str, Any]:
    """Make summary.json and report.html from a run's rows; returns the summary."""
    from urial_local.records.runlog import write_json

    found = summary_of([str(folder)])
    write_json(folder / "summary.json", found)
    write_page([folder], folder / "report.html")
    return found


def write_page(folders: Sequence[Path], path: Path, na: str = "five") -> None:
    """The page of judged runs or files, side by side."""
    from urial_local.base.registry import EMBEDDED
    from urial_local.records.judged import EvaluateConfig, read_judgements
    from urial_local.records.runs import is_run, read_run
    from urial_local.report.judged_page import write_judged_page
    from urial_local.report.page import sessions
    from urial_local.tasks.evaluate.summary import Reading, judges

    runs, about, notes = [], [], []
    for folder in folders:
        judgements = list(read_judgements(str(folder)))
        runs.append((run_name(folder, judgements), judgements))
        facts: list[list[str]] = []
        if is_run(folder):
            info = read_run(folder)
            judge = info.config_as(EvaluateConfig).judge.name
            facts.append(["judge", judge])
            more = info.config["judge"].items()
            facts += [[f"judge, {k}", json.dumps(v)] for k, v in more if k != "name"]
            facts += sessions(info)
            if beside := neighbours_of([str(folder)]):
                facts.append(["neighbours", beside["said"]])
                if beside["differ"]:
                    notes.append(f"{runs[-1][0]}: {beside['said']}")
            if judge in EMBEDDED:
                notes.append(
                    f"The judge of {runs[-1][0]} is the embedded demo model, as a"
                    " stand-in: it shows that judging works, and its scores mean nothing."
                )
        about.append(facts)
    for mode, names in judges([j for _, several in runs for j in several]).items():
        if len(names) > 1:
            notes.append(
                f"Different judges for {mode} ({', '.join(names)}): their scales differ, so these"
                " scores do not compare."
            )
    known = [name for name, _ in runs]
    if len(set(known)) < len(known):  # told apart by where they lie
        runs = [
            (f"{name} ({folder.resolve().parent.name}/{folder.resolve().name})", judgements)
            for (name, judgements), folder in zip(runs, folders, strict=True)
        ]
    reading = Reading(na=na)  # type: ignore[arg-type]
    write_judged_page(runs, path, reading, notes=list(dict.fromkeys(notes)), about=about)


def run_name(folder: Path, judgements: Sequence[Any]) -> str:
    """What a run is called on a page: the model that answered, or its folder where several did."""
    models = {j.generator for j in judgements}
    return models.pop() if len(models) == 1 else folder.resolve().name


def summary_of(
    names: Sequence[str],
    *,
    na: str = "five",
    expected: bool = False,
    last_tag: bool = False,
    tags_from: str | None = None,
    ids: frozenset[str] | None = None,
) -> dict[str, Any]:
    """The summary of judged runs and files taken together, and of the answers in files that were
    not judged (their lengths)."""
    from urial_local.records.judged import is_judged, read_judgements
    from urial_local.tasks.evaluate.pairs import mt_bench, pairwise
    from urial_local.tasks.evaluate.summary import Reading, summarise, with_tags
    from urial_local.tasks.evaluate.tags import count_tags

    kinds = {name: is_judged(name) for name in names}
    judgements = [j for name in names if kinds[name] for j in read_judgements(name)]
    if tags_from:
        judgements = with_tags(judgements, _tags_of(tags_from))
    if ids is not None:
        judgements = [j for j in judgements if j.id in ids]
    reading = Reading(na, expected, last_tag)  # type: ignore[arg-type]
    found = summarise(judgements, reading)
    found["pairwise"] = pairwise(judgements)
    found["mt_bench"] = mt_bench(judgements)
    found["tags"] = count_tags(judgements)
    found["neighbours"] = neighbours_of(names)
    for name in names:
        if not kinds[name]:
            found = with_answers(found, name, unjudged(name, ids))
    if not judgements and not found.get("answers"):
        raise UsageError(f"There is nothing to summarise in {', '.join(names)}.")
    return found


def neighbours_of(names: Sequence[str]) -> dict[str, Any] | None:
    """How far scores hung on what was judged beside them, where runs among `names` measured it."""
    from urial_local.records.runs import is_run, read_run
    from urial_local.tasks.evaluate.neighbours import measured

    folders = [user_path(name) for name in names]
    runs = [read_run(folder) for folder in folders if is_run(folder)]
    found = measured([start for run in runs for start in run.raw.get("sessions", ())])
    return {**asdict(found), "said": found.said()} if found else None


def with_answers(found: dict[str, Any], name: str, answers: dict[str, Any]) -> dict[str, Any]:
    """A summary with what there is to say of answers that nobody judged: of the same model, whose
    judged rows may lack the general ones. Raises UsageError for another model's."""
    models = set(found["generators"])
    if models and not models & set(answers["generators"]):
        raise UsageError(
            f"{name} holds answers of {', '.join(answers['generators'])}, not of"
            f" {', '.join(sorted(models))}.",
            "Take one model at a time; `urial-local leaderboard` shows several.",
        )
    if found.get("answers"):
        raise UsageError("Of answers that were not judged, name one file at a time.")
    known = {k: v for k, v in found.items() if v is not None and v != []}
    return {**found, **answers, **known}


def unjudged(name: str, ids: frozenset[str] | None) -> dict[str, Any]:
    """Of answers that nobody judged: how many, how long the general ones are, what is flagged."""
    from urial_local.tasks.evaluate.answered import read_answered

    rows = [r for r in read_answered(name) if not r.error and (ids is None or r.id in ids)]
    general = [r.words for r in rows if not r.safety]
    ended = [r.ended for r in rows if r.ended is not None]
    return {
        "answers": len(rows),
        "generators": sorted({r.generator for r in rows}),
        "words": sum(general) / len(general) if general else None,
        "ended": sum(ended) / len(ended) if ended else None,
        **{
            flag: sum(flag in r.flags for r in rows) / len(rows) if rows else None
            for flag in ("empty", "runaway", "repetitive")
        },
    }


def _tags_of(name: str) -> dict[str, Any]:
    """Tags by id: those that a file's rows have, or that a judge gave them in the mode `tags`."""
    from urial_local.records.judged import is_judged, read_judgements
    from urial_local.tasks.evaluate.answered import read_answered
    from urial_local.tasks.evaluate.tags import tags_of

    if is_judged(name):
        return {j.id: tags_of(j) for j in read_judgements(name) if j.mode == "tags"}
    return {row.id: row.tags for row in read_answered(name)}


def print_results(folder: Path, found: dict[str, Any], as_json: bool) -> None:
    """To stdout: the means, or all as JSON; to stderr: where the page is."""
    if as_json:
        say_json(found)
    else:
        for line in lines_of(found):
            say(line)
    tell(f"Open {folder / 'report.html'} in a browser.")


def lines_of(found: dict[str, Any]) -> list[str]:
    """What a person reads of a summary."""
    lines = []
    if found["judged"]:
        who = "; ".join(f"{mode} by {', '.join(names)}" for mode, names in found["judges"].items())
        lines += [f"{', '.join(found['generators'])}: {found['judged']:,} rows, {who}", ""]
        lines.append(f"  {'aspect':<14}{'mean':>7}{'95 %':>16}{'rows':>8}{'N/A':>8}")
        for name, aspect in found["aspects"].items():
            na = f"{100 * aspect['na']:.1f}%"
            lines.append(f"  {name:<14}{_number(aspect['mean']):>7}{_interval(aspect):>16}"
                         f"{aspect['n']:>8,}{na:>8}")  # fmt: skip
        if mean := found["average"]:
            lines.append(f"  {'average':<14}{_number(mean['mean']):>7}{_interval(mean):>16}")
        lines += [*_key([*found["aspects"].values(), found["average"]]), ""]
    elif found.get("answers"):
        lines += [f"{', '.join(found['generators'])}: {found['answers']:,} answers, not judged", ""]
    if found["words"] is not None:
        lines.append(f"  {'words':<14}{found['words']:>9.1f}  in answers to general rows")
    for name in ("ended", "empty", "runaway", "repetitive"):
        if found.get(name):
            lines.append(f"  {name:<14}{100 * found[name]:>8.1f}%")
    if found["empty"] and found["aspects"].get("safety"):
        lines.append("  Empty answers are usually judged safe: see their share with safety.")
    if found["failed"]:
        lines.append(f"  {found['failed']:,} rows could not be judged and count nowhere")
    for name, tags in found["by"].items():
        lines += ["", f"  by {name}"]
        width = max(14, *map(width_of, tags))
        for tag, one in tags.items():
            cells = "  ".join(f"{a} {v:.2f}" for a, v in one["aspects"].items())
            lines.append(f"    {padded(tag, width)}{one['n']:>5}  {cells}")
    for part in (_pair_lines(found.get("pairwise")), _mt_lines(found.get("mt_bench"))):
        lines += ["", *part] if lines and part else part
    if found.get("tags"):
        lines.append(f"tags by {', '.join(found['judges']['tags'])}")
    for kind, counts in (found.get("tags") or {}).items():
        lines.append(f"  {kind:<12}" + "  ".join(f"{tag} {n:,}" for tag, n in counts.items()))
    if found.get("neighbours"):
        lines += ["", f"  {found['neighbours']['said']}"]
    return lines


def _pair_lines(pair: dict[str, Any] | None) -> list[str]:
    if not pair:
        return []
    heads = ("win", "tie", "lose", "orders agree", "A chosen")
    widths = (8, 8, 8, 14, 10)
    who = ", ".join(pair["judges"])
    lines = [f"{pair['first']} against {pair['second']}: {pair['rows']:,} rows by {who}", ""]
    lines.append(f"  {'aspect':<14}{_columns(heads, widths)}")
    for name, one in pair["aspects"].items():
        cells = [_share(one[k]) for k in ("win", "tie_share", "lose", "agreement", "position_bias")]
        lines.append(f"  {name:<14}{_columns(cells, widths)}")
    if pair["one_order"]:
        lines.append(f"  {pair['one_order']:,} rows were judged in one order only and count so.")
    return lines


def _columns(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))


def _mt_lines(found: dict[str, Any] | None) -> list[str]:
    if not found:
        return []
    lines = [f"{found['generator']}: rating by {', '.join(found['judges'])}", ""]
    parts = [("overall", found["overall"])]
    parts += [(f"turn {turn}", one) for turn, one in found["turns"].items()]
    parts += list(found["categories"].items())
    for name, one in parts:
        lines.append(f"  {name:<14}{_number(one['mean']):>7}{_interval(one):>16}{one['n']:>8,}")
    return [*lines, *_key([one for _, one in parts])]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}%"


def _interval(one: dict[str, Any]) -> str:
    return "–" if one["low"] is None else f"{one['low']:.2f}–{one['high']:.2f}"


def _key(shown: Sequence[dict[str, Any] | None]) -> list[str]:
    """What a missing interval means, where one is missing."""
    from urial_local.tasks.intervals import NO_INTERVAL

    missing = any(one and one["low"] is None for one in shown)
    return [f"  {NO_INTERVAL.format('questions')}"] if missing else []


def reading_options(command: F) -> F:
    """How judgements are read: N/A, expected scores, which rows."""
    for option in reversed(
        [
            click.option(
                "--na",
                type=click.Choice(["five", "drop", "three"]),
                default="five",
                help="What N/A counts as; five is the reference's.  [default: five]",
            ),
            click.option(
                "--expected", is_flag=True, help="Use expected scores where there are any."
            ),
            click.option(
                "--ids", metavar="A,B,…|@FILE", help="Only rows with these ids; a lite subset."
            ),
        ]
    ):
        command = option(command)
    return command


@click.command()
@click.argument("names", nargs=-1, required=True)
@reading_options
@click.option("--tags-from", metavar="FILE", help="Take the rows' tags from this file, by id.")
@click.option(
    "--compat",
    type=click.Choice(["just-eval"]),
    help="As the reference: its report's fields, and in tables the last of a row's tags only.",
)
@click.option("--json", "as_json", is_flag=True, help="All as JSON.")
def summarize(
    names: tuple[str, ...],
    na: str,
    expected: bool,
    ids: str | None,
    tags_from: str | None,
    compat: str | None,
    as_json: bool,
) -> None:
    """Means with intervals of judged runs and files, taken together.

    NAMES are runs of `evaluate`, JUST-EVAL's judged files, or files of answers that were not judged
    (for their lengths).

    \b
    Examples:
      urial-local evaluate summarize run/judged-mistral-7b-instruct
      urial-local evaluate summarize model.score_multi.gpt-4.json model.score_safety.chatgpt.json
      urial-local evaluate summarize model.score_safety.chatgpt.json --compat just-eval
    """
    wanted = chosen_ids(ids)
    if compat and (na != "five" or expected):
        raise UsageError("--compat just-eval counts N/A as 5, and takes the scores as they are.")
    # One file alone: the reference's own report. Several, or JSON: our summary by its rules.
    if compat and not as_json and len(names) == 1 and not tags_from:
        from urial_local.records.judged import read_judgements
        from urial_local.tasks.evaluate.summary import just_eval_report

        judgements = [j for j in read_judgements(names[0]) if wanted is None or j.id in wanted]
        say_json(just_eval_report(judgements, names[0]), indent=2)
        return
    found = summary_of(names, na=na, expected=expected, last_tag=bool(compat),
                       tags_from=tags_from, ids=wanted)  # fmt: skip
    if as_json:
        say_json(found)
        return
    for line in lines_of(found):
        say(line)
