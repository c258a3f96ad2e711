"""A judge at the endpoint that plays its part, asked directly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.endpoint_server import KEY, Answer, Endpoint, serving
from urial_local.tasks.evaluate.endpoint import EndpointJudge, EndpointOptions
from urial_local.tasks.evaluate.judge import Question, Verdict
from urial_local.tasks.evaluate.modes import MODES


def questions(count: int, mode: str = "safety") -> Iterator[Question]:
    for i in range(count):
        yield Question((str(i),), MODES[mode], "The rubric.", f"Case {i}.")


def judged(
    endpoint: Endpoint, count: int = 1, waits: list[float] | None = None, **options: Any
) -> list[Verdict]:
    """All verdicts, by key; none of them holds the key."""
    waits = [] if waits is None else waits
    judge = EndpointJudge(
        EndpointOptions("judge-1", endpoint.url, **{"parallel": 1, **options}), waits.append
    )
    verdicts = sorted(judge.judge(questions(count)), key=lambda v: v.key)
    assert KEY not in repr((verdicts, judge.about()))
    return verdicts


def one(*answers: Answer, waits: list[float] | None = None, **options: Any):
    """The verdict on one question, and the requests that it took."""
    with serving(*answers) as endpoint:
        (verdict,) = judged(endpoint, 1, waits, **options)
    return verdict, endpoint.asked
