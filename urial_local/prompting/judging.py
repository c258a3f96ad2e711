"""What a judge reads: a rubric, the same for every row, and a case, which is one row.

A template is a Jinja2 file with the blocks `rubric` and `case`; ours lie in templates/judge. The
rubric goes first, so that it is decoded once for all rows. The case gets `query`, `answer`, `other`
(the second answer of a pair), `history` (earlier turns), `reference`, and `fence`: backticks in a
run longer than any in those texts, so that none of them can leave its place.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from urial_local.base.errors import PromptError, near
from urial_local.base.fences import longer_fence
from urial_local.base.paths import shipped, user_path
from urial_local.base.texts import read_text
from urial_local.prompting.chat_template import holds
from urial_local.prompting.prompts import Turn
from urial_local.prompting.sandbox import render_block, render_untrusted

MAX_BYTES = 256 << 10


@dataclass(frozen=True, slots=True)
class Case:
    """The texts of one row that a judge reads."""

    query: str
    answer: str = ""
    other: str = ""
    history: Sequence[Turn] = ()
    reference: str = ""

    def texts(self) -> list[str]:
        said = [text for turn in self.history for text in (turn.query, turn.answer)]
        return [self.query, self.answer, self.other, self.reference, *said]


@dataclass(frozen=True)
class JudgeTemplate:
    """A judge's wording. `name` is a shipped one's, or the path of a file."""

    name: str
    source: str
    own: bool = True  # shipped with us, so rendered in this process
    _rubric: list[str] = field(default_factory=list)

    def rubric(self) -> str:
        """The constant text. Raises PromptError where the template fails."""
        if not self._rubric:
            self._rubric.append(self._render("rubric", {}).strip("\n"))
        return self._rubric[0]

    def case(self, case: Case) -> str:
        """The text of one row, which follows the rubric. Raises PromptError, also where a template
        of others leaves out what is to be judged: the judge would score something else."""
        context = {
            "query": case.query,
            "answer": case.answer,
            "other": case.other,
            "reference": case.reference,
            "history": [{"query": turn.query, "answer": turn.answer} for turn in case.history],
            "fence": longer_fence("\n".join(case.texts()), "```"),
        }
        text = self._render("case", context).rstrip("\n")
        if not self.own:
            for name in ("answer", "other"):
                if not holds(text, str(context[name])):
                    raise PromptError(
                        f"The judge's template {self.name} leaves out the {name}, or changes it.",
                        f"Its block `case` must show {{{{ {name} }}}} as it is.",
                    )
        return "\n" + text

    def fingerprint(self) -> str:
        """sha256 (first 16 hex digits) of the wording."""
        return hashlib.sha256(self.source.encode()).hexdigest()[:16]

    def _render(self, block: str, context: dict[str, Any]) -> str:
        if self.own:
            return render_block(self.source, block, context)
        return render_untrusted(self.source, context, block=block)


def judge_template(name: str) -> JudgeTemplate:
    """A shipped template by its mode's name, or a `.jinja` file. Raises PromptError."""
    if name.endswith(".jinja"):
        path = user_path(name, "The judge's template", error=PromptError)
        path = Path(os.path.realpath(path))
        text = read_text(path, "The judge's template", MAX_BYTES)
        source = text.replace("\r\n", "\n").replace("\r", "\n")
        template = JudgeTemplate(str(path), source, own=False)
        template.rubric()
        return template
    folder = shipped("templates") / "judge"
    names = sorted(path.stem for path in folder.glob("*.jinja"))
    if name not in names:
        raise PromptError(f"There is no judge's template {name!r}.", near(name, names))
    return JudgeTemplate(name, (folder / f"{name}.jinja").read_text("utf-8"))
