"""What a hub may send: descriptions and files within bounds; and settings that are in the way."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.command import fails, process, urial
from tests.hub_server import REPO
from urial_local.base.hub_fetch import SUFFIX

NAME = "mine.Q6_K.gguf"


def deep(brackets: int) -> bytes:
    return b'{"id": "x", "cardData": ' + b"[" * brackets


@pytest.mark.parametrize("answer", [deep(1 << 20), b"[" * (1 << 20), deep(3000) + b"]" * 3000])
def test_a_description_that_is_too_deep(hub, models, answer):
    hub.answer = answer
    said = fails(1, "models", "pull", f"hf:{REPO}:Q8_0")
    assert "something that is not a hub's answer" in said


def test_a_description_without_end(hub, models):
    hub.endless = {"api"}
    assert "sent more than 16,777,216 bytes" in fails(1, "models", "pull", f"hf:{REPO}:Q8_0")
    assert hub.megabytes < 100
    hub.endless.clear()
    hub.packed = True
    assert models("pull", f"hf:{REPO}:Q4_K_M").returncode == 0  # in gzip, unasked, and small
    hub.answer = deep(0) + b" " * (100 << 20)
    assert "sent more than" in fails(1, "models", "pull", f"hf:{REPO}:Q8_0")


def largest(home: Path) -> int:
    return max((path.stat().st_size for path in home.rglob("*") if path.is_file()), default=0)


@pytest.mark.parametrize("plain", [False, True])  # fetched by us, and by huggingface_hub
def test_a_file_without_end(hub, models, tmp_path, plain):
    hub.repos[REPO][NAME] = bytes(5000)
    hub.plain = {NAME} if plain else set()
    hub.endless = {NAME}
    said = fails(1, "models", "pull", f"hf:{REPO}:Q6_K")
    assert ("more than 5,000 bytes" if plain else "more of mine.Q6_K.gguf than it had") in said
    assert hub.megabytes < 100
    assert largest(tmp_path / "hf") <= 5000


def test_an_answer_to_a_range_that_is_longer_than_the_rest(hub, models, tmp_path):
    data = bytes(1 << 20)
    hub.repos[REPO][NAME] = data
    folder = tmp_path / "hf" / "hub" / "models--someone--tiny-GGUF" / "blobs"
    folder.mkdir(parents=True)
    left = folder / (hashlib.sha256(data).hexdigest() + SUFFIX)
    left.write_bytes(data[:-10])
    hub.extra = {NAME}
    assert "than it had promised" in fails(1, "models", "pull", f"hf:{REPO}:Q6_K")
    assert hub.ranges == [f"bytes={len(data) - 10}-"]
    assert left.stat().st_size == 0


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("HF_TOKEN", "hf_\u00e9", "HF_TOKEN does not hold a token"),
        ("HF_ENDPOINT", "127.0.0.1", "HF_ENDPOINT is not an http:// or https:// address"),
        ("HF_ENDPOINT", "https://127.0.0.1:9", "SSL_CERT_FILE names /nowhere.pem"),
        ("HF_HUB_ETAG_TIMEOUT", "soon", "HF_HUB_ETAG_TIMEOUT is not a whole number"),
        ("HF_ENDPOINT", "http://example.invalid", "proxy http://127.0.0.1:9, which ALL_PROXY"),
    ],
)
def test_settings_that_cannot_be_used_are_named(hub, models, monkeypatch, name, value, said):
    for variable in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    own = {"SSL_CERT_FILE": "/nowhere.pem", "ALL_PROXY": "http://u:pass@127.0.0.1:9", name: value}
    run = process if name == "HF_HUB_ETAG_TIMEOUT" else urial  # read by an import, which fails
    found = fails(1, "models", "pull", f"hf:{REPO}:Q8_0", run=run, NO_PROXY="", **own)
    assert said in found
    assert "Traceback" not in found
    assert "pass" not in found


def test_a_hub_of_this_machine_is_asked_past_the_proxy(hub, models):
    own = {"ALL_PROXY": "socks4://x", "SSL_CERT_FILE": "/nowhere.pem", "NO_PROXY": ""}
    assert models("pull", f"hf:{REPO}:Q4_K_M", **own).returncode == 0


def test_what_a_hub_says_tells_no_secrets(hub, models):
    hub.broken = True
    address = hub.url.replace("://", "://user:secret@")
    said = fails(1, "models", "pull", f"hf:{REPO}:Q8_0", HF_ENDPOINT=address)
    assert "500" in said
    assert "secret" not in said
