"""The README and docs/benchmark.md show what their commands print."""

from __future__ import annotations

import difflib
import re

import pytest

from tools.readme import PAGES, README, refreshed


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_print_what_the_page_shows(page):
    text = page.read_text("utf-8")
    assert text.count("````console") >= (4 if page == README else 1)
    assert not re.search(r"@[A-Z]+@", text)
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (page.parent / link).exists(), link
    now = refreshed(text)
    diff = difflib.unified_diff(text.splitlines(), now.splitlines(), lineterm="")
    assert text == now, "run `python -m tools.readme`:\n" + "\n".join(diff)


@pytest.mark.slow
def test_its_python_runs(capsys):
    (block,) = re.findall(
        r"^```python\n(import .*?)^```$", README.read_text("utf-8"), re.DOTALL | re.M
    )
    exec(compile(block, "README.md", "exec"), {})
    assert "tea" in capsys.readouterr().out


def test_it_is_short():
    assert len(README.read_text("utf-8").splitlines()) <= 150
