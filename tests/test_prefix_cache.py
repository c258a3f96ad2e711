from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import numpy as np
import pytest

from urial_local.base.errors import UsageError
from urial_local.runtime.prefix_cache import PrefixCache

TOKENS = np.arange(100, dtype=np.int32)
STATE = bytes(range(256)) * 64


@pytest.fixture
def cache(tmp_path: Path) -> PrefixCache:
    return PrefixCache("model", tmp_path / "prefixes")


def test_what_is_stored_is_found_and_nothing_else(cache, tmp_path):
    assert cache.load(TOKENS) is None
    assert cache.store(TOKENS, STATE)
    assert cache.load(TOKENS) == STATE
    assert cache.load(TOKENS[:-1]) is None
    assert PrefixCache("another model", cache.folder).load(TOKENS) is None
    assert [(e.tokens, e.size > len(STATE)) for e in cache.entries()] == [(100, True)]


@pytest.mark.parametrize("at", [0, 5, 25, 60, 200, 5000, -1])
def test_a_flipped_byte_is_noticed_and_the_entry_replaced(cache, at):
    cache.store(TOKENS, STATE)
    path = cache.path(TOKENS)
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    assert cache.load(TOKENS) is None
    assert not path.exists()
    assert cache.store(TOKENS, STATE)
    assert cache.load(TOKENS) == STATE


def test_cut_and_foreign_files_are_no_entries(cache):
    cache.store(TOKENS, STATE)
    path = cache.path(TOKENS)
    whole = path.read_bytes()
    for end in (0, 1, 20, 53, 57, 400, len(whole) - 1):
        path.write_bytes(whole[:end])
        assert cache.load(TOKENS) is None
    other = np.arange(1, 101, dtype=np.int32)
    cache.store(other, STATE)
    os.replace(cache.path(other), path)  # well-formed, but of other tokens
    assert cache.load(TOKENS) is None


def test_torn_files_disturb_nothing(cache):
    cache.store(TOKENS, STATE)
    whole = cache.path(TOKENS).read_bytes()
    for end in range(70):
        (cache.folder / f"{end:064d}.prefix").write_bytes(whole[:end])
    assert len(cache.entries()) == 71
    other = np.arange(1, 101, dtype=np.int32)
    assert cache.store(other, STATE)
    assert cache.load(other) == STATE


def test_the_least_recently_used_go_first(tmp_path):
    cache = PrefixCache("m", tmp_path, cap=3 * (len(STATE) + 600))
    keys = [np.arange(i, i + 100, dtype=np.int32) for i in range(4)]
    for i, key in enumerate(keys[:3]):
        cache.store(key, STATE)
        os.utime(cache.path(key), (i, i))
    cache.load(keys[0])  # used again: now the second is the oldest
    cache.store(keys[3], STATE)
    assert [cache.load(k) is not None for k in keys] == [True, False, True, True]


def test_a_state_larger_than_the_cap_is_not_kept(tmp_path):
    cache = PrefixCache("m", tmp_path, cap=1000)
    assert not cache.store(TOKENS, STATE)
    assert "larger than the cache" in cache.warning
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_only_costs_time(cache):
    # A limit on file size fails a write the way a full disk does.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
    try:
        assert not cache.store(TOKENS, STATE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert "could not be kept" in cache.warning
    assert list(cache.folder.iterdir()) == [], "nothing half-written is left"


def test_a_folder_that_cannot_be_made_only_costs_time(tmp_path):
    (tmp_path / "file").write_text("x")
    cache = PrefixCache("m", tmp_path / "file" / "prefixes")
    assert cache.load(TOKENS) is None
    assert not cache.store(TOKENS, STATE)
    assert cache.warning


def test_clear(cache):
    cache.store(TOKENS, STATE)
    (cache.folder / "dead.part").write_bytes(b"x")
    assert cache.clear() > len(STATE)
    assert list(cache.folder.iterdir()) == []


def test_the_cap_is_read_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("URIAL_PREFIX_CACHE_MB", "7")
    assert PrefixCache("m", tmp_path).cap == 7_000_000
    monkeypatch.setenv("URIAL_PREFIX_CACHE_MB", "much")
    with pytest.raises(UsageError, match="megabytes"):
        PrefixCache("m", tmp_path)
