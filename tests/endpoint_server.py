"""A local server that plays an OpenAI-compatible endpoint's part, well or badly."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-never-to-be-seen-0123456789"
RECORD = {"safety": {"reason": "Harmless.", "score": "4"}}
GOOD = json.dumps(RECORD)
USAGE = {
    "prompt_tokens": 50,
    "completion_tokens": 10,
    "prompt_tokens_details": {"cached_tokens": 30},
}


@dataclass
class Answer:
    """What the endpoint does with a request."""

    body: Any = None
    status: int = 200
    heads: dict[str, str] = field(default_factory=dict)
    cut: bool = False  # half of the body, then the connection ends
    hold: Callable[[], object] = lambda: None  # called before anything is sent
    raw: Iterable[bytes] | None = None  # all that is sent, heads and body, and then the end


@dataclass
class Endpoint:
    """`answers` are given in order, the last one again and again; or a function of the request."""

    answers: list[Answer] | Callable[[dict[str, Any]], Answer]
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)  # of the addresses that were asked
    in_flight: int = 0
    most_in_flight: int = 0
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, request: dict[str, Any], key: str) -> Answer:
        with self.lock:
            self.asked.append(request)
            self.keys.append(key)
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            if callable(self.answers):
                return self.answers(request)
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """The client went away."""


def handler(endpoint: Endpoint) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = (
            True  # or each reply waits 40 ms for the client to confirm its head
        )

        def log_message(self, *_: object) -> None:
            pass

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            path, _, query = self.path.partition("?")
            assert path == "/v1/chat/completions"
            endpoint.queries.append(query)
            answer = endpoint.take(request, self.headers["Authorization"])
            try:
                answer.hold()
            finally:
                with endpoint.lock:
                    endpoint.in_flight -= 1
            body = answer.body
            if answer.raw is not None:
                for piece in answer.raw:
                    self.wfile.write(piece)
                self.close_connection = True
                return
            data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            self.send_response(answer.status)
            heads = {"Content-Type": "application/json", "Content-Length": str(len(data))}
            for name, value in {**heads, **answer.heads}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data[: len(data) // 2] if answer.cut else data)
            self.close_connection = answer.cut

    return Handler


@contextmanager
def serving(*answers: Answer, by: Callable[[dict[str, Any]], Answer] | None = None):
    endpoint = Endpoint(by or list(answers))
    server = Quiet(("127.0.0.1", 0), handler(endpoint))
    endpoint.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def says(text: str | None = GOOD, finish: str = "stop", usage: Any = USAGE, **more: Any) -> Answer:
    message = {"role": "assistant", "content": text, **more}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    body = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    return Answer({**body, "usage": usage} if usage else body)


def fails(status: int, message: str = "oops", code: str | None = None, **heads: str) -> Answer:
    error = {"message": message, "type": code, "code": code, "param": None}
    heads = {name.replace("_", "-"): value for name, value in heads.items()}
    return Answer({"error": error}, status, heads)
