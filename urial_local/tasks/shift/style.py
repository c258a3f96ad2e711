"""Which tokens are stylistic: how something is said rather than what.

The paper finds that shifted tokens are mostly stylistic (discourse markers, safety disclaimers) but
draws no line. Ours: a token is stylistic when, stripped of blanks and in lower case, it has neither
letter nor digit (punctuation, layout), or is in `templates/report/style_words.txt` (function words,
discourse markers, greetings, hedges, words of refusal; English). All else is content.
"""

from __future__ import annotations

from functools import cache

from urial_local.base.paths import shipped


@cache
def style_words() -> frozenset[str]:
    lines = shipped("templates/report/style_words.txt").read_text("utf-8").splitlines()
    return frozenset(w for line in lines if not line.startswith("#") for w in line.split())


def is_stylistic(text: str) -> bool:
    """Whether a token of this text is stylistic; see the module's text."""
    word = text.replace("▁", " ").strip().lower()
    return not any(c.isalnum() for c in word) or word in style_words()
