"""How commands show results: tables, figures, and JSON in the place of both."""

from __future__ import annotations

import json

import click
import pytest
from click.testing import CliRunner

from urial_local.base.formats import counted, number, parameters, percent, rate, size
from urial_local.cli.main import COMMANDS, cli
from urial_local.cli.plumbing.output import Output, json_option
from urial_local.cli.plumbing.tables import Column, figures, table_lines


def test_figures_have_one_form():
    assert [percent(v) for v in (0.12345, 1.0, None)] == ["12.3 %", "100.0 %", "–"]
    assert percent(0.5, 0) == "50 %"
    assert [number(v) for v in (1, 2.345, None)] == ["1.00", "2.35", "–"]
    assert [counted(n, "row") for n in (0, 1, 1200)] == ["0 rows", "1 row", "1,200 rows"]
    assert counted(2, "row is", "rows are") == "2 rows are"
    sizes = ["0 bytes", "1 byte", "1.0 kB", "10.5 MB", "8.0 GB"]
    assert [size(n) for n in (0, 1, 1000, 10.5e6, 8e9)] == sizes
    assert parameters(7_241_732_096) == "7.24 B (7,241,732,096)"
    assert rate(1234.56) == "1,234.6 tokens/s"


def test_cells_are_counted_and_mean_nothing():
    head = (Column("run", 5), *figures(("mean", 7)))
    rows = [("日本\n語", "1.00"), ("[red]x[/]", "–"), (":smile:", "12.50")]
    assert table_lines(head, rows, indent=2) == [
        "  run         mean",
        "  日本 語     1.00",
        "  [red]x[/]      –",
        "  :smile:    12.50",
    ]
    assert table_lines((Column(), Column()), []) == []
    assert table_lines((Column(), Column()), [("a", "b")], gap=2) == ["a  b"]
    (line,) = table_lines((Column(), Column()), [("x" * 5000, "y")])
    assert line == "x" * 5000 + " y", "nothing is cut"


@pytest.mark.parametrize("as_json", [False, True])
def test_json_stands_in_the_place_of_what_people_read(capsys, as_json):
    for show, data in (
        (lambda out: out.table((Column("a"),), [("1",)], [1]), [1]),
        (lambda out: out.record([("a", 1)], {"a": 1}), {"a": 1}),
        (lambda out: out.lines(["a 1"], None), None),
    ):
        show(Output(as_json))
        said = capsys.readouterr().out
        assert (json.loads(said) == data) if as_json else said.startswith("a")
    Output(as_json).line("a")
    assert capsys.readouterr().out == ("" if as_json else "a\n")


def options(command, name):
    yield from ((name, p) for p in command.params if isinstance(p, click.Option))
    for inner in getattr(command, "commands", {}).values():
        yield from options(inner, f"{name} {inner.name}")


def test_every_command_has_the_same_option_for_json():
    """And so its variable is URIAL_<COMMAND>_JSON."""
    found = {}
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        found |= {n: o for n, o in options(command, name) if "--json" in o.opts}
    assert {"ask", "shift", "evaluate run", "models list", "agreement"} <= set(found)
    assert {(option.name, option.envvar) for option in found.values()} == {("json", None)}


def test_the_variable_of_json():
    @click.command(context_settings={"auto_envvar_prefix": "URIAL_SHIFT"})
    @json_option("JSON.")
    @click.option("--limit", default=1)
    def command(out, limit):
        out.record([("limit", limit)], {"limit": limit})

    run = CliRunner().invoke
    assert run(command, []).output.split() == ["limit", "1"]
    for args, env in ((["--json"], {}), ([], {"URIAL_SHIFT_JSON": "1"})):
        assert json.loads(run(command, args, env=env).output) == {"limit": 1}
