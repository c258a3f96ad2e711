"""Figures of a shift run as SVG files, drawn by matplotlib (the [report] extra)."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from urial_local.base.errors import RunError
from urial_local.base.files import replacing
from urial_local.base.terminal import printable
from urial_local.tasks.shift.measures import AlignedSummary, ContextSummary, Curve, Curves

LONGEST_NAME = 60  # characters of a name in a figure
WIDEST_BAND = 3  # times the highest mean; a wider band of few answers is cut
Line = tuple[str, ContextSummary]  # with its label


@dataclass(frozen=True, slots=True)
class Plot:
    """A figure of one curve."""

    curve: Callable[[Curves], Curve]
    label: str
    log: bool = False

    def heights(self, context: ContextSummary) -> list[float]:
        """What the curve reaches, where it has been measured."""
        return [v for v in self.curve(context.curves).mean if v is not None and math.isfinite(v)]


PLOTS = {
    "kl": Plot(lambda curves: curves.kl, "KL(base‖aligned), nats"),
    "probability": Plot(lambda curves: curves.base_prob, "probability under the base model"),
    "rank": Plot(lambda curves: curves.base_rank, "rank under the base model", log=True),
    "shifted": Plot(lambda curves: curves.shifted, "share of shifted tokens"),
}


def write_figures(folder: Path, summary: Mapping[str, AlignedSummary]) -> list[Path]:
    """One SVG for each curve, and one of the shares, of each aligned model by its name; returns
    their paths. What was measured nowhere is not drawn. Raises RunError where the folder is a
    link."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "urial-local"  # the same data give the same file
    if folder.is_symlink():
        raise RunError(f"{folder} is a symbolic link.", "Remove it; the figures get a folder.")
    mpl.rcParams["text.parse_math"] = False  # names are no formulas
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        (_name(f"{aligned}, {name}" if len(summary) > 1 else name), context)
        for aligned, found in summary.items()
        for name, context in found.contexts.items()
        if context.classes.positions
    ]
    paths = [_shares(folder / "shares.svg", lines)] if lines else []
    for name, plot in PLOTS.items():
        drawn = [line for line in lines if plot.heights(line[1])]
        if drawn:
            paths.append(_curve(folder / f"{name}.svg", drawn, plot))
    return paths


def _name(text: str) -> str:
    """A name of others as a label: one line of bounded length, with whole characters."""
    line = " ".join(printable(text).encode("utf-8", "replace").decode().split()) or "–"
    return line if len(line) <= LONGEST_NAME else line[: LONGEST_NAME - 1] + "…"


def _curve(path: Path, lines: Sequence[Line], plot: Plot) -> Path:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3.6), layout="constrained")
    top = WIDEST_BAND * max(max(plot.heights(context)) for _, context in lines)
    handles = []
    for _, context in lines:
        curves, curve = context.curves, plot.curve(context.curves)
        middles = [(a + b) / 2 for a, b in zip(curves.first, curves.last, strict=True)]
        (line,) = axes.plot(middles, [_gap(v) for v in curve.mean])
        handles.append(line)
        low, high = ([min(_gap(v), top) for v in side] for side in (curve.low, curve.high))
        axes.fill_between(middles, low, high, color=line.get_color(), alpha=0.18, linewidth=0)
    axes.set(xlabel="position in the answer", ylabel=plot.label)
    if plot.log:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    # Labels are given here, since matplotlib hides those of lines that begin with "_".
    axes.legend(handles, [name for name, _ in lines], frameon=False)
    return _save(figure, path)


def _shares(path: Path, lines: Sequence[Line]) -> Path:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 0.8 + 0.4 * len(lines)), layout="constrained")
    places = range(len(lines))  # names may be the same
    left = [0.0] * len(lines)
    classes = [context.classes for _, context in lines]
    for label, colour, shares in (
        ("unshifted", "#cfd6df", [found.unshifted for found in classes]),
        ("marginal", "#f2c14e", [found.marginal for found in classes]),
        ("shifted", "#d9503c", [found.shifted for found in classes]),
        ("not in base", "#8a5fc0", [found.not_in_base for found in classes]),
    ):
        width = [one.share or 0.0 for one in shares]
        if any(width):
            axes.barh(places, width, left=left, color=colour, label=label)
        left = [a + b for a, b in zip(left, width, strict=True)]
    axes.set_yticks(places, [name for name, _ in lines])
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), xlabel="share of positions")
    axes.legend(frameon=False, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1))
    return _save(figure, path)


def _save(figure: Any, path: Path) -> Path:
    from matplotlib import pyplot

    drawn = io.StringIO()
    with warnings.catch_warnings():
        # A font that lacks a name's letters, or a name too long for the layout: it is drawn anyway.
        warnings.simplefilter("ignore")
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    with replacing(path) as file:  # a link of this name is replaced, not followed
        file.write(drawn.getvalue())
    return path


def _gap(value: float | None) -> float:
    return float("nan") if value is None else value
