"""Takes the rows of a dataset through the engine, and yields each as it is finished.

A row is an item of the dataset once, or `repeat` times; it has one turn, or the turns of its
dialogue, each with its answer as history of the next; each turn has one candidate or several, of
which one is picked. Rows in flight are answered in one batch over one shared prefix.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Literal

from urial_local.base.errors import UrialError
from urial_local.prompting.prompts import Turn
from urial_local.records.datasets import Item
from urial_local.records.runlog import RunLog, asked_digest
from urial_local.runtime.engine import Engine
from urial_local.runtime.rows import Completion, Request
from urial_local.runtime.sampling import row_seed
from urial_local.tasks.generate.copied import Shown
from urial_local.tasks.generate.flags import FAULTS, flags_of
from urial_local.tasks.generate.methods import Method

KEY = ("id", "repeat")
WINDOW = 512  # rows among which the longest go first
Pick = Literal["first", "longest-clean"]
Row = dict[str, Any]  # as rows.jsonl has it


@dataclass(frozen=True, slots=True)
class JobOptions:
    """How often, how many, and which answer is taken. `turns` bounds a dialogue; 0 is all."""

    repeat: int = 1
    candidates: int = 1
    pick: Pick = "first"
    seed: int = 0
    turns: int = 0


Todo = tuple[Item, int]  # a row to make: an item, and which repeat of it


@dataclass
class _Row:
    """An item on its way through its turns."""

    item: Item
    repeat: int
    queries: tuple[str, ...]
    history: list[Turn] = field(default_factory=list)
    turns: list[dict[str, Any]] = field(default_factory=list)
    waiting: int = 0  # candidates of the present turn that are not there yet
    candidates: list[dict[str, Any]] = field(default_factory=list)
    draft: str | None = None  # of the restyle method
    shown: Shown | None = None  # what the present turn's answer could copy
    began: float = field(default_factory=time.perf_counter)


class Job:
    """Rows through one engine. It writes nothing: rows are yielded as they are finished."""

    def __init__(self, engine: Engine, method: Method, options: JobOptions) -> None:
        self.engine, self.method, self.options = engine, method, options
        self._stopping = False
        self._ready: deque[tuple[_Row, int, Request]] = deque()
        self._asked: dict[Hashable, tuple[_Row, int]] = {}  # by tag
        self._done: deque[Row] = deque()  # to be yielded
        self._count = 0

    def stop(self) -> None:
        """Begin no new rows; those in flight are finished. May be called from a signal handler."""
        self._stopping = True

    def abort(self) -> None:
        """Leave those in flight, too: `rows` raises Aborted."""
        self.engine.abort()

    def rows(self, todo: Iterable[Todo]) -> Iterator[Row]:
        """Answer each of them: rows in the order in which they are finished, error rows among them.
        Raises Aborted where the abort flag is set."""
        return self.live_rows(longest_first(todo))

    def live_rows(self, todo: Iterable[Todo | None]) -> Iterator[Row]:
        """The same in the order given. A None says that the next one is not known yet: it is asked
        for again after the next batch, and ends this where no row is in flight."""
        for step in self.engine.stream(self._requests(todo)):
            if step.completion is not None:
                row, number = self._asked.pop(step.tag)
                self._take(row, number, step.completion)
            while self._done:
                yield self._done.popleft()
        yield from self._done

    def _requests(self, todo: Iterable[Todo | None]) -> Iterator[Request | None]:
        source = iter(todo)
        more = True
        while more or self._ready or self._asked:
            if not self._ready and more:
                try:
                    more = not self._stopping
                    one = next(source) if more else None
                except StopIteration:
                    more = False
                    continue
                if one is not None:
                    self._begin_turn(self._row(*one))
                elif more:
                    yield None  # another row may come
            if self._ready:
                row, number, request = self._ready.popleft()
                self._asked[self._count] = (row, number)
                # Alone, so that it does not matter what came before: another row, a turn of this
                # one, or a wait for the next row, in which the last one's cells stay.
                yield replace(request, tag=self._count, alone=self.engine.exact)
                self._count += 1
            elif not more and self._asked:
                yield None  # another turn may follow from a row in flight

    def _row(self, item: Item, repeat: int) -> _Row:
        queries = (item.query, *item.later)
        return _Row(item, repeat, queries[: self.options.turns or len(queries)])

    def _begin_turn(self, row: _Row) -> None:
        """Ready the requests of a row's next turn, or write its error row."""
        if not row.turns and row.draft is None:
            row.began = time.perf_counter()
        try:
            if row.item.error:
                raise UrialError(row.item.error)
            turn = len(row.turns)
            query = row.queries[turn]
            examples = self.method.examples(query)
            request = self.method.request(query, row.history, row.draft, examples)
            request = within(request, row.item.max_tokens)
            self.engine.check_fits(request)
        except UrialError as error:
            self._error(row, error.message)
            return
        row.shown = self.method.shown(examples)
        drafting = self.method.drafts and row.draft is None
        row.waiting = 1 if drafting else self.options.candidates
        row.candidates = []
        for n in range(row.waiting):
            name = f"{row.item.id}\0{turn}\0{n}\0{int(drafting)}"
            seed = row_seed(self.options.seed, name, row.repeat)
            sampling = replace(request.sampling, seed=seed)
            self._ready.append((row, n, replace(request, sampling=sampling)))

    def _take(self, row: _Row, number: int, done: Completion) -> None:
        row.waiting -= 1
        row.candidates.append({"candidate": number, **answer_record(done, row.shown)})
        if row.waiting:
            return
        row.candidates.sort(key=lambda c: int(c["candidate"]))
        best = picked(row.candidates, self.options.pick)
        if best["finish_reason"] == "error":
            self._error(row, str(best["error"]))
            return
        if self.method.drafts and row.draft is None:
            row.draft = str(best["answer"])
            self._begin_turn(row)
            return
        turn = {"query": row.queries[len(row.turns)], **best}
        if row.draft is not None:
            turn["draft"], row.draft = row.draft, None
        if len(row.candidates) > 1:
            turn["candidates"] = row.candidates
        else:
            turn.pop("candidate")
        row.turns.append(turn)
        row.history.append(Turn(turn["query"], turn["answer"]))
        if len(row.turns) < len(row.queries):
            self._begin_turn(row)
        else:
            self._write(row)

    def _write(self, row: _Row) -> None:
        first, *later = row.turns
        item = row.item
        record = {
            "id": item.id,
            "repeat": row.repeat,
            "number": item.number,
            **first,
            "tags": {k: list(v) for k, v in item.tags.items()},
            "prompt": self.method.fingerprint,
            "asked_sha": asked_digest(item.query, *item.later),
            "seconds": round(time.perf_counter() - row.began, 4),
            "fields": dict(item.fields),
        }
        if later:
            record["turns"] = row.turns
            record["flags"] = list(dict.fromkeys(f for turn in row.turns for f in turn["flags"]))
        self._done.append(record)

    def _error(self, row: _Row, message: str) -> None:
        self._done.append(error_row(row.item, row.repeat, message))


def longest_first(todo: Iterable[Todo]) -> Iterator[Todo]:
    """The longest of each window first, so that no long one is left for the end."""
    source = iter(todo)
    while window := list(islice(source, WINDOW)):
        yield from sorted(window, key=lambda pair: -len(pair[0].query))


def error_row(item: Item, repeat: int, message: str) -> Row:
    """What a run holds of a row that could not be made."""
    return {
        "id": item.id,
        "repeat": repeat,
        "number": item.number,
        "query": item.query,
        "error": message,
        "fields": dict(item.fields),
    }


def within(request: Request, most: int) -> Request:
    """The request with answers of at most so many tokens; 0 is no say, and a limit below 0 is the
    context's."""
    if not most or 0 <= request.max_tokens <= most:
        return request
    return replace(request, max_tokens=most)


def todo(log: RunLog | None, items: Iterable[Item], repeat: int) -> Iterator[Todo]:
    """The rows that a run lacks, or all without a log. Raises UsageError where a question has
    changed."""
    for item in items:
        asked = asked_digest(item.query, *item.later)
        what = f"The question {item.id!r}"
        for n in range(repeat):
            if log is None or log.lacks(item.id, str(n), asked=asked, what=what):
                yield item, n


def answer_record(done: Completion, shown: Shown | None = None) -> dict[str, Any]:
    """What a row holds of an answer."""
    record: dict[str, Any] = {
        "answer": done.text,
        "raw_answer": done.raw_text,
        "answer_ids": list(done.tokens),
        "finish_reason": done.finish_reason,
        "flags": flags_of(done.text, done.finish_reason, shown),
        "prompt_tokens": done.prompt_tokens,
        "cached_tokens": done.cached_tokens,
        "completion_tokens": len(done.tokens),
        "mean_logprob": None if done.mean_logprob is None else round(done.mean_logprob, 6),
    }
    if done.guidance is not None:
        record["guide"] = done.guidance.as_dict()
    if done.prefill_tokens:
        record["prefill_tokens"] = done.prefill_tokens
    if done.end_token is not None:
        record["end_token"] = done.end_token
    if done.restarts:
        record["restarts"] = done.restarts
    if done.error:
        record["error"] = done.error
    return record


def picked(candidates: Sequence[dict[str, Any]], pick: Pick) -> dict[str, Any]:
    """The candidate that stands for a turn: the first, or the longest without a fault (the first of
    the fewest faults where all have some), as the reference chooses among several outputs."""
    sound = [c for c in candidates if c["finish_reason"] != "error"] or list(candidates)
    if pick == "first":
        return dict(sound[0])
    faults = [len(set(c["flags"]).intersection(FAULTS)) for c in sound]
    cleanest = [c for c, n in zip(sound, faults, strict=True) if n == min(faults)]
    lengths = [len(str(c["answer"])) for c in cleanest]
    return dict(cleanest[lengths.index(max(lengths))])
