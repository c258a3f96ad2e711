"""What a judge is: it takes cases, in their order of asking, and gives a verdict on each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from urial_local.tasks.evaluate.modes import Mode


@dataclass(frozen=True, slots=True)
class Question:
    """One case to judge: the rubric, which many cases share, and the case's own text."""

    key: tuple[str, ...]  # of its row in the run
    mode: Mode
    rubric: str
    case: str

    @property
    def text(self) -> str:
        """All that the judge reads."""
        return self.rubric + "\n" + self.case


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge said. With an `error` there is no record: such a row is never a score."""

    key: tuple[str, ...]
    text: str = ""  # as the judge wrote it
    record: Mapping[str, Any] = field(default_factory=dict)  # see modes
    expected: Mapping[str, float] = field(default_factory=dict)  # aspect → expected score
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    error: str = ""


class Judge(Protocol):
    """A model in memory, or an endpoint."""

    name: str

    def about(self) -> dict[str, Any]:
        """For run.json: all of the judge that decides its verdicts, `name` among it."""
        ...

    def judge(self, questions: Iterable[Question]) -> Iterator[Verdict]:
        """Verdicts as they are ready, in any order; questions are drawn as needed.

        Raises UrialError for what no question could be judged with, such as a wrong key.
        """
        ...

    def stop(self) -> None:
        """Draw no more questions; those in flight are finished. May be called from a signal."""
        ...

    def abort(self) -> None:
        """Leave those in flight, too: `judge` raises. May be called from a signal."""
        ...
