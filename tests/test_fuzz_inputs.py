"""Files and replies of strangers, changed at random with fixed seeds: Parquet, prompts in TOML,
GGUF headers, what a judge at an endpoint answers. Each is read or refused in a sentence, in time.

URIAL_FUZZ_ROUNDS says how many rounds a kind gets; `make fuzz` runs more.
"""

from __future__ import annotations

import contextlib
import json
import random
import struct
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.crafted_gguf import ARCH, BOTH, build, tensor
from tests.endpoint_server import GOOD, KEY, Answer, serving
from tests.mutations import PIECES, ROUNDS, changed, changed_bytes, written
from urial_local.base.errors import ModelError, PromptError, UsageError
from urial_local.base.gguf_header import read_header
from urial_local.prompting.frames import load_frame
from urial_local.prompting.library import load_prompt
from urial_local.prompting.lint import lint
from urial_local.records.parquet import parquet_rows
from urial_local.records.parquet_child import rows_apart
from urial_local.tasks.evaluate.judge import Question
from urial_local.tasks.evaluate.modes import MODES

pytestmark = pytest.mark.fuzz
LONGEST = 5.0  # seconds for one small input


@contextlib.contextmanager
def soon(what: object) -> Iterator[None]:
    began = time.process_time()
    try:
        yield
    except BaseException:
        print(what)
        raise
    assert time.process_time() - began < LONGEST, what


def outcome(work: Callable[[], object], expected: type[Exception]) -> Any:
    """The error of a kind that the work ends in, or None."""
    try:
        work()
    except expected as error:
        return error
    return None


def named(file: str, message: str) -> bool:
    """Whether a message is a sentence that says which file it is about."""
    return (file in message or "frame" in message) and len(message) < 2000 and "\n" not in message


# --- Parquet ------------------------------------------------------------------------------------


def sound_parquet(path: Path, rng: random.Random) -> bytes:
    """A file of questions whose columns, coding and size of row groups differ."""
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    count = rng.choice((1, 7, 300))
    columns = {
        "id": pa.array([f"q{i}" for i in range(count)]),
        "query": pa.array(["Why is the sky blue?", "How?"][i % 2] for i in range(count)),
        "raw": pa.array([b"\x89PNG" * (i % 3) for i in range(count)], pa.binary()),
        "when": pa.array(list(range(count)), pa.timestamp("ns")),
        "turns": pa.array([[{"role": "user", "content": "x"}] for _ in range(count)]),
    }
    names = ["query", *(n for n in columns if n != "query" and rng.random() < 0.5)]
    parquet.write_table(
        pa.table({n: columns[n] for n in names}),
        path,
        compression=rng.choice(("none", "snappy", "gzip", "zstd")),
        use_dictionary=rng.random() < 0.5,
        row_group_size=rng.choice((1, 5, 1000)) if count < 300 else 100,
        data_page_version=rng.choice(("1.0", "2.0")),
        write_page_checksum=rng.random() < 0.3,
    )
    return path.read_bytes()


def changed_parquet(data: bytes, rng: random.Random) -> bytes:
    """Changed in the pages or in the metadata at the end, which its last eight bytes measure."""
    size = int.from_bytes(data[-8:-4], "little")
    begin, end = len(data) - 8 - size, len(data) - 8
    body, metadata = bytearray(data[:begin]), bytearray(data[begin:end])
    how = rng.random()
    if how < 0.1:
        return changed_bytes(data, rng)
    part = metadata if how < 0.7 else body
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(4 if part is body else 0, len(part))
        if rng.random() < 0.8:
            part[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        else:  # a number in Thrift's form, and a large one
            part[at : at + 1] = rng.choice((b"\xff\xff\xff\xff\x0f", b"\x80\x80\x80\x80\x10"))
    return bytes(body + metadata) + len(metadata).to_bytes(4, "little") + b"PAR1"


def test_changed_parquet_files(tmp_path):
    rng = random.Random("parquet 1")
    path = tmp_path / "q.parquet"
    read = 0
    for number in range(ROUNDS // 6):  # each starts processes
        sound = sound_parquet(path, rng)
        assert not any(problem for _, _, problem in parquet_rows(path, "q"))
        path.write_bytes(changed_parquet(sound, rng))
        with soon(f"round {number}"), contextlib.suppress(UsageError):
            read += len(list(rows_apart(path, "q")))
    assert read, "some changes leave a file that can be read"


# --- prompts and frames -------------------------------------------------------------------------

PROMPT = '''name = "mine"
description = "A prompt."
frame = "fenced"
system = """
You answer "shortly" \\u00e9.
"""

[[examples]]
query = 'What is a fox?'
answer = """
An animal:

```
fox
```
"""

[sampling]
temperature = 0.7
top_k = 40
repeat_penalty = 1.1
'''
FRAME = (
    '{#- query_marker = "Q:"\nanswer_marker = "A:"\n-#}\n'
    "{% block turn %}Q: {{ query }}\nA: {{ answer }}\n{% endblock %}"
    "{% block request %}Q: {{ query }}\nA:{% endblock %}"
)
TOML_PIECES = (
    *PIECES,
    *(b"[[", b"]]", b"'''", b'"""', b"=", b".", b"{", b"}", b"\\u", b"\\", b"#", b",", b"\r"),
    *(b"a." * 9000, b'"a".' * 9000, b"{a=" * 9000, b"'" * 9999, b'"' * 9999, b"0x" + b"f" * 400),
    *(b"nan", b"inf", b"-0", b"1979-13-45", b"\\ud800", b"x = 1\n", b"[sampling]\n", b"\x1b[31m"),
    *(b"{%", b"{{", b"#}", b"{#", b"{% for x in range(9) %}", b"{{ query }}", b"\xef\xbb\xbf"),
    *(b"\xff\xfe", b"```", b"top_p = 1e400", b"frame = 'x.jinja'", b"frame = '/dev/zero.jinja'"),
)


def test_changed_prompts_and_frames(tmp_path):
    rng = random.Random("toml 1")
    kinds = {
        "prompt.toml": (PROMPT, (load_prompt, lint)),
        "frame.jinja": (FRAME, (load_frame,)),
    }
    for name, (text, _) in kinds.items():
        (tmp_path / name).write_text(text)
    assert load_prompt(str(tmp_path / "prompt.toml")).examples
    assert load_frame(str(tmp_path / "frame.jinja")).query_marker == "Q:"
    for number in range(10 * ROUNDS):
        name = rng.choice(list(kinds))
        text, loaders = kinds[name]
        data = text.encode()
        for _ in range(rng.choice((1, 1, 2, 4))):
            data = changed_bytes(data, rng, TOML_PIECES)
        path = tmp_path / name
        path.write_bytes(data)
        for loader in loaders:
            with soon(f"round {number}: {data[:500]!r}"):
                problem = outcome(partial(loader, str(path)), PromptError)
                assert problem is None or named(path.name, problem.message)


# --- GGUF headers -------------------------------------------------------------------------------

NUMBERS = (0, 1, 2, 3, 8, 9, 12, 13, 31, 32, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1)


def changed_gguf(data: bytes, rng: random.Random) -> bytes:
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 6))):
        at = rng.randrange(len(found))
        if rng.random() < 0.3:
            found[at] = rng.randrange(256)
        elif rng.random() < 0.7:  # where numbers mostly begin
            at -= at % 4
            found[at : at + 4] = struct.pack("<I", rng.choice(NUMBERS))
        else:
            found[at : at + 8] = struct.pack("<Q", rng.choice((*NUMBERS, 2**63, 2**64 - 1)))
    return bytes(found) if rng.random() < 0.9 else changed_bytes(bytes(found), rng)


def test_changed_gguf_headers(tmp_path):
    rng = random.Random("gguf 1")
    path = tmp_path / "m.gguf"
    sounds = [build(BOTH, [tensor()]), build([*BOTH, ARCH], [tensor()])]
    for number in range(20 * ROUNDS):
        path.write_bytes(changed_gguf(rng.choice(sounds), rng))
        with soon(f"round {number}"), contextlib.suppress(ModelError):
            read_header(path)


# --- a judge's replies --------------------------------------------------------------------------

WORDS = (
    *("{", "}", "[", "]", ",", ":", '"', "\\", "\n", " ", "</think>", "<think>", "```json", "```"),
    *('"score"', '"reason"', '"safety"', "5", "-1", "1e999", "NaN", "null", '"N/A"', '""', "'"),
    *("\\u0000", "\ud800", "\u202e", "\x00", '"' * 3000, "\\" * 3001, " " * 5000, "{" * 5000),
    *("[" * 5000, ", " * 3000, '{"a":' * 3000, '\\"' * 3000, '" ' * 3000, "9" * 6000, "}" * 3000),
)


def changed_text(text: str, rng: random.Random) -> str:
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(text) + 1)
        text = text[:at] + rng.choice(WORDS) + text[at + rng.choice((0, 0, 1, 5, 1000)) :]
    return text


def test_changed_records_of_judges():
    pytest.importorskip("openai")
    from urial_local.tasks.evaluate.endpoint import read_record

    rng = random.Random("replies 1")
    records = {
        "safety": {"safety": {"reason": "It \"helps\", and\n{so on}.", "score": "4"}},
        "general": {a: {"reason": "Good.", "score": "5"} for a in
                  ("helpfulness", "clarity", "factuality", "depth", "engagement")},
    }  # fmt: skip
    for name, record in records.items():
        assert read_record(json.dumps(record), MODES[name])
    for number in range(20 * ROUNDS):
        name = rng.choice(list(records))
        mode, reply = MODES[name], json.dumps(records[name], indent=rng.choice((None, 1)))
        text = changed_text(reply, rng)
        with soon(f"round {number}: {text[:300]!r}"):
            problem = outcome(partial(read_record, text, mode), ValueError)
            assert problem is None or len(str(problem)) < 2000
            if problem is None:  # whatever was taken is something that the form allows
                record = read_record(text, mode)
                assert mode.check(record) == record


REPLY = {
    "id": "x",
    "object": "chat.completion",
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": GOOD}}
    ],
    "usage": {"prompt_tokens": 5, "completion_tokens": 3, "prompt_tokens_details": {}},
    "error": {"message": "no", "type": "t", "param": "temperature", "code": "x"},
}


def test_changed_replies_of_endpoints(monkeypatch):
    pytest.importorskip("openai")
    from urial_local.base.errors import UrialError
    from urial_local.tasks.evaluate.endpoint import EndpointJudge, EndpointOptions

    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    rng = random.Random("endpoint 1")

    def answer(_: object) -> Answer:
        body = written(changed(json.loads(json.dumps(REPLY)), rng))
        if rng.random() < 0.2:
            body = changed_bytes(body, rng)
        status = rng.choice((200, 200, 200, 200, 400, 422, 429, 500, 503, 204, 302))
        head = f"HTTP/1.1 {status} Some\r\nContent-Type: application/json\r\n"
        after = rng.choice(("", "Retry-After: 9e99\r\n", "Retry-After: x\r\n"))
        return Answer(raw=[(head + after + "Connection: close\r\n\r\n").encode() + body])

    with serving(by=answer) as endpoint:
        for number in range(ROUNDS):
            options = EndpointOptions("judge-1", endpoint.url, parallel=1, retries=1, timeout=20)
            judge = EndpointJudge(options, lambda seconds: None)
            with soon(f"round {number}"), contextlib.suppress(UrialError):
                for verdict in judge.judge(
                    Question((str(i),), MODES["safety"], "The rubric.", f"Case {i}.")
                    for i in range(3)
                ):
                    assert bool(verdict.error) != bool(verdict.record)
                    json.dumps([verdict.text, verdict.error, verdict.prompt_tokens])
