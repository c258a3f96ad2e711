"""An answer that ends before it begins is begun again, without what it began with."""

from __future__ import annotations

import numpy as np
import pytest

from tests.fakes import END, ByteVocab, FakeDecoder
from urial_local.runtime.engine import Engine
from urial_local.runtime.rows import RESTARTS, Completion, Request
from urial_local.runtime.stops import StopPolicy

FENCED = StopPolicy("```", "# Query:")
PROMPT = "Q: why?\n"


def writes(*ways: str):
    """Logits that write the first of these after PROMPT that can still be written, and end it."""

    def logits(context: tuple[int, ...]) -> np.ndarray:
        row = np.zeros(128, np.float32)
        said = bytes(context).decode("ascii").split(PROMPT)[1]
        for place, way in enumerate(reversed(ways), 1):
            if way.startswith(said):
                row[ord(way[len(said)]) if way != said else END] = 10.0 * place
        return row

    return logits


def ask(logits, *, retry: bool = True, policy: StopPolicy = FENCED, rows: int = 1, **options):
    vocab = ByteVocab()
    engine = Engine(vocab, FakeDecoder(logits, n_seq=rows + 2))
    request = Request(vocab.encode(PROMPT), stop=policy, retry_empty=retry, **options)
    return engine.complete([request] * rows)


@pytest.mark.parametrize(
    "empty",
    ["", "```\n\n# Query:\n```\n", "\n\n", "```", "# Query:"],
    ids=["an end", "a fence and the next turn", "blanks", "a fence", "the next turn"],
)
def test_an_empty_answer_is_begun_again(empty):
    (plain,) = ask(writes(empty, "Since."), retry=False)
    assert (plain.text, plain.restarts) == ("", 0)
    (done,) = ask(writes(empty, "Since."))
    assert (done.text, done.restarts, done.finish_reason) == ("Since.", 1, "eos")
    assert bytes(done.tokens) == b"Since."
    assert len(done.logprobs) == 6


def test_the_model_own_probabilities_are_told():
    """The first token is likely only where the barred one is left out; its probability says so."""
    (done,) = ask(writes("", "Since."))
    assert done.logprobs[0] == pytest.approx(-10.0, abs=0.1)
    assert done.logprobs[1] == pytest.approx(0.0, abs=0.1)


def test_each_beginning_is_barred_up_to_a_bound():
    ways = ["", "```\n\n# Query:\n```\n", "\n", "Since."]
    (done,) = ask(writes(*ways))
    assert (done.text, done.restarts) == ("Since.", RESTARTS)
    (done,) = ask(writes("", "```", "\n", "# Query:", "Since."))
    assert (done.text, done.restarts) == ("", RESTARTS)


def test_what_is_not_empty_stays():
    for answer in ("Since.", "```python\n```\n```\n", "x"):
        (done,) = ask(writes(answer, "Other."))
        assert done.text
        assert done.restarts == 0
    # Cut off by a limit, or by a stop string of the user's, it did not end for the frame's sake.
    (done,) = ask(writes("```\nx = 1\n```\n", "Other."), max_tokens=3)
    assert (done.text, done.restarts, done.finish_reason) == ("", 0, "length")
    (done,) = ask(writes("END", "Other."), policy=StopPolicy("```", "# Query:", ("END",)))
    assert (done.text, done.restarts, done.finish_reason) == ("", 0, "stop")


def test_neighbours_and_the_stream_do_not_see_it():
    """Rows beside it answer as they do alone, and nothing of the first try is shown."""
    vocab = ByteVocab()

    def logits(context: tuple[int, ...]) -> np.ndarray:
        said = bytes(context).decode("ascii")
        return (
            writes("```\n\n# Query:\n```\n", "Since.")(context)
            if said.startswith(PROMPT)
            else writes("A long enough answer.")(
                vocab.encode(PROMPT + said.removeprefix("Other: "))
            )
        )

    engine = Engine(vocab, FakeDecoder(logits, n_seq=4))
    asked = [PROMPT, "Other: ", PROMPT]
    requests = [
        Request(vocab.encode(text), stop=FENCED, retry_empty=True, tag=n)
        for n, text in enumerate(asked)
    ]
    shown = {0: "", 1: "", 2: ""}
    done: dict[int, Completion] = {}
    for step in engine.stream(requests):
        shown[step.tag] += step.text
        if step.completion:
            assert step.tag not in done
            done[step.tag] = step.completion
    assert shown == {0: "Since.", 1: "A long enough answer.", 2: "Since."}
    assert [done[n].restarts for n in range(3)] == [1, 0, 1]
    assert {n: c.text for n, c in done.items()} == shown


def test_the_prompt_is_not_read_again():
    vocab = ByteVocab()
    decoder = FakeDecoder(writes("", "Since."), n_seq=3)
    (done,) = Engine(vocab, decoder).complete(
        [Request(vocab.encode(PROMPT), stop=FENCED, retry_empty=True)]
    )
    # The prompt, its last token once more, and the answer's tokens.
    assert done.restarts == 1
    assert decoder.decoded == len(PROMPT) + 1 + len("Since.")
