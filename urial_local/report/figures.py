"""Figures of a shift run as SVG files, drawn by matplotlib (the [report] extra)."""

from __future__ import annotations

import io
import math
import warnings
from pathlib import Path
from typing import Any

from urial_local.base.errors import RunError
from urial_local.base.files import replacing
from urial_local.base.terminal import printable

LONGEST_NAME = 60  # characters of a name in a figure
WIDEST_BAND = 3  # times the highest mean; a wider band of few answers is cut
CURVES = {
    "kl": ("kl_base_aligned", "KL(base‖aligned), nats", False),
    "probability": ("base_prob", "probability under the base model", False),
    "rank": ("base_rank", "rank under the base model", True),
    "shifted": ("shifted", "share of shifted tokens", False),
}


def write_figures(folder: Path, summary: dict[str, Any]) -> list[Path]:
    """One SVG for each curve, and one of the shares; returns their paths. What was measured nowhere
    is not drawn. Raises RunError where the folder is a link."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "urial-local"  # the same data give the same file
    if folder.is_symlink():
        raise RunError(f"{folder} is a symbolic link.", "Remove it; the figures get a folder.")
    mpl.rcParams["text.parse_math"] = False  # names are no formulas
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        (_name(f"{aligned}, {name}" if len(summary["aligned"]) > 1 else name), context)
        for aligned, found in summary["aligned"].items()
        for name, context in found["contexts"].items()
        if context["classes"]["positions"]
    ]
    paths = [_shares(folder / "shares.svg", lines)] if lines else []
    for name, (key, label, log) in CURVES.items():
        drawn = [line for line in lines if _heights(line[1]["curves"], key)]
        if drawn:
            paths.append(_curve(folder / f"{name}.svg", drawn, key, label, log))
    return paths


def _name(text: str) -> str:
    """A name of others as a label: one line of bounded length, with whole characters."""
    line = " ".join(printable(text).encode("utf-8", "replace").decode().split()) or "–"
    return line if len(line) <= LONGEST_NAME else line[: LONGEST_NAME - 1] + "…"


def _heights(curves: dict[str, Any], key: str) -> list[float]:
    """What a curve reaches, where it has been measured."""
    return [v for v in curves[key]["mean"] if v is not None and math.isfinite(v)]


def _curve(
    path: Path, lines: list[tuple[str, dict[str, Any]]], key: str, label: str, log: bool
) -> Path:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3.6), layout="constrained")
    top = WIDEST_BAND * max(max(_heights(context["curves"], key)) for _, context in lines)
    handles = []
    for _, context in lines:
        curves = context["curves"]
        middles = [(a + b) / 2 for a, b in zip(curves["from"], curves["to"], strict=True)]
        mean = [_gap(v) for v in curves[key]["mean"]]
        (line,) = axes.plot(middles, mean)
        handles.append(line)
        low, high = ([min(_gap(v), top) for v in curves[key][side]] for side in ("low", "high"))
        axes.fill_between(middles, low, high, color=line.get_color(), alpha=0.18, linewidth=0)
    axes.set(xlabel="position in the answer", ylabel=label)
    if log:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    # Labels are given here, since matplotlib hides those of lines that begin with "_".
    axes.legend(handles, [name for name, _ in lines], frameon=False)
    return _save(figure, path)


def _shares(path: Path, lines: list[tuple[str, dict[str, Any]]]) -> Path:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 0.8 + 0.4 * len(lines)), layout="constrained")
    places = range(len(lines))  # names may be the same
    left = [0.0] * len(lines)
    for kind, colour in (
        ("unshifted", "#cfd6df"),
        ("marginal", "#f2c14e"),
        ("shifted", "#d9503c"),
        ("not_in_base", "#8a5fc0"),
    ):
        width = [context["classes"][kind]["share"] or 0.0 for _, context in lines]
        if any(width):
            axes.barh(places, width, left=left, color=colour, label=kind.replace("_", " "))
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
