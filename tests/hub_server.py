"""A local HTTP server that plays the Hugging Face hub's part, well or badly.

Answers what huggingface_hub asks for: a repository's description, HEAD and GET of its files, with
ranges. `Hub.faults` says what goes wrong.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tests.endpoint_server import Quiet

COMMIT = "c" * 40
REPO = "someone/tiny-GGUF"  # what the fixture `hub` holds, and its models
NAMES = ("tiny.Q8_0.gguf", "tiny.Q4_K_M.gguf", "other/deep.Q8_0.gguf")


@dataclass
class Hub:
    """Repositories by name, each with its files' bytes; and what was asked for."""

    repos: dict[str, dict[str, bytes]]
    gated: set[str] = field(default_factory=set)
    flips: set[str] = field(default_factory=set)  # files of which one byte is sent wrong
    extra: set[str] = field(default_factory=set)  # files with more behind their last byte
    short: set[str] = field(default_factory=set)  # files of which the last byte is not there
    lies: set[str] = field(default_factory=set)  # files whose sha256 is told wrong
    cuts: Counter[str] = field(default_factory=Counter)  # how often a file is cut in the middle
    broken: bool = False  # every request ends in 500
    hangs: set[str] = field(default_factory=set)  # of HEAD, GET and api: these are never answered
    slow: float = 0  # seconds for each MiB of a file
    plain: set[str] = field(default_factory=set)  # files without a sha256, as small ones are kept
    answer: bytes | None = None  # what every description of a repository is
    endless: set[str] = field(default_factory=set)  # files, or "api": of these there is ever more
    packed: bool = False  # all is sent in gzip, whatever was asked for
    commit: str = COMMIT
    megabytes: int = 0  # sent of what is endless
    ranges: list[str] = field(default_factory=list)  # what of files was asked for
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def sha256(self, repo: str, file: str) -> str:
        found = hashlib.sha256(self.repos[repo][file]).hexdigest()
        return found[::-1] if file in self.lies else found

    @property
    def env(self) -> dict[str, str]:
        return {"HF_ENDPOINT": self.url, "HF_HUB_DISABLE_XET": "1", "HF_HUB_ETAG_TIMEOUT": "5"}


class Handler(BaseHTTPRequestHandler):
    hub: Hub  # of the class that `_handler` makes
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each reply waits 40 ms for the client to confirm its head

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        self.hub.asked.append(f"{self.command} {path}")
        api = path.startswith("api/")
        if "api" in self.hub.hangs if api else self.command in self.hub.hangs:
            time.sleep(300)
        if self.hub.broken:
            return self._send(500, b"oops", {})
        if match := re.fullmatch(r"api/(?:models|datasets)/([^/]+/[^/]+)(/revision/.*)?", path):
            return self._describe(match[1])
        if match := re.fullmatch(r"(?:datasets/)?([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            return self._file(match[1], match[2], body)
        return self._send(404, b"{}", {"X-Error-Code": "EntryNotFound"})

    def _refused(self, repo: str) -> bool:
        if repo in self.hub.gated:
            self._send(403, b"{}", {"X-Error-Code": "GatedRepo"})
        elif repo not in self.hub.repos:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        return repo in self.hub.gated or repo not in self.hub.repos

    def _describe(self, repo: str) -> None:
        if self._refused(repo):
            return
        siblings: list[dict[str, object]] = []
        for name, data in self.hub.repos[repo].items():
            size = len(data)
            siblings.append({"rfilename": name, "size": size})
            if name not in self.hub.plain:
                sha256 = self.hub.sha256(repo, name)
                siblings[-1]["lfs"] = {"sha256": sha256, "size": size, "pointerSize": 100}
        about = {"id": repo, "modelId": repo, "sha": self.hub.commit, "siblings": siblings}
        told = json.dumps(about).encode() if self.hub.answer is None else self.hub.answer
        self._send(200, told, {"Content-Type": "application/json"}, "api" in self.hub.endless)

    def _file(self, repo: str, name: str, body: bool) -> None:
        if self._refused(repo):
            return None
        data = self.hub.repos[repo].get(name)
        if data is None:
            return self._send(404, b"{}", {"X-Error-Code": "EntryNotFound"})
        sha256 = self.hub.sha256(repo, name)
        etag = sha256[:40] if name in self.hub.plain else sha256
        heads = {
            "X-Repo-Commit": self.hub.commit,
            "ETag": f'"{etag}"',
            "X-Linked-Etag": f'"{etag}"',
            "X-Linked-Size": str(len(data)),
            "Accept-Ranges": "bytes",
        }
        if not body:
            return self._send(200, b"", {**heads, "Content-Length": str(len(data))})
        if name in self.hub.short:
            data = data[:-1]
        if name in self.hub.flips:
            data = data[:-1] + bytes([data[-1] ^ 1])
        start = 0
        self.hub.ranges.append(self.headers.get("Range", ""))
        if match := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            start = int(match[1])
            if start >= len(data):
                return self._send(416, b"", {})
            heads["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        rest = data[start:] + b"more" * 1000 * (name in self.hub.extra)
        if self.hub.cuts[name]:
            self.hub.cuts[name] -= 1
            self.send_response(206 if start else 200)
            for key, value in {**heads, "Content-Length": str(len(rest))}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(rest[: len(rest) // 2])
            self.close_connection = True
            return None
        return self._send(206 if start else 200, rest, heads, name in self.hub.endless)

    def _send(self, status: int, data: bytes, heads: dict[str, str], endless: bool = False) -> None:
        if endless:
            self._without_end(heads)
            return
        if self.hub.packed and data:
            data, heads = gzip.compress(data), {**heads, "Content-Encoding": "gzip"}
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **heads}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        with contextlib.suppress(OSError):  # whoever asked may be gone
            for at in range(0, len(data), 1 << 20):
                self.wfile.write(data[at : at + (1 << 20)])
                time.sleep(self.hub.slow)

    def _without_end(self, heads: dict[str, str]) -> None:
        """Far more than anybody should read."""
        self.send_response(200)
        for key, value in heads.items():
            self.send_header(key, value)
        self.end_headers()
        self.close_connection = True
        with contextlib.suppress(OSError):
            for _ in range(1000):
                self.wfile.write(b" " * (1 << 20))
                self.hub.megabytes += 1


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    return type("HubHandler", (Handler,), {"hub": hub})


@contextmanager
def serving(repos: dict[str, dict[str, bytes]]) -> Iterator[Hub]:
    """A hub with these repositories, as long as the block lasts."""
    hub = Hub(repos)
    server = Quiet(("127.0.0.1", 0), _handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def own_registry(hub: Hub, sha256: str = "-", file: str = NAMES[0]) -> None:
    folder = Path(os.environ["URIAL_CONFIG_DIR"])
    folder.mkdir(parents=True, exist_ok=True)
    line = f"tiny {REPO} {file} Q8_0 {sha256} - 512 mit base - -\n"
    (folder / "models.txt").write_text(line)
