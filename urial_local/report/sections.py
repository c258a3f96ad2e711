"""A page of sections, for runs that need no page of their own kind: tables, curves, lists of
tokens, and answers side by side. `templates/report/sections.js` draws what these records say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from urial_local.base.formats import counted
from urial_local.records.runs import RunInfo
from urial_local.report.page import sessions, template, write_html

T = TypeVar("T")
SHOWN = 5000  # answers on a page
Part = tuple[str, Literal["", "other", "given"]]  # text, and whose it is


@dataclass(frozen=True, slots=True)
class Column:
    title: str
    number: bool = True


@dataclass(frozen=True, slots=True)
class Table:
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One curve; None where it has a gap."""

    name: str
    x: tuple[int, ...]
    y: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves over the same x. `names`: what x = 0, 1, … stand for; without them x is a number."""

    title: str
    label: str
    series: tuple[Line, ...]
    names: tuple[str, ...] | None = None
    share: bool = False
    top: float | None = None


@dataclass(frozen=True, slots=True)
class TokenList:
    title: str
    items: tuple[tuple[str, str], ...]  # token and figure
    note: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    text: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    charts: tuple[Chart, ...] = ()
    tokens: tuple[TokenList, ...] = ()


@dataclass(frozen=True, slots=True)
class ShownAnswer:
    name: str
    parts: tuple[Part, ...]
    note: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class ShownRow:
    id: str
    query: str
    answers: tuple[ShownAnswer, ...]


@dataclass(frozen=True, slots=True)
class Page:
    kicker: str
    title: str
    lead: str
    sections: tuple[Section, ...]
    about: tuple[tuple[str, str], ...]
    answers: tuple[ShownRow, ...] = ()
    answers_note: str = ""


def write_sections(info: RunInfo, page: Page) -> Path:
    """Write `report.html` into a run's folder; returns its path."""
    path = info.folder / "report.html"
    data = asdict(page)
    for section in data["sections"]:
        for chart in section["charts"]:
            if chart["top"] is None:
                del chart["top"]
    data["about"] = [*data["about"], *sessions(info)]
    write_html(
        path,
        title=page.title,
        body=template("sections.html"),
        styles=[template("base.css"), template("sections.css")],
        scripts=[template("charts.js"), template("sections.js")],
        data=data,
    )
    return path


def model_lines(base: Any, aligned: Any) -> list[tuple[str, str]]:
    """What is told of the two models at the end of a page."""
    return [
        (name, f"{m.title} ({m.file}, {m.quantisation}), {m.fingerprint}")
        for name, m in (("base", base), ("aligned", aligned))
    ]


def first_questions(by_id: Mapping[str, list[T]]) -> tuple[list[list[T]], str]:
    """The answers to the first questions, at most SHOWN of them but of one question at least, and
    what to say where that is not all. `by_id`: in the order of the questions."""
    kept: list[list[T]] = []
    count = 0
    for found in by_id.values():
        count += len(found)
        if kept and count > SHOWN:
            return kept, f" The first {counted(len(kept), 'question')}; all are in rows.jsonl."
        kept.append(found)
    return kept, ""


def columns(*titles: str, first: str = "") -> tuple[Column, ...]:
    """A first column of names, then figures."""
    return (Column(first, number=False), *(Column(title) for title in titles))
