"""Whether an answer holds code of a language that parses. Nothing is ever executed.

Looked at are the fenced blocks of the language, or without one; where there is no block, spans in
backticks, the whole answer, each paragraph, and the stretch from the first to the last line that
look like the language. One of them has to be right:

python       `ast` parses it, and it does something (a call, an assignment, a definition, …)
javascript, c   strings and comments end, brackets pair, and it has a mark of the language
sql          the same, and it begins with a statement's word
html         its tags pair
bash         strings end, brackets pair

`defines` names what must be there: a function or class (python, javascript, c), an element (html),
the word that a statement (sql) or a line (bash) begins with. Limits: only Python is parsed by a
grammar; the others are looked at, and may be wrong in ways not looked for.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable, Iterator

from urial_local.tasks.benchmark.brackets import html_fault, pairs_fault
from urial_local.tasks.prose import code_blocks, paragraphs

MAX_CODE = 20_000  # characters of a block; a longer one is not looked at
MAX_DEPTH = 40  # brackets in each other
MAX_INDENT = 200  # columns
MAX_OPERATORS = 2000  # signs and words that may nest an expression or a statement
MAX_SPANS = 20  # in backticks
LANGUAGES: dict[str, frozenset[str]] = {
    "python": frozenset({"python", "py", "python3"}),
    "javascript": frozenset({"javascript", "js", "node", "jsx"}),
    "c": frozenset({"c"}),
    "sql": frozenset({"sql", "sqlite", "mysql", "postgresql", "postgres"}),
    "html": frozenset({"html"}),
    "bash": frozenset({"bash", "sh", "shell", "console", "zsh"}),
}
_SPAN = re.compile(r"(?<!`)`([^`\n]{1,300})`(?!`)")
_NESTS = re.compile(r"[-+*/%@&|^~<>=.]|\b(?:not|and|or|elif|else|lambda|await|if)\b")
_BEGINS = {  # a line of code in an answer without blocks
    "python": re.compile(
        r"(?:async def|def|class|import|from|for|while|with|if|try|print)\b|@|\w+ ?=|\w+\("
    ),
    "javascript": re.compile(r"(?:async |export )?(?:function|const|let|var|class)\b|console\."),
    "c": re.compile(r"#include|(?:static |unsigned )?(?:int|void|char|double|float|long|bool)\b"),
    "sql": re.compile(r"(?:select|insert|update|delete|create|alter|drop|with)\b", re.IGNORECASE),
    "html": re.compile(r"<[a-zA-Z!]"),
    "bash": re.compile(r"#!|\$ |[a-z]+ [-./~*\w\"']"),
}
_MARKS = {
    "javascript": re.compile(r"\bfunction\b|=>|\bconst\b|\blet\b|\bvar\b|console\.|return\b"),
    "c": re.compile(r";"),
    "sql": _BEGINS["sql"],
    "bash": re.compile(r"[a-z]"),
}
_DOES = (
    *(ast.Call, ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef, ast.Import, ast.ImportFrom),
    *(ast.Assign, ast.AugAssign, ast.For, ast.While, ast.ListComp, ast.DictComp, ast.Lambda),
    *(ast.Subscript, ast.SetComp, ast.GeneratorExp, ast.With),
)


def code_fault(answer: str, language: str, name: str = "") -> str:
    """What is missing; "" where a candidate is right, else what the first one lacks."""
    blocks = code_blocks(answer)
    names = LANGUAGES[language] | {""}
    found = [code for tag, code in blocks if tag in names]
    if blocks and not found:
        return f"no block of {language}, but of {blocks[0][0][:20]}"
    first = ""
    for code in found or _bare(answer, language):
        why = _fault(_unindented(code), language, name)
        if not why:
            return ""
        first = first or why
    return first or f"no {language} code"


def _bare(answer: str, language: str) -> Iterator[str]:
    """What may be code in an answer without blocks; each character is in five of them at most."""
    looks = _BEGINS[language]
    for number, span in enumerate(_SPAN.finditer(answer)):
        if number < MAX_SPANS and looks.match(span[1]):
            yield span[1]
    lines = answer.strip("\n").split("\n")
    starts = [at for at, line in enumerate(lines) if looks.match(line.lstrip())]
    if not starts:
        return
    yield answer
    yield "\n".join(lines[starts[0] :])
    last = max(at for at, line in enumerate(lines) if _goes_on(line, at in starts[-1:]))
    yield "\n".join(lines[starts[0] : last + 1])
    for block in paragraphs("\n".join(lines[starts[0] :])):
        if looks.match(block.lstrip()):
            yield block


def _goes_on(line: str, begins: bool) -> bool:
    ends = line.rstrip().endswith((";", "}", ">"))
    return begins or ends or (line.startswith((" ", "\t")) and bool(line.strip()))


def _unindented(code: str) -> str:
    lines = code.split("\n")
    indents = [len(line) - len(line.lstrip(" \t")) for line in lines if line.strip()]
    least = min(indents, default=0)
    return "\n".join(line[least:] for line in lines)


def _fault(code: str, language: str, name: str) -> str:
    if len(code) > MAX_CODE:
        return f"code of more than {MAX_CODE:,} characters"
    if language == "python":
        return _python_fault(code, name)
    if language == "html":
        return html_fault(code, name)
    if why := pairs_fault(code, language):
        return why
    mark = _MARKS[language]
    if not (mark.match(code.lstrip()) if language == "sql" else mark.search(code)):
        return f"no {language} code"
    return f"{name} is not defined" if name and not _names(language)(code, name) else ""


def _names(language: str) -> Callable[[str, str], bool]:
    return _begins_with if language in ("sql", "bash") else _is_made


def _begins_with(code: str, name: str) -> bool:
    """Whether a line, a statement or a part of a pipeline begins with a word."""
    starts = re.split(r"[\n;|]|&&", code.lower())
    return any(
        part.strip().removeprefix("$ ").removeprefix("sudo ").split(" ")[0] == name.lower()
        for part in starts
    )


def _is_made(code: str, name: str) -> bool:
    return re.search(rf"(?<![\w.]){re.escape(name)} {{0,3}}[(=:]", code) is not None


def _python_fault(code: str, name: str) -> str:
    if _is_deep(code):
        return "code nested too deeply to check"
    tree = _parsed(code)
    if tree is None:
        return "does not parse as Python"
    if name:
        return "" if name in _defined(tree) else f"{name} is not defined"
    return "" if any(isinstance(node, _DOES) for node in ast.walk(tree)) else "no Python code"


def _defined(tree: ast.Module) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
            names.update(t.id for t in node.targets if isinstance(t, ast.Name))
    return names


def _is_deep(code: str) -> bool:
    """Whether Python's parser could run out of stack, told before it is asked."""
    depth = deepest = 0
    for character in code:
        if character in "([{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in ")]}":
            depth -= 1
    indent = max(len(line) - len(line.lstrip()) for line in code.split("\n"))
    nests = sum(1 for _ in _NESTS.finditer(code))
    return deepest > MAX_DEPTH or indent > MAX_INDENT or nests > MAX_OPERATORS


def _parsed(code: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings():  # of escapes that Python does not know
            warnings.simplefilter("ignore")
            return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
