"""The embedded base with its aligned model as a guide, on the pair's held-out questions.

`python -m tools.demo_pair.guided` prints the table of docs/guides.md: first turns only, greedy.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tools.demo_pair.evaluate import (
    MOST_TOKENS,
    STYLES,
    Reply,
    Result,
    Setting,
    judge,
    questions,
    score,
    settings,
)
from tools.demo_pair.frames import FENCE
from urial_local.base.registry import find_model
from urial_local.runtime.engine import Engine
from urial_local.runtime.guided import Ends, Guided
from urial_local.runtime.guides import Rule
from urial_local.runtime.model import Model
from urial_local.runtime.open import RuntimeOptions, open_engine
from urial_local.runtime.rows import Request
from urial_local.runtime.sequences import Sequences
from urial_local.runtime.stops import StopPolicy
from urial_local.runtime.voice import Voice

ROWS, SEED = 8, 7
SHOWN = ("ends", "fact", "style", "procedure", "sum", "unsafe", "unknown")


@contextmanager
def opened() -> Iterator[tuple[Model, Engine, Voice]]:
    """Base and guide, over engines of eight rows."""
    options = RuntimeOptions(ctx_size=2048, parallel=ROWS, disk_cache=False)
    with (
        open_engine(find_model("demo").path, options) as (base, engine),
        Model(find_model("demo-aligned").path) as guide,
    ):
        theirs = Sequences(guide, cells=2048 * ROWS, n_seq=ROWS)
        try:
            yield base, engine, Voice(theirs)
        finally:
            theirs.close()


def measured(setting: Setting, rule: Rule) -> tuple[Result, float]:
    """Shares of what is right, and the guide's share of the tokens."""
    aligned = settings()[-1]
    asked = questions(SEED)
    with opened() as (base, engine, voice):
        engine.chooser = Guided(rule, [voice], Ends(base.vocab, base.vocab, base.vocab.eos))
        requests = [
            Request(
                base.vocab.tokenize(setting.prompt(q.text)).tolist(),
                stop=StopPolicy(FENCE, "# Query:"),
                max_tokens=MOST_TOKENS,
                others=(base.vocab.tokenize(aligned.prompt(q.text), parse_special=True).tolist(),),
            )
            for q in asked
        ]
        done = engine.complete(requests)
    result = Result()
    for question, found in zip(asked, done, strict=True):
        reply = Reply(found.text, found.finish_reason in ("frame", "eos"))
        judge(result, question, reply, score(question, reply.text, STYLES[setting.style]))
    written = sum(len(d.tokens) for d in done)
    return result, sum(len(d.guidance.at) for d in done if d.guidance) / written


def main() -> None:
    print(f"| | the guide's tokens | {' | '.join(SHOWN)} |")
    print("|---" * (len(SHOWN) + 2) + "|")
    for setting in settings():
        if setting.name not in ("base, zero-shot", "base, urial-demo"):
            continue
        for gamma in (0.0, 0.2, 0.4, 0.6, 1.1):
            result, rate = measured(setting, Rule("nudge", gamma=gamma))
            shares = " | ".join(f"{result.share(name):.0f}" for name in SHOWN)
            print(f"| {setting.name}, γ {gamma:g} | {100 * rate:.1f} % | {shares} |", flush=True)


if __name__ == "__main__":
    main()
