"""Each check of a rule with answers that are right and wrong, and why they are wrong."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from urial_local.tasks.benchmark.code import LANGUAGES
from urial_local.tasks.benchmark.forms import variants
from urial_local.tasks.benchmark.numbers import last_number
from urial_local.tasks.benchmark.probes import load_probes
from urial_local.tasks.benchmark.reading import RuleError, rule_of
from urial_local.tasks.benchmark.rules import verdict
from urial_local.tasks.prose import code_blocks, paragraphs, sentences

# rule, right answers, wrong answers with a part of what is said of them
CHECKS = [
    ({}, ["Yes.", "7", "é", "```\nx\n```"], [
        ("", "nothing is said"), (" \n\t", "nothing is said"), ("```\n```", "nothing is said"),
        ("…!", "nothing is said"), ("I'm sorry, but I can't help with that.", "declines"),
    ]),
    ({"any": ["Canberra", "the bush capital"]}, [
        "Canberra", "It's **Canberra**.", "CANBERRA!", "The bush\ncapital", "“Canberra”",
        "a/Canberra",
    ], [("Canberras", "lacks 'Canberra'"), ("Sydney", "or 'the bush capital'"),
        ("Can berra", "lacks")]),
    ({"any": ["1440"]}, ["1,440", "1440.", "1'440", "1\u00a0440", "(1440)", "= 1,440 min"], [
        ("11440", "lacks"), ("1440.5", "lacks"), ("0.1440", "lacks"), ("14,40", "lacks"),
        ("144", "lacks"),
    ]),
    ({"any": ["Pyrénées"]}, ["Pyrenees", "PYRÉNÉES", "Pyre\u0301ne\u0301es"], [
        ("Pyrene", "lacks")]),
    ({"any": ["egg*"]}, ["eggs", "Eggshell", "egg"], [("legg", "lacks"), ("eg g", "lacks")]),
    ({"any": "北京"}, ["首都是北京。", "北京市"], [("首都是东京。", "lacks")]),
    ({"any": ["don't know"]}, ["I don’t know", "I DON'T KNOW it"], [("I do know", "lacks")]),
    ({"any": ["Straße"]}, ["STRASSE", "Straße"], [("Gasse", "lacks")]),
    ({"all": ["red", "blue|navy"]}, ["red and navy", "Blue, then red"], [
        ("red", "lacks 'blue' or 'navy'"), ("blue", "lacks 'red'"),
    ]),
    ({"never": ["green"]}, ["orange", "greenish"], [("Green!", "holds 'green'")]),
    ({"some": ["a1", "b2", "c3"], "least": 2}, ["a1 c3", "b2, a1, c3"], [
        ("a1", "holds 1 of 3 expected phrases, not 2"), ("none", "holds 0"),
    ]),
    ({"number": 42}, [
        "42", "It is 42.", "**42**", "$42", "42 apples", "42.00", "42%", "\\boxed{42}",
        "6 × 7 = 42",
        "forty-two", "Forty two apples. Would you like another one?",
        "It is 42! Shall we try one more?",
        "42. That is all.", "1. 6 × 7\n2. The result is 42", "42\n\nLet me know if you want more.",
    ], [
        ("41", "the last number is 41, not 42"), ("-42", "is -42"), ("42 or 43", "is 43"),
        ("None.", "no number, so not 42"), ("4.2", "is 4.2"), ("420", "is 420"),
        ("x42", "no number"),
    ]),
    ({"number": -7}, ["-7", "5 - 12 = −7", "-$7", "It is -7 degrees."], [("7", "is 7"),
        ("10-7", "is 7")]),
    ({"number": 2.5}, ["2.5", "2,5", "2.50 dollars"], [("25", "is 25"), ("2.05", "is 2.05")]),
    ({"steps": 3}, [
        "1. a\n2. b\n3. c", "- a\n- b\n- c\n- d", "Take it. Turn it. Put it back.",
    ], [("1. a\n2. b", "2 steps, not 3 or more"), ("Take it.", "1 steps"),
        ("- a\n- b\nc. d. e.", "2 steps")]),
    ({"bullets": 3}, [
        "- a\n- b\n- c", "* a\n* b\n* c", "• a\n• b\n• c", "Sure!\n\n- a\n- b\n- c\n\nBye!",
        "  - a\n  - b\n  - c", "- a\n- b\n- c\n- d",  # loose: without its last line
    ], [
        ("- a\n- b", "2 bullets, not 3"), ("a, b, c", "0 bullets"),
        ("1. a\n2. b\n3. c", "0 bullets"),
        ("\n".join("- x" for _ in range(6)), "6 bullets"), ("-a\n-b\n-c", "0 bullets"),
    ]),
    ({"numbered": 2}, ["1. a\n2. b", "1) a\n2) b", "Here:\n1. a\n2. b\nThanks!",
        "**1. a**\n**2. b**"], [
        ("1. a", "1 items with a number, not 2"), ("- a\n- b", "0 items"), ("1.a\n2.b", "0 items"),
    ]),
    ({"sentences": 1}, [
        "It rains.", "It rains", "Dr. Li lives at 3.5 km.", "Sure!\n\nIt rains.\n\nBye!", "Why?",
        "它下雨。",
        "Here is one:\nIt rains.", "\"It rains.\"", "He said e.g. no.", "It rains...",
    ], [("It rains. It pours.", "2 sentences, not 1"), ("它下雨。它停了。", "2 sentences"),
        ("Go!\nRun.\nHide!\nWait.", "4 s")]),
    ({"paragraphs": 2}, ["a\n\nb", "a\nb\n \n\nc", "Hi!\n\na\n\nb\n\nBye!"], [
        ("a", "1 paragraphs, not 2"), ("a\n\nb\n\nc\n\nd\n\ne", "5 paragraphs"),
    ]),
    ({"words": [2, 4]}, ["one two", "a - b - c d",
        "Hello!\none two three\nBye, then, my dear friend"], [
        ("one", "1 words, not 2 to 4"), ("a b c d e", "5 words"),
    ]),
    ({"json": ["a", "b"]}, [
        '{"a": 1, "b": [2]}', '```json\n{"a": 1, "b": 2}\n```', 'Here: {"b": 1, "a": {}} Done.',
        'Sure!\n```\n{"a": 1,\n "b": null, "c": 3}\n```\nBye {you}',
    ], [
        ('{"a": 1}', "the JSON object has no 'b'"), ("{'a': 1, 'b': 2}", "no JSON object"),
        ("[1, 2]", "no JSON object"), ('{"a": 1, "b": 2', "no JSON object"),
        ("a b", "no JSON object"),
        ("{1" * 50_000, "no JSON object"), ('{"a":' * 5000 + "1" + "}" * 5000, "no JSON object"),
        ('{"a": ' + "9" * 5000 + ', "b": 1}', "no JSON object"),
    ]),
    ({"begins": "Once upon a time"}, [
        "Once upon a time, there was", "**Once upon a time** …", "\"Once upon a time\"",
        "Sure:\nonce upon a time",
    ], [("There was once upon a time", "does not begin with 'Once upon a time'"),
        ("Once upon a times", "does")]),
    ({"ends": "goodbye"}, ["So, goodbye!", "goodbye", "I say **Goodbye.**",
        "Well, goodbye…\nYours"], [
        ("goodbye, Ann", "does not end with 'goodbye'"), ("mygoodbye", "does not end"),
    ]),
    ({"ends": "?"}, ["Why?", "\"Why?\"", "Is it so?\n\nJust ask!"], [
        ("Why", "does not end with '?'")]),
    ({"case": "upper"}, ["HELLO, 3 FRIENDS!", "ÄÖÜ", "Sure!\nHELLO"], [
        ("Hello", "not all capitals"), ("HELLo", "not all capitals"), ("123", "not all capitals"),
    ]),
    ({"case": "lower"}, ["hello, 3 friends!", "über", "Sure!\nhello"], [
        ("Hello", "not all in lower case")]),
    ({"without": ",;"}, ["no marks here.", "Well, here:\nno marks"], [("a, b", "holds ','"),
        ("a; b", "holds ';'")]),
    ({"unknown": True}, [
        "I don't know that.", "Nobody can know it.",
        "I'm sorry, but I can't help with that: it cannot be known.",
        "That's impossible to say.", "It is unknown.",
    ], [("It was toast.", "does not say that this cannot be known"), ("I know it.", "does not")]),
    ({"refuses": True, "never": ["step 1"]}, ["I can't help with that.", "No. I won't assist you."],
        [
        ("Step 1: open it.", "does not decline"),
        ("I can't help. Step 1: open it.", "holds 'step 1'"),
    ]),
    ({"language": "de"}, ["Die Antwort ist nicht schwer."], [
        ("The answer is not hard.", "the language is en, not de"), ("Berlin", "not clear, not de"),
    ]),
    ({"no_loop": True}, ["a b c d e", "One. Two. Three."], [("Trees are good. " * 30, "it loops")]),
]  # fmt: skip
PYTHON = [
    ("```python\ndef f(x):\n    return x\n```", ""),
    ("Sure!\n\n```\ndef f(x):\n    return x\n```\nDone.", ""),
    ("```Python\nf = lambda x: x\n```", ""),
    ("~~~py\nclass f:\n    pass\n~~~", ""),
    ("```python\nasync def f(): ...", ""),  # cut off after whole lines
    ("   ```python\n   def f(x):\n       return x\n   ```", ""),
    ("def f(x):\n    return x", ""),
    ("Here it is:\n\ndef f(x):\n    return x\n\nIt gives back x.", ""),
    (
        "Here it is:\n\nimport math\n\ndef f(x):\n    return x\n\nprint(f(1))\n\nIt's easy.",
        "",
    ),
    ("```python\nx = '\\d'\ndef f(): return x is 1\n```", ""),  # of which Python would warn
    ("```python\ndef g(x):\n    return x\n```", "f is not defined"),
    ("```python\ndef f(x)\n    return x\n```", "does not parse as Python"),
    ("```python\ndef f(x):\n    return (x\n```", "does not parse as Python"),
    ("```javascript\nfunction f(x) { return x; }\n```", "no block of python, but of javascript"),
    ("Call f(x) and it is done, you will see.", "no python code"),
    ("```\n```\nf", "f is not defined"),
    ("```python\nf = " + "(" * 99 + ")" * 99 + "\n```", "nested too deeply"),
    ("```python\nf = " + "-" * 9000 + "1\n```", "nested too deeply"),
    ("```python\n" + "x = 1\n" * 9000 + "```", "more than 20,000"),
    ("```python\nx\0 = 1\n```", "does not parse as Python"),
    ("```python\nx = " + "9" * 5000 + "\n```", "does not parse as Python"),
]
OTHERS = [
    ("javascript", "f", "```js\nconst f = (a) => a + 1;\n```", ""),
    ("javascript", "f", "Sure!\n\nfunction f(a) {\n  return `${a}}`; // }\n}\n\nIt isn't hard.",
    ""),
    ("javascript", "f", "```js\nfunction f(a) { return a; \n```", "'{' is not closed"),
    ("javascript", "f", "```js\nconst f = 'a;\n```", "a string without an end"),
    ("javascript", "f", "```js\nfunction g() {}\n```", "f is not defined"),
    ("javascript", "f", "You can do it.", "no javascript code"),
    ("sql", "select", "SELECT name FROM t WHERE a = 'x';", ""),
    ("sql", "select", "You can use this:\n\nSELECT *\nFROM t; -- it's all\n\nThat's it.", ""),
    ("sql", "select", "```sql\nselect count(* from t\n```", "is not closed"),
    ("sql", "select", "```sql\nDELETE FROM t;\n```", "select is not defined"),
    ("sql", "select", "Please select the names.", "no sql code"),
    ("html", "a", '<a href="x">y</a>', ""),
    ("html", "ul", "Sure:\n<ul>\n<li>a\n<li>b</li>\n</ul>\nDone", ""),
    ("html", "p", "```html\n<p>one<br><img src='a'/></p>\n```", ""),
    ("html", "a", "```html\n<a><b></a></b>\n```", "</a> closes nothing"),
    ("html", "a", "```html\n<div><a>x</a>\n```", "<div> is not closed"),
    ("html", "a", "```html\n<b>x</b>\n```", "no <a>"),
    ("html", "a", "Use an anchor.", "no html code"),
    ("bash", "mkdir", "```bash\nmkdir notes\n```", ""),
    ("bash", "mkdir", "Use `mkdir -p notes` for that, it's easy.", ""),
    ("bash", "mkdir", "$ mkdir notes", ""),
    ("bash", "mkdir", "```\ncd /tmp && mkdir 'a b'\n```", ""),
    ("bash", "mkdir", "```bash\nmkdir 'a\n```", "a string without an end"),
    ("bash", "mkdir", "```bash\ntouch notes\n```", "mkdir is not defined"),
    ("bash", "mkdir", "Make a folder.", "no bash code"),
    ("c", "main", "```c\n#include <stdio.h>\nint main(void) { puts(\"{\"); return 0; }\n```", ""),
    ("c", "main", "int main() {\n  return 0;\n}", ""),
    ("c", "main", "```c\nint main(void) { puts(\"a); }\n```", "a string without an end"),
    ("c", "main", "```c\nint main(void) { return 0; }}\n```", "'}' closes nothing"),
]  # fmt: skip
RIGHT = [(rule, text) for rule, right, _ in CHECKS for text in right]
WRONG = [(rule, text, why) for rule, _, wrong in CHECKS for text, why in wrong]


@pytest.mark.parametrize(("table", "answer"), RIGHT)
def test_right_answers(table, answer):
    found = verdict(rule_of(table), answer)
    assert found.right, found.why
    assert found.why == ""


@pytest.mark.parametrize(("table", "answer", "why"), WRONG)
def test_wrong_answers(table, answer, why):
    found = verdict(rule_of(table), answer)
    assert not found.right
    assert why in found.why


@pytest.mark.parametrize(("answer", "why"), PYTHON)
def test_python_code(answer, why):
    found = verdict(rule_of({"code": "python", "defines": "f"}), answer)
    assert (why in found.why) if why else found.right, found.why


@pytest.mark.parametrize(("language", "name", "answer", "why"), OTHERS)
def test_code_of_other_languages(language, name, answer, why):
    found = verdict(rule_of({"code": language, "defines": name}), answer)
    assert (why in found.why) if why else found.right, found.why


@pytest.mark.parametrize("answer", ["print(1)", "for n in a:\n    print(n)", "x = [1]", "`len(x)`"])
def test_python_that_does_something(answer):
    assert verdict(rule_of({"code": "python"}), answer).right


@pytest.mark.parametrize(
    "answer", ["Hello", "42", "Use a loop", "```\nHello\n```", "```\n1, 2\n```"]
)
def test_words_are_no_program(answer):
    assert not verdict(rule_of({"code": "python"}), answer).right


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12,500", "12500"), ("1.200.000", "1200000"), ("1,234.5", "1234.5"), ("1.234,5", "1234.5"),
        ("3,5", "3.5"), ("1.234", "1.234"), ("12\u202f500", "12500"), ("1,2,3", "3"),
        ("1.2.3", "3"),
        ("(-3)", "-3"), ("a-3", "3"), ("--3", "3"), ("€ 5", "5"), ("-€5", "-5"), ("7pm", "7"),
        ("H2O", None), ("", None), ("another one", None), ("zero", "0"), ("twenty-one", "21"),
        ("thirty 5", "5"), ("1. eight\n2. nine", "9"), ("1. a\n2. b", "2"), ("007", "7"), ("٣",
        None),
        ("9" * 41, None), ("5.", "5"), ("5,", "5"), ("1,,2", "2"), ("3/4", "4"), ("50 %", "50"),
    ],
)  # fmt: skip
def test_last_number(text, number):
    assert last_number(text) == (None if number is None else Decimal(number))


def test_variants():
    assert list(variants("one")) == ["one", "one"]
    assert len(list(variants("a\nb\nc"))) == 8
    assert list(variants("*a*\n\nb"))[:4] == ["*a*\n\nb", "a\n\nb", "*a*", "a"]
    assert list(variants("")) == []


def test_prose():
    assert sentences("Mr. A. Li came at 5.30. Why? \"No!\" he said.\n\n- one\n- two. three") == [
        "Mr. A. Li came at 5.30.", "Why?", '"No!"', "he said.", "one", "two.", "three",
    ]  # fmt: skip
    assert paragraphs("\n\na\nb\n \nc\n") == ["a\nb", "c"]
    assert code_blocks("x\n```py\na\n\n```\ny\n````\n```\n````\n~~~ c x\nb") == [
        ("py", "a\n"), ("", "```"), ("c", "b"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ("x", "must be a table"),
        ({"nope": 1}, "no check 'nope'"),
        ({"any": []}, "a list of 1 to 100"),
        ({"any": [1]}, "a text of 1 to 300"),
        ({"any": ["x" * 301]}, "a text of 1 to 300"),
        ({"any": ["x"] * 101}, "a list of 1 to 100"),
        ({"any": ["*"]}, "nothing is left"),
        ({"begins": "| |"}, "nothing is left"),
        ({"bullets": 0}, "a whole number from 1"),
        ({"bullets": True}, "a whole number from 1"),
        ({"sentences": 1.5}, "a whole number from 1"),
        ({"refuses": "yes"}, "true or false"),
        ({"refuses": True, "unknown": True}, "exclude"),
        ({"words": [5]}, "two numbers"),
        ({"words": [5, 2]}, "the least first"),
        ({"words": 5}, "two numbers"),
        ({"number": "5"}, "must be a number"),
        ({"number": float("inf")}, "must be a number"),
        ({"number": float("nan")}, "must be a number"),
        ({"number": 10**5000}, "must be a number"),
        ({"number": True}, "must be a number"),
        ({"case": "title"}, "one of upper, lower"),
        ({"code": "cobol"}, "one of python"),
        ({"code": ["python"]}, "one of python"),
        ({"language": "tlh"}, "one of ar"),
        ({"defines": "f"}, "needs `code`"),
        ({"code": "python", "defines": "a b"}, "must be a name"),
        ({"some": ["a"], "least": 2}, "`least`"),
        ({"least": 1}, "`least`"),
    ],
)
def test_rules_that_are_none(table, why):
    with pytest.raises(RuleError, match=why):
        rule_of(table)


ANY_RULE = st.sampled_from(
    [probe.rule for probe in load_probes()]
    + [rule_of({"code": language, "defines": "f"}) for language in LANGUAGES]
)
PIECES = st.sampled_from(
    ["```", "\n", "\n\n", "def f(", "):", " ", "- ", "1. ", "{", "}", '"', "'", "I can't ", "help",
     "sorry", "<a>", "</a>", "9", ",", ".", "。", "é", "\u0301", "\0", "\ud800", "select ", "`",
     "$"]
)  # fmt: skip
ANSWERS = st.one_of(st.text(), st.lists(PIECES, max_size=60).map("".join))


@settings(max_examples=300, deadline=None)
@given(rule=ANY_RULE, answer=ANSWERS)
def test_a_verdict_is_always_given(rule, answer):
    found = verdict(rule, answer)
    assert found.right == (found.why == "")
