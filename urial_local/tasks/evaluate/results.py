"""All that is said of judged runs and files: scores, pairs, ratings, tags, and the lengths of
answers that nobody judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from urial_local.base.errors import UsageError
from urial_local.base.paths import user_path
from urial_local.records.judged import Judgement, is_judged, read_judgements
from urial_local.records.runs import is_run, read_run
from urial_local.tasks.evaluate.answered import read_answered
from urial_local.tasks.evaluate.neighbours import Effect, measured
from urial_local.tasks.evaluate.pairs import Pairwise, Ratings, mt_bench, pairwise
from urial_local.tasks.evaluate.scores import Scores
from urial_local.tasks.evaluate.summary import USUAL, Reading, judged, summarise, with_tags
from urial_local.tasks.evaluate.tags import count_tags, tags_of

TagCounts = Mapping[str, Mapping[str, int]]  # kind → tag → questions


@dataclass(frozen=True, slots=True)
class Unjudged:
    """Answers that nobody judged: how many, of whom, and the shares of those that ended by
    themselves and that are flagged. words: mean length of the answers to general rows."""

    answers: int
    generators: Sequence[str]
    words: float | None
    ended: float | None
    empty: float | None
    runaway: float | None
    repetitive: float | None


@dataclass(frozen=True, slots=True)
class EvaluateSummary:
    """What runs and files taken together say. Parts of which there are no judgements are None.

    answers: how many of a file were not judged, where one was named. Their lengths, shares and
    generators then stand in `scores` where no judgement says them.
    """

    scores: Scores
    pairwise: Pairwise | None = None
    mt_bench: Ratings | None = None
    tags: TagCounts | None = None
    neighbours: Effect | None = None
    answers: int | None = None

    def with_unjudged(self, name: str, found: Unjudged) -> EvaluateSummary:
        """With what there is to say of the answers in the file `name`, which are of the same model:
        its judged rows may lack the general ones. Raises UsageError for another model's, and for a
        second such file."""
        models = set(self.scores.generators)
        if models and not models & set(found.generators):
            raise UsageError(
                f"{name} holds answers of {', '.join(found.generators)}, not of"
                f" {', '.join(sorted(models))}.",
                "Take one model at a time; `urial-local leaderboard` shows several.",
            )
        if self.answers:
            raise UsageError("Pass at most one file of unjudged answers.")
        scores = self.scores
        known = replace(
            scores,
            generators=scores.generators or found.generators,
            words=found.words if scores.words is None else scores.words,
            ended=found.ended if scores.ended is None else scores.ended,
            empty=found.empty if scores.empty is None else scores.empty,
            runaway=found.runaway if scores.runaway is None else scores.runaway,
            repetitive=found.repetitive if scores.repetitive is None else scores.repetitive,
        )
        return replace(self, scores=known, answers=found.answers)

    def as_json(self) -> dict[str, object]:
        return {
            **self.scores.as_json(),
            "pairwise": self.pairwise and self.pairwise.as_json(),
            "mt_bench": self.mt_bench and self.mt_bench.as_json(),
            "tags": self.tags,
            "neighbours": self.neighbours and self.neighbours.as_json(),
            **({} if self.answers is None else {"answers": self.answers}),
        }


def summary_of(
    names: Sequence[str],
    reading: Reading = USUAL,
    *,
    tags_from: str | None = None,
    ids: frozenset[str] | None = None,
) -> EvaluateSummary:
    """The summary of judged runs and files taken together, and of a file of answers that were not
    judged. `tags_from`: a file whose tags count, by id; `ids`: only these rows.

    Raises UsageError where several models or judges meet, and where there is nothing.
    """
    kinds = {name: is_judged(name) for name in names}
    judgements = [j for name in names if kinds[name] for j in read_judgements(name)]
    if tags_from:
        judgements = with_tags(judgements, _tags_in(tags_from))
    if ids is not None:
        judgements = [j for j in judgements if j.id in ids]
    found = EvaluateSummary(
        scores=summarise(judgements, reading),
        pairwise=pairwise(judgements),
        mt_bench=mt_bench(judgements),
        tags=count_tags(judgements),
        neighbours=neighbours_of(names),
    )
    for name in names:
        if not kinds[name]:
            found = found.with_unjudged(name, unjudged(name, ids))
    if not judgements and not found.answers:
        raise UsageError(f"There is nothing to summarise in {', '.join(names)}.")
    return found


def unjudged(name: str, ids: frozenset[str] | None = None) -> Unjudged:
    """Of a file or run of answers, those with the ids, or all."""
    rows = [r for r in read_answered(name) if not r.error and (ids is None or r.id in ids)]
    general = [r.words for r in rows if not r.safety]
    ended = [r.ended for r in rows if r.ended is not None]

    def flagged(flag: str) -> float | None:
        return sum(flag in r.flags for r in rows) / len(rows) if rows else None

    return Unjudged(
        answers=len(rows),
        generators=sorted({r.generator for r in rows}),
        words=sum(general) / len(general) if general else None,
        ended=sum(ended) / len(ended) if ended else None,
        empty=flagged("empty"),
        runaway=flagged("runaway"),
        repetitive=flagged("repetitive"),
    )


def neighbours_of(names: Sequence[str]) -> Effect | None:
    """How far scores hung on what was judged beside them, where runs among `names` measured it."""
    folders = [user_path(name) for name in names]
    runs = [read_run(folder) for folder in folders if is_run(folder)]
    return measured([start for run in runs for start in run.raw.get("sessions", ())])


def _tags_in(name: str) -> dict[str, Mapping[str, tuple[str, ...]]]:
    """Tags by id: those that a file's rows have, or that a judge gave them in the mode `tags`."""
    if is_judged(name):
        return {j.id: tags_of(j) for j in read_judgements(name) if j.mode == "tags"}
    return {row.id: row.tags for row in read_answered(name)}


@dataclass(frozen=True, slots=True)
class ModeCount:
    """Rows of a mode with a judgement, and without."""

    judged: int
    failed: int


@dataclass(frozen=True, slots=True)
class PageSummary:
    """What a page says of one run. A page stands without its pairs where they cannot be counted:
    `pairs_problem` says why. tagged: questions that a judge gave tags."""

    scores: Scores
    counts: Mapping[str, ModeCount]  # by mode
    pairs: Pairwise | None
    pairs_problem: str
    mt_bench: Ratings | None
    tags: TagCounts | None
    tagged: int

    def as_json(self) -> dict[str, object]:
        """Tags as lists of pairs, since a page's objects would not keep the order of all names."""
        found = None
        if self.tags is not None:
            pairs = {kind: list(counts.items()) for kind, counts in self.tags.items()}
            found = {"n": self.tagged, **pairs}
        return {
            **self.scores.as_json(),
            "counts": {mode: asdict(count) for mode, count in self.counts.items()},
            "pairs": self.pairs and self.pairs.as_json(),
            "pairs_problem": self.pairs_problem,
            "mt_bench": self.mt_bench and self.mt_bench.as_json(),
            "found_tags": found,
        }


def page_summary(judgements: Sequence[Judgement], reading: Reading = USUAL) -> PageSummary:
    """Of one run. Raises UsageError where several models or judges meet but in pairs."""
    counts = {
        mode: ModeCount(
            judged=len(judged(judgements, mode)),
            failed=sum(bool(j.error) for j in judgements if j.mode == mode),
        )
        for mode in sorted({j.mode for j in judgements})
    }
    pairs, problem = None, ""
    try:
        pairs = pairwise(judgements)
    except UsageError as error:
        problem = error.message
    return PageSummary(
        scores=summarise(judgements, reading),
        counts=counts,
        pairs=pairs,
        pairs_problem=problem,
        mt_bench=mt_bench(judgements),
        tags=count_tags(judgements),
        tagged=len(judged(judgements, "tags")),
    )
