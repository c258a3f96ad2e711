"""Pages and exports replace what they wrote before, and nothing else."""

from __future__ import annotations

import json

import pytest

from urial_local.base.errors import UsageError
from urial_local.cli.export import write
from urial_local.records.formats import SHAPES, Export, export
from urial_local.records.generated import Generated
from urial_local.report.figures import _save
from urial_local.report.page import _MARK, write_html


def page(path, data=()):
    write_html(path, title="t", body="<p>b</p>", styles=[""], scripts=[""], data=list(data))


def test_a_page_replaces_pages_only(tmp_path):
    path = tmp_path / "report.html"
    page(path, [1])
    page(path, [2])
    assert _MARK in path.read_text()
    path.write_text(path.read_text().replace(_MARK, ""))  # as earlier releases wrote it
    page(path, [3])
    assert "[3]" in path.read_text()
    path.write_text("")
    page(path)
    for other in ("<!doctype html>\n<html lang='en'><p>my own</p>", "notes", _MARK):
        path.write_text(other)
        with pytest.raises(UsageError, match="left as it is"):
            page(path)
        assert path.read_text() == other


def rows(*answers):
    about = {"finish_reason": "eos", "completion_tokens": 1}
    return [
        Generated.read(
            {"id": str(n), "number": n, "query": f"q{n}", "answer": a, "fields": {"question_id": n}}
            | about
        )
        for n, a in enumerate(answers)
    ]


ABOUT = Export("m", {}, "")


@pytest.mark.parametrize("shape", SHAPES)
def test_an_export_replaces_exports_of_the_same_run_only(tmp_path, shape):
    path = tmp_path / "file"

    def again(*answers, force=False, about=ABOUT):
        write(export(rows(*answers), shape, about), path, force)
        return path.read_text()

    first = again("one")
    assert again("one") == first
    assert again("one", "two") != first, "the run may have grown"
    assert again("one") == first
    others = ["my notes\n", json.dumps([{"instruction": "q0", "output": "another's"}], indent=2)]
    if shape in ("just-eval", "alpaca-eval", "mt-bench", "fastchat"):
        others.append("".join(export(rows("one"), shape, Export("another", {}, ""))))
    for other in others:
        path.write_text(other)
        with pytest.raises(UsageError, match="left as it is"):
            again("one")
        with pytest.raises(UsageError, match="left as it is"):
            again()
        assert path.read_text() == other
        assert again("one", force=True) == first


def test_a_figure_replaces_a_link(tmp_path):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "a.svg").symlink_to(tmp_path / "victim")
    _save(pyplot.figure(), tmp_path / "a.svg")
    assert (tmp_path / "victim").read_text() == "mine"
    assert "<svg" in (tmp_path / "a.svg").read_text()
