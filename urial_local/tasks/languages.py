"""In which language a text is written: by its script, or by its function words.

Blocks of code are left out. The script with the most letters decides, where one has more than
half of them (a character of Chinese, Japanese or Korean stands for three letters): kana mean
Japanese, Han alone Chinese, and Hangul, Greek, Arabic, Devanagari and Cyrillic one language each
(ko, el, ar, hi, ru). For the Latin script, each word that stands in the lists of
`templates/phrases/function_words.txt` gives its languages equal parts of a point: en, de, fr, es,
it, pt, nl, pl, sv. The best must have LEAST points, a SHARE of the words, and LEAD times as many as
the next.

"" where that leaves it open: names alone, a few words, a mixture. Limits: other languages of a
script are taken for the one named (Ukrainian and Persian by letters of their own for none), and a
near one (Danish, Catalan) may be taken for the nearest in the lists.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import cache

from urial_local.tasks.phrases import phrase_lists
from urial_local.tasks.prose import without_code

LEAST = 1.0
SHARE = 0.1
LEAD = 1.3
LONGEST = 20_000  # characters that are looked at
SCRIPTS = {"HANGUL": "ko", "GREEK": "el", "ARABIC": "ar", "DEVANAGARI": "hi", "CYRILLIC": "ru"}
_FOREIGN = {"ru": "іїєґўјљњћђџ", "ar": "پچژگ"}  # letters that the language does not have
_WIDE = 3  # letters that a character of an East Asian script stands for
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


def known_languages() -> tuple[str, ...]:
    """The codes that can be told."""
    return tuple(sorted({*_points(), *SCRIPTS.values(), "zh", "ja"}))


def language_of(text: str) -> str:
    """ISO 639-1 code of the language of a text, or "" where unsure."""
    text = without_code(text[:LONGEST])
    scripts: Counter[str] = Counter()
    for character in text:
        if character.isalpha():
            scripts[_script(character)] += 1
    wide = {"HAN", "KANA", "HANGUL"}
    weights = {name: n * (_WIDE if name in wide else 1) for name, n in scripts.items()}
    if not weights:
        return ""
    east = weights.get("HAN", 0) + weights.get("KANA", 0)
    total = sum(weights.values())
    if 2 * east > total:
        return "ja" if 10 * scripts["KANA"] > scripts["HAN"] else "zh"
    name, most = max(weights.items(), key=lambda item: item[1])
    if 2 * most <= total:
        return ""
    if name == "LATIN":
        return _by_words(text)
    code = SCRIPTS.get(name, "")
    small = text.lower()
    return "" if any(letter in small for letter in _FOREIGN.get(code, "")) else code


def _script(letter: str) -> str:
    if letter.isascii():
        return "LATIN"
    name = unicodedata.name(letter, "")
    if name.startswith("CJK"):
        return "HAN"
    if name.startswith(("HIRAGANA", "KATAKANA")):
        return "KANA"
    return name.split(" ")[0]


def _by_words(text: str) -> str:
    words = _WORD.findall(text.lower().replace("’", "'"))
    points = dict.fromkeys(_points(), 0.0)
    for word in words:
        # In French and Italian, a word and its article are one: l'eau, dell'acqua.
        for part in (word, word.split("'")[0] + "'") if "'" in word else (word,):
            languages = _languages_of().get(part, ())
            for language in languages:
                points[language] += 1 / len(languages)
    ranked = sorted(points.items(), key=lambda item: -item[1])
    (best, most), (_, second) = ranked[:2]
    sure = most >= LEAST and most >= SHARE * len(words) and most >= LEAD * second
    return best if sure else ""


@cache
def _points() -> tuple[str, ...]:
    return tuple(phrase_lists("function_words"))


@cache
def _languages_of() -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for language, lines in phrase_lists("function_words").items():
        for word in dict.fromkeys(" ".join(lines).split()):
            found.setdefault(word, []).append(language)
    return {word: tuple(languages) for word, languages in found.items()}
