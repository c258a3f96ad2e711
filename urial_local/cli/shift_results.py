"""What `shift`, `merge` and `report` do with a shift run's rows: summary, page, table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from urial_local.cli.cells import padded
from urial_local.cli.terminal import say, say_json, tell


def finish(folder: Path, *, csv: bool = False, figures: bool = False) -> dict[str, Any]:
    """Make summary.json and report.html from the rows; returns the summary."""
    from urial_local.report.shift_page import write_page
    from urial_local.tasks.shift.results import ShiftRun, write_csv, write_summary

    run = ShiftRun(folder)
    summary = write_summary(run)
    write_page(run, summary)
    if csv:
        write_csv(run, folder / "positions.csv")
    if figures:
        from urial_local.report.figures import write_figures

        write_figures(folder / "figures", summary)
    return summary


def print_summary(folder: Path, summary: dict[str, Any], as_json: bool) -> None:
    """To stdout: the shares of each context, or all of it as JSON; to stderr: where the page is."""
    if as_json:
        say_json(summary)
    else:
        for line in summary_lines(summary):
            say(line)
    errors = summary["errors"]
    if errors:
        first = errors[0]
        tell(f"{len(errors)} of the rows failed. The first, {first['id']}: {first['error']}")
    if nowhere := unmeasured(summary):
        tell(
            f"Nothing was measured in {', '.join(nowhere)}: a model's logits are not finite at any"
            " position. Is one of the files damaged?"
        )
    tell(f"Open {folder / 'report.html'} in a browser.")


def unmeasured(summary: dict[str, Any]) -> list[str]:
    """The contexts in which no position of any answer has two distributions."""
    several = len(summary["aligned"]) > 1
    return [
        f"{aligned}, {name}" if several else name
        for aligned, found in summary["aligned"].items()
        for name, context in found["contexts"].items()
        if context["positions"] and not context["classes"]["positions"]
    ]


def summary_lines(summary: dict[str, Any]) -> list[str]:
    """A table of shares for each aligned model."""
    lines: list[str] = []
    for aligned, found in summary["aligned"].items():
        lines += [
            f"{summary['config']['base']['name']} → {aligned}: {found['answers']:,} answers,"
            f" {found['positions']:,} positions, {found['ended']:,} ended by themselves",
            "",
            f"  {'base context':<22}{'unshifted':>11}{'marginal':>10}{'shifted':>9}"
            f"{'95 %':>14}{'mean KL':>9}{'repaired':>10}",
        ]
        for name, context in found["contexts"].items():
            shares = context["classes"]
            shifted, repairs = shares["shifted"], context["repairs"]
            interval = _interval(shifted)
            kl = context["kl_base_aligned"]["mean"]
            lines.append(
                f"  {padded(name, 22)}{_percent(shares['unshifted']['share']):>11}"
                f"{_percent(shares['marginal']['share']):>10}{_percent(shifted['share']):>9}"
                f"{interval:>14}{'' if kl is None else f'{kl:.3f}':>9}"
                f"{_percent(repairs['share']) if repairs else '':>10}"
            )
            if shares["not_in_base"]["count"]:
                lines.append(f"    not in base: {_percent(shares['not_in_base']['share'])}")
        lines += [*_key(found), "", *_end_lines(found), *_token_lines(found), ""]
        lines += _unsound_lines(found)
        shape = found.get("batch_shape")
        if shape and shape["positions"]:
            change = shape["base_logprob"]
            lines += [
                f"  batch shape alone: base log-probabilities by {change['mean']:.3f} nats, at most"
                f" {change['max']:.2f}; class changed {_percent(shape['class_changed'])}",
                "",
            ]
        noise = found["noise_floor"]
        if noise and noise["positions"]:
            lines += [
                f"  quantisation alone: mean KL {noise['kl_base_other']['mean']:.4f}, same top"
                f" token {_percent(noise['top1_agreement'])}, class changed"
                f" {_percent(noise['class_changed'])}",
                "",
            ]
    return lines[:-1]


def _interval(share: dict[str, Any]) -> str:
    return "–" if share["low"] is None else f"{_percent(share['low'])}–{_percent(share['high'])}"


def _key(found: dict[str, Any]) -> list[str]:
    """What a missing interval means, where one is missing."""
    from urial_local.tasks.intervals import NO_INTERVAL

    shares = [context["classes"]["shifted"] for context in found["contexts"].values()]
    missing = any(share["low"] is None for share in shares)
    return [f"  {NO_INTERVAL.format('answers')}"] if missing else []


def _unsound_lines(found: dict[str, Any]) -> list[str]:
    """Positions that are left out of averages, where there are any."""
    lines = []
    for name, context in found["contexts"].items():
        counts = {k.replace("_", " "): n for k, n in context["unsound"].items() if n}
        if counts:
            said = ", ".join(f"{n:,} {k}" for k, n in counts.items())
            lines.append(f"  left out of averages in {name}: {said}")
    return [*lines, ""] if lines else []


def _end_lines(found: dict[str, Any]) -> list[str]:
    parts = []
    for name, context in found["contexts"].items():
        end = context["classes_of_end"]
        if end["positions"]:
            parts.append(f"{name} {_percent(end['shifted']['share'])}")
    return [f"  end of answer, shifted: {', '.join(parts)}"] if parts else []


def _token_lines(found: dict[str, Any]) -> list[str]:
    reference = found["contexts"][found["reference"]]
    most = [repr(t["text"]) for t in reference["tokens"]["by_count"][:10]]
    return [f"  most shifted ({found['reference']}): {' '.join(most)}"] if most else []


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}%"
