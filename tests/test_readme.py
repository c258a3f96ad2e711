"""The README shows what its commands print."""

from __future__ import annotations

import difflib
import re

import pytest

from tools.readme import README, refreshed


@pytest.mark.slow
def test_the_commands_print_what_the_readme_shows():
    text = README.read_text("utf-8")
    assert text.count("````console") >= 5
    assert not re.search(r"@[A-Z]+@", text)
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (README.parent / link).exists(), link
    now = refreshed(text)
    diff = difflib.unified_diff(text.splitlines(), now.splitlines(), lineterm="")
    assert text == now, "run `python -m tools.readme`:\n" + "\n".join(diff)
