"""Clients of all manners for the load test, over bare sockets: what a library would never do.

Each asks again and again. `finishes` reads whole answers, streamed or not; `slow` reads a few bytes
at a time through a small buffer; `leaves` closes amid an answer, politely or with a reset; `half`
sends a part of a request and no more; `babbles` sends what is not a request."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

SMALL = 4096  # bytes of a slow reader's buffer
Body = dict[str, Any]


@dataclass
class Told:
    """A whole answer, as the client saw it."""

    body: Body
    text: str
    usage: dict[str, Any]
    first: float  # seconds to the first text
    seconds: float


@dataclass
class Seen:
    """What all clients saw."""

    told: list[Told] = field(default_factory=list)
    busy: int = 0  # times that a client was told to come again
    refused: int = 0  # requests that are wrong, and were called so
    left: int = 0  # requests that were sent whole, and whose answer was not waited for
    half: int = 0  # requests that were never sent whole
    faults: list[str] = field(default_factory=list)


class Line:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @staticmethod
    async def open(port: int, small: bool = False) -> Line:
        sock = socket.socket()
        if small:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        return Line(*await asyncio.open_connection(sock=sock, limit=SMALL if small else 1 << 16))

    async def send(self, path: str, body: bytes, part: float = 1.0) -> None:
        """part: how much of the request is sent."""
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        whole = head.encode() + body
        self.writer.write(whole[: int(len(whole) * part)])
        await self.writer.drain()

    async def head(self) -> int:
        """The status of the reply, its headers read."""
        status = int((await self.reader.readline()).split()[1])
        while (await self.reader.readline()).strip():
            pass
        return status

    def close(self, reset: bool = False) -> None:
        if reset:
            raw = self.writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.close()


class Clients:
    """Clients of one server. `bodies` gives what to ask; one endpoint for those who finish, and
    another one for those who leave, so that the server's counters tell them apart."""

    def __init__(self, port: int, bodies: Callable[[random.Random], Body]) -> None:
        self._port, self._bodies = port, bodies
        self.seen = Seen()

    async def run(self, kinds: dict[str, int], until: Callable[[], bool], seed: int = 0) -> None:
        """So many clients of each kind at once, each asking until the clock says so."""

        async def client(kind: str, number: int) -> None:
            rng = random.Random(f"{seed} {kind} {number}")
            while True:
                try:
                    await getattr(self, kind)(rng)
                except Exception as error:
                    self.seen.faults.append(f"{kind}: {type(error).__name__}: {error}")
                if until():
                    return

        tasks = [client(kind, i) for kind, count in kinds.items() for i in range(count)]
        await asyncio.gather(*tasks)

    async def finishes(self, rng: random.Random, slow: bool = False) -> None:
        body = self._bodies(rng)
        body |= {"stream": True, "stream_options": {"include_usage": True}} if slow else {}
        if not slow and rng.random() < 0.7:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        while True:
            start = time.perf_counter()
            line = await Line.open(self._port, slow)
            with contextlib.closing(line):
                await line.send("/v1/completions", json.dumps(body).encode())
                status = await line.head()
                if status == 429:
                    self.seen.busy += 1
                    await asyncio.sleep(0.05 + rng.random() * 0.1)
                    continue
                assert status == 200, status
                read = self._stream if body.get("stream") else self._whole
                text, usage, first = await read(line, rng if slow else None)
            now = time.perf_counter()
            self.seen.told.append(Told(body, text, usage, first - start, now - start))
            return

    async def slow(self, rng: random.Random) -> None:
        await self.finishes(rng, slow=True)

    async def leaves(self, rng: random.Random) -> None:
        body = {"messages": [{"role": "user", "content": "abc" * rng.randint(1, 9)}]}
        body |= {"max_tokens": 40, "stream": rng.random() < 0.7, "n": rng.choice([1, 1, 2])}
        line = await Line.open(self._port)
        with contextlib.suppress(ConnectionError):
            await line.send("/v1/chat/completions", json.dumps(body).encode())
            self.seen.left += 1
            if body["stream"] and rng.random() < 0.8:
                await asyncio.wait_for(line.reader.read(rng.choice([1, 300, 2000])), 60)
            else:
                await asyncio.sleep(rng.random() * 0.05)
        line.close(reset=rng.random() < 0.5)

    async def half(self, rng: random.Random) -> None:
        line = await Line.open(self._port)
        body = json.dumps({"prompt": "x" * 500, "max_tokens": 40}).encode()
        await line.send("/v1/chat/completions", body, part=rng.uniform(0.05, 0.95))
        self.seen.half += 1
        await asyncio.sleep(rng.random() * 0.3)
        line.close(reset=rng.random() < 0.5)

    async def babbles(self, rng: random.Random) -> None:
        line = await Line.open(self._port)
        with contextlib.closing(line):
            wrong = rng.choice([b"{", b"[1]", b'{"prompt": 5}', b'{"prompt": "a", "n": 99}'])
            await line.send("/v1/completions", wrong)
            status = await line.head()
            assert status in (400, 429), status
            self.seen.refused += status == 400
            self.seen.busy += status == 429
        await asyncio.sleep(0.02)

    @staticmethod
    async def _whole(line: Line, _: random.Random | None) -> tuple[str, dict[str, Any], float]:
        told = json.loads(await line.reader.read())
        (choice,) = told["choices"]
        return choice["text"], told["usage"], time.perf_counter()

    @staticmethod
    async def _stream(line: Line, slow: random.Random | None) -> tuple[str, dict[str, Any], float]:
        """The events of a chunked reply; a slow reader pauses between them."""
        text, usage, first, rest = "", {}, 0.0, b""
        ended = False
        while size := int(await line.reader.readline(), 16):
            rest += await line.reader.readexactly(size)
            await line.reader.readexactly(2)
            *events, rest = rest.split(b"\n\n")
            for event in events:
                if event == b"data: [DONE]":
                    ended = True
                elif event.startswith(b"data: "):
                    chunk = json.loads(event[6:])
                    assert "error" not in chunk, chunk
                    usage = chunk.get("usage") or usage
                    for choice in chunk["choices"]:
                        text += choice["text"]
                        first = first or time.perf_counter()
            if slow is not None and slow.random() < 0.3:
                await asyncio.sleep(0.01)
        assert ended, "the stream broke off"
        return text, usage, first or time.perf_counter()
