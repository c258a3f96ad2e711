"""What `benchmark`, `report` and `merge` do with a benchmark: summary, page, tables, a remark."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from urial_local.base.formats import NOTHING, number, percent, points
from urial_local.cli.plumbing.output import Output
from urial_local.cli.plumbing.tables import Column, table_lines

if TYPE_CHECKING:
    from urial_local.tasks.benchmark.results import Cell, Comparison, Results
    from urial_local.tasks.benchmark.statistics import Difference, Share
    from urial_local.tasks.intervals import Interval


def finish(folder: Path, page: Path | None = None) -> Results:
    """Make summary.json and the page from a benchmark's rows; returns what they say."""
    from urial_local.records.runlog import write_json
    from urial_local.report.benchmark_page import write_benchmark_page
    from urial_local.tasks.benchmark.results import read_results

    found = read_results(folder)
    write_json(folder / "summary.json", found.as_json())
    write_benchmark_page(folder, found, page or folder / "report.html")
    return found


def print_results(folder: Path, found: Results, out: Output, page: Path | None = None) -> None:
    """To stdout: the tables, or all as JSON; to stderr: what to make of them, and the page."""
    out.lines(lines_of(found), found.as_json())
    for remark in remarks(found):
        out.note(remark)
    out.tell(f"Open {page or folder / 'report.html'} in a browser.")


def merge(output: Path, folders: Sequence[Path], out: Output) -> None:
    """Put the shards of a benchmark together, cell by cell, and tell of the whole. Raises as
    records.merge does."""
    from urial_local.records.generated import Generated
    from urial_local.records.merge import merge_runs
    from urial_local.records.runs import is_run
    from urial_local.tasks.benchmark import kept
    from urial_local.tasks.benchmark.results import BenchmarkConfig, benchmark_run
    from urial_local.tasks.generate.job import KEY

    cells = [cell.name for cell in benchmark_run(folders[0]).config_as(BenchmarkConfig).cells]
    merged = merge_runs(output, folders, kept.KEY, kept.placed)
    if merged.missing_shards:
        out.note(f"Missing: shard {', '.join(merged.missing_shards)}.")
    for cell in cells:
        there = [folder / cell for folder in folders if is_run(folder / cell)]
        if there:
            merge_runs(output / cell, there, KEY, Generated.read)
        if lacking := [str(folder) for folder in folders if folder / cell not in there]:
            out.note(f"{cell} is not begun in {', '.join(lacking)}.")
    print_results(output, finish(output), out)


def lines_of(found: Results) -> Iterator[str]:
    """A table for each model, with a column for each prompt; differences; curves over models."""
    for model in found.best:
        yield from _measures(model, _with_aligned(found, model), found)
        yield ""
    yield from _differences(found)
    yield from _curves(found)


def _with_aligned(found: Results, model: str) -> list[Cell]:
    return [*found.of_model(model), *([found.aligned] if found.aligned else [])]


def _measures(model: str, cells: Sequence[Cell], found: Results) -> list[str]:
    head = [Column(model, 18), *(Column(_title(cell), 11, right=True) for cell in cells)]
    of = [cell.measures for cell in cells]
    rows = [
        ("probes", *(f"{m.right.n:,}" for m in of)),
        ("right", *(percent(m.right.value) for m in of)),
        ("  95 %", *(_reach(m.right.interval) for m in of)),
        *((f"  {kind}", *(_share(m.kinds[kind]) for m in of)) for kind in found.kinds),
        *((name, *(_share(m.signs[name]) for m in of)) for name in of[0].signs),
        ("failed", *(f"{m.failed:,}" for m in of)),
        ("words", *(number(m.words, 1) for m in of)),
        ("tokens", *(number(m.tokens, 1) for m in of)),
        ("tokens/s", *(number(m.tokens_per_second, 1) for m in of)),
    ]
    if any(m.guides is not None for m in of):
        rows.append(("guide's tokens", *(percent(m.guides) for m in of)))
    return table_lines(head, rows, gap=2)


def _title(cell: Cell) -> str:
    return cell.facts.model.name if cell.facts.aligned else cell.facts.asked


def _share(share: Share) -> str:
    return percent(share.value, 0)


def _reach(interval: Interval | None) -> str:
    return NOTHING if interval is None else f"{100 * interval.low:.0f}–{100 * interval.high:.0f} %"


def _differences(found: Results) -> Iterator[str]:
    """Points of a hundred, with p: against zero-shot, and against the best."""
    cells = {cell.name: cell for cell in found.cells}
    rows = []
    for one in found.comparisons:
        name = _title(cells[one.cell])
        best = found.best[one.model]
        parts = ((one.zero_shot, "zero-shot"), (one.best, _title(cells[best])))
        for nth, (difference, other) in enumerate(parts):
            if difference is None or (nth and _mirrored(found, one, best)):
                continue
            closed = "" if nth or cells[one.cell].facts.aligned else _closed(one)
            rows.append((one.model, name, other, *_difference(difference), closed))
    if not rows:
        return
    several = len(found.best) > 1
    titles = ("right of", "less that of", "points", "95 %", "p", "gap closed")
    head = [Column(title, 11, right=nth > 1) for nth, title in enumerate(titles)]
    if several:
        head.insert(0, Column("model", 11))
    yield from table_lines(head, [row if several else row[1:] for row in rows], gap=2)
    yield ""


def _mirrored(found: Results, one: Comparison, best: str) -> bool:
    """Whether its comparison with the best stands in another line, the other way round or not:
    that of zero-shot itself, and all where zero-shot is the best."""
    zeros = {o.cell for o in found.comparisons if o.model == one.model and o.zero_shot is None}
    return one.cell in zeros or (best in zeros and one.zero_shot is not None)


def _difference(found: Difference) -> tuple[str, str, str]:
    reach = NOTHING
    if found.interval is not None:
        reach = f"{points(found.interval.low)} to {points(found.interval.high)}"
    return points(found.value), reach, p_text(found.p)


def p_text(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _closed(one: Comparison) -> str:
    if one.closed is None:
        return NOTHING
    return f"{percent(one.closed.value, 0)} ({_reach(one.closed.interval)})"


def _curves(found: Results) -> Iterator[str]:
    """The share of right answers over models, a line for each prompt."""
    if found.curves is None:
        return
    curves = found.curves
    places = [f"{at:,}" for at in curves.axis.places] if curves.axis.steps else curves.models
    head = [Column(f"right, by {curves.axis.label}", 18)]
    head += [Column(place, 8, right=True) for place in places]
    rows = [
        (line.prompt, *(percent(share.value) if share else NOTHING for share in line.right))
        for line in curves.lines
    ]
    yield from table_lines(head, rows, gap=2)
    yield ""


def remarks(found: Results) -> Iterator[str]:
    """For each model: the best prompt, whether it is more than chance, and how to use it."""
    from urial_local.tasks.benchmark.results import zero_shot_of
    from urial_local.tasks.benchmark.usage import usage

    for model, name in found.best.items():
        cells = {cell.name: cell for cell in found.of_model(model)}
        best, zero = cells[name], zero_shot_of(list(cells.values()))
        prompt = best.facts.asked
        said = f"{model}: {prompt} has the most right, {percent(best.measures.right.value)}"
        against = next(one.zero_shot for one in found.comparisons if one.cell == name)
        if against is not None:
            said += f", {points(against.value)} points against zero-shot, {_verdict(against)}"
        yield f"{said}."
        others = (o for o in found.comparisons if o.cell in cells and cells[o.cell] is not zero)
        near = [cells[o.cell].facts.asked for o in others if o.best and not o.best.sure]
        if near:
            yield f"What it has more than {' or '.join(near)} may be chance."
        yield f"To use it: {usage(best)}"


def _verdict(found: Difference) -> str:
    p = p_text(found.p) if found.p < 0.001 else f"= {p_text(found.p)}"
    return f"which {'is more than' if found.sure else 'may be'} chance (p {p})"
