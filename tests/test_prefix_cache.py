from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import numpy as np
import pytest

from urial_local.base.errors import UsageError
from urial_local.runtime.open import RuntimeOptions, open_engine
from urial_local.runtime.prefix_cache import PrefixCache
from urial_local.runtime.rows import Request
from urial_local.runtime.sequences import BatchToken

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


def test_what_no_state_can_be_is_not_read(tmp_path, monkeypatch):
    """A sparse file may claim any size, and a pipe would wait for its writer."""
    cache = PrefixCache("m", tmp_path, per_token=len(STATE) // len(TOKENS) + 1)
    assert cache.store(TOKENS, STATE)
    assert cache.load(TOKENS) == STATE
    path = cache.path(TOKENS)
    largest = cache._largest(len(TOKENS))
    assert len(STATE) < largest < 100 << 20
    for make in (lambda: os.truncate(path, 1 << 40), lambda: (path.unlink(), os.mkfifo(path))):
        make()
        with monkeypatch.context() as patched:
            patched.setattr("builtins.bytearray", lambda size: pytest.fail(f"{size} bytes"))
            assert cache.load(TOKENS) is None
        assert not path.exists()
        assert cache.store(TOKENS, STATE)
    assert cache.load(TOKENS) == STATE


def test_listing_and_clearing_wait_for_no_pipe_and_follow_no_link(cache, tmp_path):
    cache.store(TOKENS, STATE)
    victim = tmp_path / "victim"
    victim.write_text("mine")
    os.utime(victim, (1, 1))
    os.mkfifo(cache.folder / "a.prefix")
    (cache.folder / "b.prefix").symlink_to("/dev/zero")
    cache.path(TOKENS[:9]).symlink_to(victim)
    assert cache.load(TOKENS[:9]) is None
    assert len(cache.entries()) == 1
    assert cache.clear() > len(STATE)
    assert list(cache.folder.iterdir()) == []
    assert (victim.read_text(), victim.stat().st_mtime) == ("mine", 1)
    assert cache.folder.stat().st_mode & 0o777 == 0o700


def test_real_states_are_within_what_is_expected(tiny_llama, tiny_hybrid):
    for path, kind in ((tiny_llama, "f32"), (tiny_hybrid, "f16")):
        with open_engine(path, RuntimeOptions(ctx_size=64, kv_type=kind, threads=1)) as (_, engine):
            ids = np.arange(3, 60, dtype=np.int32)
            engine.decoder.decode([BatchToken(int(t), i, 1, True) for i, t in enumerate(ids)])
            state = engine.decoder.save(1)
            assert engine.cache.store(ids, state)
            assert engine.cache.load(ids) == state


def test_a_run_of_one_row_takes_no_state_that_was_made_beside_other_rows(tiny_llama, monkeypatch,
                                                                        tmp_path):  # fmt: skip
    """Its numbers must be the same on every start, whatever ran before it."""
    monkeypatch.setenv("URIAL_CACHE_DIR", str(tmp_path))
    tokens = [1, *range(3, 20)] * 6
    request = Request([*tokens, 5, 6], max_tokens=2, shared=len(tokens))

    def cached(parallel: int) -> int:
        options = RuntimeOptions(ctx_size=256, parallel=parallel, threads=1)
        with open_engine(tiny_llama, options) as (_, engine):
            return engine.complete([request])[0].cached_tokens

    assert cached(4) == 0
    assert cached(1) == 0
    assert cached(1) >= len(tokens), "its own is taken"
    assert cached(4) >= len(tokens)
