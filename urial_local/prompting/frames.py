"""Frames: how system text, examples, history and query are laid out, and what ends an answer.

A frame is a Jinja2 file with two blocks, `turn` (a query with its answer) and `request` (a query
that waits for one). Its first comment is TOML and declares markers, fence and stops, so nothing is
guessed from a name. See templates/frames/fenced.jinja.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from urial_local.base.errors import PromptError, near
from urial_local.base.fences import closes_early, longer_fence
from urial_local.base.paths import shipped, user_path
from urial_local.base.texts import read_text
from urial_local.prompting.chat_template import holds
from urial_local.prompting.markers import MarkerPolicy, contain
from urial_local.prompting.sandbox import render_block, render_untrusted
from urial_local.prompting.toml import TOMLError, parse_toml

MAX_FRAME_BYTES = 64 * 1024
MAX_MARKER = 200  # characters; a marker is a few words, and every line of a text is held against it
_HEADER = re.compile(r"\A\{#-?(.*?)-?#\}", re.DOTALL)
_KEYS = {"description", "query_marker", "answer_marker", "fence", "query_inline", "template"}


@dataclass(frozen=True, slots=True)
class Frame:
    """A layout of turns. `template` is "own" for the file's blocks, "model" for the GGUF's."""

    name: str
    description: str
    source: str
    query_marker: str = ""  # begins a query; at the start of a line in an answer it ends the answer
    answer_marker: str = ""
    fence: str = ""  # closes an answer on a line of its own
    query_inline: bool = False  # the query stands on the line of its fences
    template: str = "own"
    shipped: bool = False
    reference: str = ""  # how a prompt file names this frame: a shipped name, or a path

    @property
    def markers(self) -> tuple[str, ...]:
        return tuple(m for m in (self.query_marker, self.answer_marker) if m)

    def turn(self, query: str, answer: str, policy: MarkerPolicy = "raw") -> str:
        """A finished exchange: an example of the prompt, or a turn of the conversation."""
        answer = contain(answer, self.markers, policy)
        grown = policy != "raw" and self.fence and closes_early(answer, self.fence)
        fence = longer_fence(answer, self.fence) if grown else self.fence
        return self._block("turn", query, policy, answer=answer, answer_fence=fence)

    def request(self, query: str, policy: MarkerPolicy = "raw") -> str:
        """The query that waits for an answer; the text ends where the answer begins."""
        return self._block("request", query, policy, answer_fence=self.fence)

    def _block(self, block: str, query: str, policy: MarkerPolicy, **more: str) -> str:
        query = contain(query, self.markers, policy)
        # A fence inside the query: outgrow it. On one line with its fences, a backtick at either
        # end would join them, so such a query moves to lines of its own.
        grown = (
            bool(self.fence)
            and policy != "raw"
            and (self.fence in query or (self.query_inline and "`" in (query[:1], query[-1:])))
        )
        context = {
            "query": query,
            "query_fence": longer_fence(query, self.fence) if grown else self.fence,
            "room": "\n" if grown or not self.query_inline else "",
            **more,
        }
        if self.shipped:
            return render_block(self.source, block, context)
        text = render_untrusted(self.source, context, block=block)
        for said in (query, more.get("answer", "")):
            if not holds(text, said):
                raise PromptError(
                    f"The frame {self.name!r} leaves out the query or the answer, or changes it.",
                    f"See its block {block!r}.",
                )
        return text


def load_frame(name: str, beside: Path | None = None) -> Frame:
    """A shipped frame by name, or a `.jinja` file, relative to the folder `beside`.

    Raises PromptError for an unknown name, an unreadable file or a malformed header.
    """
    if name.endswith(".jinja"):
        path = user_path(name, "The frame", beside, PromptError)
        path = Path(os.path.realpath(path))  # what a prompt written elsewhere can name
        hint = f"Name a .jinja file, or one of the shipped frames: {', '.join(frame_names())}."
        text = read_text(path, "The frame", MAX_FRAME_BYTES, hint)
        source = text.replace("\r\n", "\n").replace("\r", "\n")
        return replace(parse_frame(path.stem, source), reference=str(path))
    if name not in frame_names():
        name = name[:MAX_MARKER]
        raise PromptError(f"There is no frame {name!r}.", near(name, frame_names()))
    return _shipped_frame(name)


def frame_names() -> list[str]:
    return sorted(p.stem for p in (shipped("templates") / "frames").glob("*.jinja"))


@cache
def _shipped_frame(name: str) -> Frame:
    path = shipped("templates") / "frames" / f"{name}.jinja"
    return parse_frame(name, path.read_text("utf-8"), shipped=True)


def parse_frame(name: str, source: str, shipped: bool = False) -> Frame:
    """A frame from its text. Raises PromptError where the header is missing or wrong."""
    match = _HEADER.match(source)
    if not match:
        raise PromptError(
            f"The frame {name!r} does not begin with a comment that declares its markers.",
            "See `urial-local prompts path` for the shipped frames.",
        )
    try:
        header: dict[str, Any] = parse_toml(match.group(1))
    except TOMLError as error:
        raise PromptError(f"The header of the frame {name!r} is not TOML: {error}.") from None
    unknown = set(header) - _KEYS
    if unknown:
        raise PromptError(
            f"The frame {name!r} declares {sorted(unknown)[0][:MAX_MARKER]!r}, which is not known.",
            f"Known: {', '.join(sorted(_KEYS))}.",
        )
    for key, value in header.items():
        if not isinstance(value, bool if key == "query_inline" else str):
            raise PromptError(f"The frame {name!r} declares {key} with a wrong type.")
        if key in ("query_marker", "answer_marker", "fence") and len(str(value)) > MAX_MARKER:
            raise PromptError(
                f"The frame {name!r} declares {key} with {len(str(value)):,} characters."
            )
    if header.get("template", "own") not in ("own", "model"):
        raise PromptError(f"The frame {name!r} declares a template other than own and model.")
    fields = {"description": "", **header}
    return Frame(name=name, source=source, shipped=shipped, reference=name, **fields)
