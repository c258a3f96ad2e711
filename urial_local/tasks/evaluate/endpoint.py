"""A judge at any OpenAI-compatible endpoint: each question ends in a record that passed Mode.check
or in an error, and what would fail every question ends the run with an UrialError.

The `openai` package is imported when a judge is made. The key stands in nothing that is written.
"""

from __future__ import annotations

import json
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from urial_local.base.addresses import without_secrets
from urial_local.base.errors import UrialError, UsageError
from urial_local.base.guarded import Excess
from urial_local.tasks.evaluate.endpoint_client import address, client
from urial_local.tasks.evaluate.judge import Question, Verdict
from urial_local.tasks.evaluate.modes import Mode, Record
from urial_local.tasks.evaluate.usage import tokens_spent

if TYPE_CHECKING:
    import openai

DEFAULT_URL = "https://api.openai.com/v1"
LONGEST_REPLY = 1 << 15  # characters; a record has some two thousand
LONGEST_WAIT = 60.0  # seconds, whatever the endpoint asks for
SYSTEM = "You are a judge of answers. You reply with one JSON object and nothing else."
AGAIN = "That reply cannot be used: {}. Write the whole JSON object again, and nothing else."
ENDINGS = {  # what every row would meet, by status
    401: ("{host} does not accept the key (401).", "Check OPENAI_API_KEY."),
    402: (
        "The account at {host} has no credit left.",
        "Top it up, then run the same command again to resume.",
    ),
    403: ("{host} does not let this key use {model} (403).", "Check the key's rights."),
    404: (
        "{host} has no model {model}, or has another address (404).",
        "Check the model's name, and the base URL, which mostly ends in /v1.",
    ),
}
CODES = {"invalid_api_key": 401, "insufficient_quota": 402, "model_not_found": 404}
# A string in JSON, also one without its end; or a comma that nothing follows. Without the first's
# last part, each quote in a string that never ends would be tried as the start of one.
_STRING_OR_COMMA = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|,(?=\s*[}\]])', re.DOTALL)
# A quote that stands where no string can end.
_QUOTE_INSIDE = re.compile(r'([^\s{\[,:\\]\s*)"(?=\s*[^\s,:}\]])')
_FORMAT = "response.?format|json.?schema|json.?object"
REFUSALS = {  # what an endpoint may not take, in the order of giving it up
    "json_schema": _FORMAT,
    "json_object": _FORMAT,
    "max_tokens": "max_tokens",
    "temperature": "temperature",
}
# Refusals for the length of one row must not change how all others are asked.
TOO_LONG = "context.(length|size|window)|too (large|long|many)|exceed|at most"
Messages = list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class EndpointOptions:
    """How an endpoint is asked. `base_url`: None for OPENAI_BASE_URL, else OpenAI's own."""

    model: str
    base_url: str | None = None
    parallel: int = 4
    max_tokens: int = 1024
    temperature: float = 0.0
    timeout: float = 120.0  # seconds for a whole reply
    retries: int = 6  # of one request, after the first try


class _Trouble(Exception):
    """Why there is no reply. `after`: seconds to the next try, 0 for as we like, None for no other;
    `ends`: when tries are used up, so is the run; `text`: what the judge wrote nevertheless."""

    def __init__(
        self, problem: str, text: str = "", after: float | None = None, ends: bool = False
    ) -> None:
        super().__init__(problem)
        self.problem, self.text, self.after, self.ends = problem, text, after, ends


class EndpointJudge:
    """A judge over HTTP. `sleep` is the wait between two tries, in place of ours, which ends early
    on stop()."""

    def __init__(self, options: EndpointOptions, sleep: Callable[[float], None] | None = None):
        """Raises UsageError without the openai package or a key, or for a malformed address."""
        try:
            import openai
        except ImportError:
            raise UsageError(
                "A judge at an endpoint needs the openai package, which is not installed.",
                "pip install 'urial-local[eval]'",
            ) from None
        self._openai = openai
        self.name, self._options = options.model, options
        self._address = address(
            options.base_url or os.environ.get("OPENAI_BASE_URL") or DEFAULT_URL
        )
        self._host = self._address.host
        self._sleep = sleep or self._wait
        self._lock = threading.Lock()
        self._refused: frozenset[str] = frozenset()
        # A plain flag that only ever turns true: stop() may be called from a signal, which could
        # find the lock of an Event taken.
        self._ending = False

    def about(self) -> dict[str, Any]:
        asked = {"max_tokens": self._options.max_tokens, "temperature": self._options.temperature}
        return {"kind": "endpoint", "name": self.name, "base_url": self._host, **asked}

    def stop(self) -> None:
        self._ending = True

    def abort(self) -> None:
        """From a signal handler: what waits for a reply is left."""
        raise KeyboardInterrupt

    def judge(self, questions: Iterable[Question]) -> Iterator[Verdict]:
        """Raises UrialError for a wrong key or model, an empty account, or an address where nobody
        listens, after the verdicts of questions in hand. A question whose next try stop() forbids
        ends in an error."""
        todo: SimpleQueue[Question | None] = SimpleQueue()
        done: SimpleQueue[Verdict | BaseException] = SimpleQueue()
        # Daemons, and no ThreadPoolExecutor, whose threads are waited for when Python exits: a
        # request that hangs would hold up whoever leaves early until its timeout.
        threads: list[threading.Thread] = []
        waiting, in_hand = iter(questions), 0
        fault: BaseException | None = None
        try:
            while True:
                while in_hand < max(1, self._options.parallel) and not self._ending:
                    if (question := next(waiting, None)) is None:
                        break
                    todo.put(question)
                    in_hand += 1
                    if len(threads) < in_hand:
                        threads.append(
                            threading.Thread(target=self._work, args=(todo, done), daemon=True)
                        )
                        threads[-1].start()
                if not in_hand:
                    break
                result = done.get()
                in_hand -= 1
                if isinstance(result, BaseException):
                    fault, self._ending = fault or result, True
                elif not (fault and result.error):
                    yield result
            if fault:
                raise fault
        finally:
            self._ending = self._ending or in_hand > 0
            for _ in threads:
                todo.put(None)
            for thread in threads if not in_hand else ():
                thread.join()

    def _work(self, todo: SimpleQueue[Any], done: SimpleQueue[Any]) -> None:
        try:
            # A client a thread: each is closed by the one who uses it.
            with client(self._openai, self._address, self._options.timeout) as asking:
                while (question := todo.get()) is not None:
                    done.put(self._verdict(asking, question))
        except BaseException as error:  # raised again where the verdicts are read
            done.put(error)

    def _verdict(self, client: openai.OpenAI, question: Question) -> Verdict:
        text, error, record = "", "", Record()
        spent: dict[str, Any] = {"prompt_tokens": 0, "cached_tokens": 0, "completion_tokens": 0}
        messages = [_message("system", SYSTEM), _message("user", question.text)]
        began = time.perf_counter()
        try:
            for _ in range(2):
                text = self._reply(client, messages, question.mode, spent)
                try:
                    record, error = read_record(text, question.mode), ""
                    break
                except ValueError as problem:
                    error = f"The judge's reply cannot be used, even asked twice: {problem}."
                    messages.append(_message("assistant", text))
                    messages.append(_message("user", AGAIN.format(problem)))
        except _Trouble as trouble:
            text, error = trouble.text or text, trouble.problem
        spent["seconds"] = round(time.perf_counter() - began, 4)
        return Verdict(question.key, text, record, error=error, **spent)

    def _reply(
        self, client: openai.OpenAI, messages: Messages, mode: Mode, spent: dict[str, Any]
    ) -> str:
        """What the judge wrote. Raises _Trouble when tries are used up, UrialError for the run."""
        tries = 0
        while True:
            try:
                return self._try(client, messages, mode, spent)
            except _Trouble as trouble:
                if tries == self._options.retries and trouble.ends:
                    hint = "Check the base URL and the network, then run the command again."
                    raise UrialError(trouble.problem, hint) from None
                if tries == self._options.retries or self._ending or trouble.after is None:
                    raise
                delay = trouble.after or 2**tries * random.uniform(1, 1.25)
                self._sleep(min(delay, LONGEST_WAIT))
                if self._ending:
                    raise
                tries += 1

    def _try(self, client: openai.OpenAI, messages: Any, mode: Mode, spent: dict[str, Any]) -> str:
        with self._lock:
            refused = self._refused
        try:
            answer = client.chat.completions.with_raw_response.create(
                model=self.name, messages=messages, **self._parameters(mode, refused)
            )
            body = json.loads(answer.content)  # the client's own classes let anything pass
        except self._openai.APIStatusError as error:
            if error.status_code in (400, 422) and self._gives_up(refused, error):
                return self._try(client, messages, mode, spent)
            raise self._status_trouble(error) from None
        except Excess as error:  # the next try would bring the same
            raise _trouble_of(error) from None
        except self._openai.APITimeoutError:
            problem = f"{self._host} did not answer within {self._options.timeout:g} s."
            raise _Trouble(problem, after=0) from None
        except self._openai.APIConnectionError as error:
            if isinstance(error.__cause__, UrialError):  # as older releases pass on our own
                raise _trouble_of(error.__cause__) from None
            if type(error.__cause__).__name__ == "ConnectError":
                raise _Trouble(f"{self._host} cannot be reached.", after=0, ends=True) from None
            raise _Trouble(f"The connection to {self._host} broke off.", after=0) from None
        except (ValueError, RecursionError):
            raise _Trouble(f"{self._host} answered with no JSON.", after=0) from None
        choice = _at(body, "choices", 0)
        if choice is None:  # some pass on another server's error under status 200
            problem = f"{self._host} answered without a reply: {self._said(_at(body, 'error'))}"
            raise _Trouble(problem, after=0)
        text = _at(choice, "message", "content")
        text = self._address.unsaid(text) if isinstance(text, str) else ""
        asked = [message["content"] for message in messages]
        for name, tokens in tokens_spent(asked, text, _at(body, "usage")).items():
            spent[name] += tokens
        refusal, finish = _at(choice, "message", "refusal"), _at(choice, "finish_reason")
        if refusal or finish == "content_filter":
            said = text or self._address.unsaid(str(refusal or ""))
            raise _Trouble("The judge refused to judge this row.", said)
        if finish == "length":
            most = self._options.max_tokens
            raise _Trouble(f"The judge's reply was cut at {most} tokens (max_tokens).", text)
        if not text.strip():
            raise _Trouble("The judge's reply is empty.", text)
        return text

    def _parameters(self, mode: Mode, refused: frozenset[str]) -> dict[str, Any]:
        most = "max_completion_tokens" if "max_tokens" in refused else "max_tokens"
        found: dict[str, Any] = {most: self._options.max_tokens}
        if "temperature" not in refused:
            found["temperature"] = self._options.temperature
        if "json_schema" not in refused:
            schema = {"name": mode.name, "strict": True, "schema": mode.schema()}
            found["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif "json_object" not in refused:
            found["response_format"] = {"type": "json_object"}
        return found

    def _gives_up(self, asked: frozenset[str], error: openai.APIStatusError) -> bool:
        """Whether to ask again: for the rest of the run without what the endpoint refused."""
        said = f"{error.param} {_message_of(error.body)}".lower()
        with self._lock:
            if self._refused != asked:
                return True  # another thread has learnt something in the meantime
            if re.search(TOO_LONG, said):
                return False
            new = [n for n, words in REFUSALS.items() if n not in asked and re.search(words, said)]
            self._refused = asked.union(new[:1])
            return bool(new)

    def _status_trouble(self, error: openai.APIStatusError) -> UrialError | _Trouble:
        status = CODES.get(error.code or "") or CODES.get(error.type or "") or error.status_code
        if status in ENDINGS:
            message, hint = ENDINGS[status]
            return UrialError(message.format(host=self._host, model=self.name), hint)
        if 300 <= error.status_code < 400:
            where = without_secrets(error.response.headers.get("location", "?"))
            return UrialError(
                f"{self._host} sends requests on to {where} (status {error.status_code}).",
                "Nothing was sent there. If it is the right address, name it as `base_url`.",
            )
        problem = f"{self._host} answered with status {status}: {self._said(error.body)}"
        if status in (408, 409, 429) or status >= 500:
            return _Trouble(problem, after=_retry_after(error.response.headers.get("retry-after")))
        return _Trouble(problem)

    def _said(self, body: Any) -> str:
        """An endpoint's own words, in short; some repeat the key or the address in them."""
        said = without_secrets(self._address.unsaid(_message_of(body)))
        return " ".join(said.split())[:300] or "no reason given."

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._ending and time.monotonic() < until:
            time.sleep(0.05)


def read_record(reply: str, mode: Mode) -> Record:
    """The record in a judge's reply, whatever stands around it. Raises ValueError that says what is
    wrong; nothing is made up."""
    if len(reply) > LONGEST_REPLY:
        raise ValueError(f"it has {len(reply):,} characters")
    reply = reply.rpartition("</think>")[2]
    begin, end = reply.find("{"), reply.rfind("}")
    if begin < 0 or end < begin:
        raise ValueError("there is no JSON object in it")
    found = reply[begin : end + 1]
    tidy = _STRING_OR_COMMA.sub(lambda m: "" if m[0] == "," else m[0], found)
    quoted = _QUOTE_INSIDE.sub(r'\1\\"', found)
    problem = ""
    for text in (found, tidy, quoted):
        try:
            value = json.loads(text, strict=False, object_pairs_hook=_without_doubles)
        except (ValueError, RecursionError) as error:
            problem = problem or f"it is not JSON ({error})"
        else:
            return mode.check(value)
    raise ValueError(problem)


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("a name appears twice")  # which of two scores was meant?
    return found


def _trouble_of(error: UrialError) -> UrialError | _Trouble:
    return _Trouble(error.message) if isinstance(error, Excess) else error


def _retry_after(header: str | None) -> float:
    """Seconds; 0 where nothing usable is said."""
    try:
        seconds = float(header or 0)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header or "").timestamp() - time.time()
        except (ValueError, OverflowError):
            return 0.0
    return max(0.0, seconds)


def _message(role: str, text: str) -> dict[str, str]:
    """Halves of characters, which JSON can hold, cannot be sent."""
    return {"role": role, "content": text.encode("utf-8", "replace").decode()}


def _message_of(body: Any) -> str:
    message = _at(body, "message")
    return message if isinstance(message, str) else str(body or "")


def _at(value: Any, *path: str | int) -> Any:
    """What stands at a path in JSON that somebody else wrote; None where nothing does."""
    for step in path:
        try:
            value = value[step]
        except (LookupError, TypeError):
            return None
    return value
