"""Finds prompts: shipped ones, the user's own, and files, TOML or the authors' plain text."""

from __future__ import annotations

import contextlib
import math
import re
from pathlib import Path
from typing import Any

from urial_local.base.errors import PromptError, UrialError, near
from urial_local.base.paths import shipped, user_path, user_prompts_dir
from urial_local.base.texts import read_text
from urial_local.prompting.frames import Frame, load_frame
from urial_local.prompting.importer import import_text
from urial_local.prompting.prompts import Prompt, Turn
from urial_local.prompting.toml import TOMLError, parse_toml, toml_string

MAX_SHOWN = 100  # characters of a name in a file, which may be of any length
MAX_PROMPT_BYTES = 2 << 20  # some half a million tokens of examples
_KEYS = {"name", "description", "frame", "system", "sampling", "evidence", "examples"}
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]{1,80}")
SAMPLING_KEYS: dict[str, type[float] | type[int]] = {
    "temperature": float,
    "top_k": int,
    "top_p": float,
    "min_p": float,
    "repeat_penalty": float,
    "max_tokens": int,
}


def prompt_files() -> dict[str, Path]:
    """All prompts by name; the user's own come first and may replace a shipped one."""
    folders = (shipped("templates") / "prompts", user_prompts_dir())
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.toml"))}


def load_prompt(name: str, frame: str | None = None) -> Prompt:
    """A prompt by name, or from a `.toml` or `.txt` file; `frame` replaces its own frame.

    Raises PromptError for an unknown name, an unreadable file, or content that is not a prompt.
    """
    path = find_prompt(name)
    text = read_prompt_text(path)
    if path.suffix == ".toml":
        return parse_prompt(text, path, frame)
    return import_text(text, path.stem, frame)


def find_prompt(name: str) -> Path:
    """The file of a prompt by name, or the file of that path. Raises PromptError for neither."""
    path = prompt_files().get(name)
    if path is not None:
        return path
    with contextlib.suppress(UrialError, OSError):  # no such user, a name that no file can have
        path = user_path(name)
        if path.exists() and not path.is_dir():
            return path
    if name.endswith((".toml", ".txt")) or "/" in name:
        raise PromptError(f"There is no prompt file {name}.", "Check the path.")
    raise PromptError(
        f"There is no prompt {name!r}.",
        near(name, list(prompt_files())) + " `urial-local prompts list` shows them all.",
    )


def read_prompt_text(path: Path) -> str:
    """A prompt file's text, with its line ends as they are. Raises PromptError."""
    return read_text(path, "The prompt", MAX_PROMPT_BYTES)


def parse_prompt(text: str, path: Path, frame: str | None = None) -> Prompt:
    """A prompt from TOML. Raises PromptError that names what is wrong."""

    def wrong(what: str) -> PromptError:
        return PromptError(f"The prompt {path} is malformed: {what}.")

    try:
        data = parse_toml(text)
    except TOMLError as error:
        raise wrong(str(error).rstrip(".")) from None
    if unknown := sorted(set(data) - _KEYS):
        raise wrong(
            f"{unknown[0][:MAX_SHOWN]!r} is not a known key (known: {', '.join(sorted(_KEYS))})"
        )
    for key in ("name", "description", "frame", "system"):
        if not isinstance(data.get(key, ""), str):
            raise wrong(f"{key} must be a text")
    sampling = _sampling(data.get("sampling", {}), wrong)
    evidence = _evidence(data.get("evidence", {}), wrong)
    examples = data.get("examples", [])
    if not isinstance(examples, list):
        raise wrong("examples must be [[examples]] tables")
    return Prompt(
        name=data.get("name") or path.stem,
        frame=load_frame(frame) if frame else _own_frame(data.get("frame", "fenced"), path),
        description=data.get("description", ""),
        system=data.get("system", ""),
        examples=tuple(_example(e, wrong) for e in examples),
        sampling=sampling,
        evidence=evidence,
    )


def _own_frame(name: str, path: Path) -> Frame:
    """The frame that a prompt's file names: a file is looked for beside it."""
    try:
        return load_frame(name, path.parent)
    except PromptError as error:
        raise PromptError(
            f"The prompt {path} cannot be used: {error.message}", error.hint
        ) from None


def _sampling(data: Any, wrong: Any) -> dict[str, float | int]:
    if not isinstance(data, dict):
        raise wrong("sampling must be a table")
    for key, value in data.items():
        if key not in SAMPLING_KEYS:
            raise wrong(
                f"[sampling] has no key {key[:MAX_SHOWN]!r} (known: {', '.join(SAMPLING_KEYS)})"
            )
        whole = isinstance(value, int) and not isinstance(value, bool)
        number = whole or (SAMPLING_KEYS[key] is float and isinstance(value, float))
        if not number or not math.isfinite(value):
            raise wrong(
                f"[sampling] {key} must be {'a whole' if SAMPLING_KEYS[key] is int else 'a'} number"
            )
        if key == "max_tokens" and (value == 0 or value < -1):
            raise wrong("[sampling] max_tokens must be above 0, or -1 for no limit")
    return data


def _evidence(data: Any, wrong: Any) -> dict[str, str | float | int]:
    """What speaks for a prompt, such as `fit` has measured; it decides nothing."""
    if not isinstance(data, dict):
        raise wrong("evidence must be a table")
    for key, value in data.items():
        if not _PLAIN_KEY.fullmatch(key):  # so that it can be written as it is
            raise wrong(f"[evidence] {key[:MAX_SHOWN]!r} must be letters, digits, _ and -")
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not isinstance(value, str) and not (number and math.isfinite(value)):
            raise wrong(f"[evidence] {key} must be a text or a number")
    return data


def _example(data: Any, wrong: Any) -> Turn:
    if not isinstance(data, dict) or set(data) - {"query", "answer", "layout"}:
        raise wrong("an example may have `query`, `answer` and `layout` only")
    query, answer, layout = data.get("query", ""), data.get("answer", ""), data.get("layout")
    if not isinstance(query, str) or not isinstance(answer, str):
        raise wrong("`query` and `answer` of an example must be texts")
    if layout is None:
        return Turn(query, answer)
    if (
        not isinstance(layout, list)
        or len(layout) != 3
        or not all(isinstance(part, str) for part in layout)
    ):
        raise wrong("`layout` of an example must be three texts")
    return Turn(query, answer, (layout[0], layout[1], layout[2]))


def prompt_toml(prompt: Prompt) -> str:
    """The prompt as a TOML file that reads back as the same prompt."""
    lines = [
        f"name = {toml_string(prompt.name)}",
        f"description = {toml_string(prompt.description)}",
        f"frame = {toml_string(prompt.frame.reference)}",
        f"system = {toml_string(prompt.system)}",
    ]
    if prompt.sampling:
        lines += ["", "[sampling]", *(f"{k} = {v}" for k, v in prompt.sampling.items())]
    if prompt.evidence:
        said = (
            f"{k} = {toml_string(v) if isinstance(v, str) else v}"
            for k, v in prompt.evidence.items()
        )
        lines += ["", "[evidence]", *said]
    for example in prompt.examples:
        lines += ["", "[[examples]]", f"query = {toml_string(example.query)}"]
        lines.append(f"answer = {toml_string(example.answer)}")
        if example.layout:
            parts = ", ".join(map(toml_string, example.layout))
            lines.append(f"layout = [{parts}]")
    return "\n".join(lines) + "\n"
