"""What is asked over the network: bounds of replies, proxies and certificates, and what of an
address is written down."""

from __future__ import annotations

import gzip
import itertools
import json
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.endpoint_judge import one, questions
from tests.endpoint_server import KEY, RECORD, Answer, fails, says, serving
from urial_local.base import guarded, proxies
from urial_local.base.addresses import told_argument, without_secrets
from urial_local.base.errors import UrialError
from urial_local.base.proxies import NetworkSettings, Proxy, is_loopback, proxy_for
from urial_local.records.runlog import session

pytest.importorskip("openai")

import openai

from urial_local.tasks.evaluate.endpoint import EndpointJudge, EndpointOptions

HEADS = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
SAID = json.dumps(says().body).encode()


@pytest.fixture(autouse=True)
def no_proxies(endpoint_settings, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "request_method"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


# --- what is written of addresses ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("http://127.0.0.1:8080/v1", "http://127.0.0.1:8080/v1"),
        ("https://user:pw@host:1/v1?token=T#x", "https://host:1/v1"),
        ("https://user@host?token=T", "https://host"),
        ("socks5://u:p@ss@[::1]:9", "socks5://[::1]:9"),
        ("https://host/@user/v1", "https://host/@user/v1"),
        ("no address: a@b?c=d", "no address: a@b?c=d"),
        (
            "for url 'http://u:p@h/x?k=v', then http://h2?k=v).",
            "for url 'http://h/x', then http://h2",
        ),
        (f"the key {KEY}!", "the key …!"),
        (f"http://host/{KEY}/v1", "http://host/…/v1"),
    ],
)
def test_secrets_are_not_written(text, written):
    assert without_secrets(text) == written
    assert told_argument(text).startswith(written[:12])


def test_commands_are_told_without_secrets(monkeypatch):
    given = ["http://u:a b@h/v1?t=x y", "--base-url=http://u:'p'@h/v1?t=\"T", "-o", "a&b?c@d", KEY]
    monkeypatch.setattr(sys, "argv", ["x", "evaluate", *given])
    told = session()["command"]
    assert told == "urial-local evaluate http://h/v1 --base-url=http://h/v1 -o 'a&b?c@d' '…'"


def test_a_long_text_takes_time_in_its_length():
    assert without_secrets("a" * (1 << 20) + "://u:p@h") == "a" * (1 << 20) + "://h"


def test_the_address_of_an_endpoint_is_used_whole_and_repeated_nowhere():
    def echo(request):
        return fails(
            418, "you sent token=T-123456, pass word, dXNlcjpwYXNzIHdvcmQ=, http://u:p@h?x"
        )

    with serving(by=echo) as endpoint:
        url = endpoint.url.replace("://", "://user:pass%20word@") + "?token=T-123456&b=2"
        judge = EndpointJudge(EndpointOptions("m", url))
        (verdict,) = judge.judge(questions(1))
    assert endpoint.queries == ["token=T-123456&b=2"]
    assert endpoint.keys == ["Basic dXNlcjpwYXNzIHdvcmQ="]
    assert "418: you sent token=…, …, …, http://h" in verdict.error
    verdict, _ = one(says(f"My key is {KEY}."), says())
    assert KEY not in repr(verdict)


# --- bounds of an endpoint's replies ------------------------------------------------------------


def packed_zeros(size: int) -> bytes:
    return gzip.compress(SAID[:-1] + b" " * size + b"}")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def drip(begin: bytes, stop: threading.Event) -> Iterator[bytes]:
    """A byte each now and then: any limit between two bytes is kept."""
    yield begin
    while not stop.wait(0.02):
        yield b" "


def replies(*pieces: bytes) -> Answer:
    return Answer(raw=pieces)


def test_a_packed_reply_is_unpacked_within_its_bound():
    small = packed_zeros(1000)
    heads = HEADS + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    verdict, _ = one(replies(heads % len(small), small))
    assert verdict.record == RECORD
    bomb = packed_zeros(100 << 20)
    assert len(bomb) < 200_000
    verdict, asked = one(replies(heads % len(bomb), bomb))
    assert "sent more than 2,097,152 bytes" in verdict.error
    assert len(asked) == 1  # it would be the same again
    other = HEADS + b"Content-Encoding: br\r\n\r\nxxx"
    assert "broke off" in one(replies(other), retries=0)[0].error


@pytest.mark.parametrize("heads", [b"\r\n", b"Transfer-Encoding: chunked\r\n\r\n"])
def test_an_endless_reply_is_read_to_its_bound(heads):
    piece = b" " * (1 << 16)
    sent = itertools.count()
    endless = (chunk(piece) if b"chunked" in heads else piece for _ in iter(sent.__next__, 10_000))
    with serving(Answer(raw=itertools.chain([HEADS + heads], endless)), says()) as endpoint:
        first, second = EndpointJudge(EndpointOptions("m", endpoint.url, parallel=1)).judge(
            questions(2)
        )
    assert "sent more than" in first.error
    assert second.record == RECORD
    assert next(sent) < 1000  # a tenth of what there was to send


@pytest.mark.slow
@pytest.mark.parametrize(
    "begin", [HEADS + b"\r\n", HEADS + b"Content-Length: 10000\r\n\r\n", HEADS]
)
def test_a_reply_in_single_bytes_has_an_end(begin):
    stop = threading.Event()
    try:
        verdict, asked = one(Answer(raw=drip(begin, stop)), timeout=0.2)
    finally:
        stop.set()
    assert "did not send a whole reply within 1.2 s" in verdict.error
    assert len(asked) == 1


@pytest.mark.slow
def test_a_large_file_has_its_time_as_long_as_it_comes():
    """Time is bought by bytes: a file that keeps its pace takes longer than one limit, and one that
    begins well and then drips is given up."""
    http = guarded.http_library(openai.DefaultHttpxClient)
    bounds = guarded.Bounds(1 << 20, 1.0, pace=1000)
    stop = threading.Event()

    def steady() -> Iterator[bytes]:
        yield HEADS + b"\r\n"
        while not stop.wait(0.1) and next(sent) < 15:
            yield b" " * 1000

    sent = itertools.count()
    file = itertools.chain([HEADS + b"\r\n"], [b" " * 900_000], drip(b"", stop))
    client = http.Client(transport=guarded.GuardedTransport(http, lambda: bounds))
    with client, serving(Answer(raw=steady()), Answer(raw=file)) as endpoint:
        address = f"{endpoint.url}/chat/completions"
        assert len(client.post(address, json={}).content) == 15_000
        with pytest.raises(guarded.Excess, match="its next 1,000 bytes within 1 s"):
            client.post(address, json={})
    stop.set()


def test_of_a_refusal_only_the_beginning_is_read():
    long = Answer("<html>" + "x" * (3 << 20), 401, {"Content-Type": "text/html"})
    with serving(long) as endpoint, pytest.raises(UrialError, match="does not accept the key"):
        list(EndpointJudge(EndpointOptions("m", endpoint.url)).judge(questions(1)))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_nothing_is_sent_on_to_another_address(status):
    with serving(says()) as other:
        target = other.url.replace("://", "://user:pw@") + "/chat/completions?token=T"
        there = Answer({}, status, {"Location": target})
        with serving(there) as endpoint, pytest.raises(UrialError) as caught:
            list(EndpointJudge(EndpointOptions("m", endpoint.url)).judge(questions(3)))
    assert f"sends requests on to {other.url}/chat/completions (status {status})" in str(
        caught.value
    )
    assert "`base_url`" in caught.value.hint
    assert other.asked == []


def test_counts_of_tokens_that_cannot_be():
    usage = {"prompt_tokens": 10**400, "completion_tokens": -5, "prompt_tokens_details": True}
    verdict, _ = one(says(usage=usage))
    assert 0 < verdict.prompt_tokens < 1000
    assert 0 < verdict.completion_tokens < 1000


# --- proxies and certificates -------------------------------------------------------------------


def test_loopback():
    for host in ("localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "127.8.9.1", "::1"):
        assert is_loopback(host)
    for host in ("0.0.0.0", "::ffff:127.0.0.1", "127.1", "2130706433"):
        assert is_loopback(host)
    for host in ("example.org", "10.0.0.7", "localhost.example.org", "::2", "", "128.0.0.1"):
        assert not is_loopback(host)


@pytest.mark.parametrize(
    ("variables", "address", "proxy"),
    [
        ({}, "https://h/", None),
        ({"HTTPS_PROXY": "http://p:1"}, "https://h/", ("http://p:1", "HTTPS_PROXY")),
        ({"https_proxy": "p:1"}, "https://h/", ("http://p:1", "https_proxy")),
        ({"HTTPS_PROXY": "http://p:1"}, "http://h/", None),
        ({"ALL_PROXY": "socks://p:1"}, "http://h/", ("socks5://p:1", "ALL_PROXY")),
        ({"ALL_PROXY": "SOCKS5H://u:w@p:1"}, "http://h/", ("socks5://u:w@p:1", "ALL_PROXY")),
        ({"ALL_PROXY": "http://p", "HTTP_PROXY": "q"}, "http://h/", ("http://q", "HTTP_PROXY")),
        ({"ALL_PROXY": "nonsense://"}, "http://localhost:1/", None),
        ({"ALL_PROXY": "http://p", "NO_PROXY": "h"}, "http://h/", None),
        ({"ALL_PROXY": "http://p", "NO_PROXY": ".x.org"}, "http://a.x.org/", None),
        ({"ALL_PROXY": "http://p", "NO_PROXY": "y, *.x.org"}, "http://a.x.org/", None),
        ({"ALL_PROXY": "http://p", "NO_PROXY": "10.0.0.0/8"}, "http://10.1.2.3/", None),
        ({"ALL_PROXY": "http://p", "NO_PROXY": "*"}, "http://h/", None),
        ({"ALL_PROXY": "p", "NO_PROXY": "10.0.0.0/8"}, "http://h", ("http://p", "ALL_PROXY")),
    ],
)  # fmt: skip
def test_which_proxy(variables, address, proxy, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(proxies, "find_spec", lambda name: object())
    assert proxy_for(address) == (Proxy(*proxy) if proxy else None)


@pytest.mark.parametrize(
    ("proxy", "said"),
    [
        ("socks4://127.0.0.1:1", "names a socks4:// proxy"),
        ("http://u:secret@x:port", "is not the address of a proxy: http://x:port"),
        ("http://", "is not the address of a proxy"),
        ("socks://127.0.0.1:1080", "the socksio package"),
        ("http://a..b:1", "HTTP_PROXY"),
    ],
)
def test_proxies_that_cannot_be_used_are_named_at_once(proxy, said, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", proxy)
    monkeypatch.setattr(proxies, "find_spec", lambda name: None)
    waits: list[float] = []
    judge = EndpointJudge(EndpointOptions("m", "http://example.invalid/v1"), waits.append)
    with pytest.raises(NetworkSettings, match="HTTP_PROXY") as caught:
        list(judge.judge(questions(3)))
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)
    assert waits == []


@contextmanager
def a_proxy(answer: bytes | None) -> Iterator[str]:
    """A server that gives one answer to whatever it is asked; None: nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        if answer is not None:

            def serve() -> None:
                for _ in range(3):
                    taken, _ = server.accept()
                    with taken:
                        taken.recv(1 << 16)
                        taken.sendall(answer)

            threading.Thread(target=serve, daemon=True).start()
        else:
            server.close()
        yield f"http://user:secret@127.0.0.1:{port}"


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "refused"),
        (b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", "407"),
    ],
)
def test_a_proxy_that_fails_is_named_at_the_first_failure(scheme, answer, said, monkeypatch):
    waits: list[float] = []
    with a_proxy(answer) as proxy:
        monkeypatch.setenv("ALL_PROXY", proxy)
        judge = EndpointJudge(EndpointOptions("m", f"{scheme}://example.invalid/v1"), waits.append)
        with pytest.raises(NetworkSettings) as caught:
            list(judge.judge(questions(3)))
    assert "example.invalid cannot be reached through the proxy http://127.0.0.1:" in str(
        caught.value
    )
    assert "which ALL_PROXY names" in str(caught.value)
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)
    assert waits == []


def test_a_socks_proxy_is_spoken_to(monkeypatch):
    """It is asked for the name as it is, and what comes through it is a reply as any other."""
    pytest.importorskip("socksio")
    said = HEADS + b"Content-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(SAID), SAID)
    asked = []

    def serve(server: socket.socket) -> None:
        taken, _ = server.accept()
        with taken:
            for answer in (b"\5\0", b"\5\0\0\1" + bytes(6), said):
                asked.append(taken.recv(1 << 16))
                taken.sendall(answer)
            taken.recv(1 << 16)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        monkeypatch.setenv("ALL_PROXY", f"socks://127.0.0.1:{server.getsockname()[1]}")
        judge = EndpointJudge(EndpointOptions("m", "http://example.invalid/v1"))
        (verdict,) = judge.judge(questions(1))
    assert verdict.record == RECORD
    assert b"example.invalid" in asked[1]


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_a_proxy_that_says_nothing_is_not_waited_for(scheme, monkeypatch):
    if scheme == "socks5":
        pytest.importorskip("socksio")
    monkeypatch.setattr(guarded, "CONNECT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("ALL_PROXY", f"{scheme}://127.0.0.1:{server.getsockname()[1]}")
        judge = EndpointJudge(EndpointOptions("m", "https://example.invalid/v1"))
        with pytest.raises(NetworkSettings, match=r"which ALL_PROXY names: nothing within 0\.2 s"):
            list(judge.judge(questions(1)))


def test_an_endpoint_of_this_machine_is_asked_past_the_proxy(monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent.pem")  # which http:// has no need of
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert one(says())[0].record == RECORD


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_certificates_that_are_not_there(variable, monkeypatch, tmp_path):
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv(variable, str(tmp_path / "none"))
    options = EndpointOptions("m", "https://127.0.0.1:9/v1")
    with pytest.raises(NetworkSettings, match=f"{variable} names .*/none, which is not a f"):
        list(EndpointJudge(options).judge(questions(1)))
    (tmp_path / "none").write_text("no certificate")
    with pytest.raises(NetworkSettings, match=f"{variable} names"):
        list(EndpointJudge(options).judge(questions(1)))


@pytest.mark.parametrize("name", ["OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_CUSTOM_HEADERS"])
def test_what_cannot_be_sent_is_named(name, monkeypatch):
    monkeypatch.setenv(name, "X: é")
    with pytest.raises(UrialError, match=f"{name} has characters"):
        EndpointJudge(EndpointOptions("m", "http://127.0.0.1:9/v1"))
