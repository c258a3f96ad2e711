"""What the fingerprint of a model sees: every tensor, in bounded time."""

from __future__ import annotations

import os
from pathlib import Path

import gguf
import numpy as np
import pytest

from tests.split_gguf import split
from urial_local.base import gguf_parts
from urial_local.base.gguf_header import TensorInfo
from urial_local.base.gguf_parts import read_model
from urial_local.runtime import probe
from urial_local.runtime.model import _samples, fingerprint

SIZES = [1 << 22, *[3 << 14] * 20, *[64] * 20]  # numbers of 4 bytes


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    """A file of 20 MB of weights, one tensor far larger than the others; the first and the last
    tenth of each are zeros, as rows of unused tokens are."""
    path = tmp_path_factory.mktemp("large") / "m.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_token_list([b"a", b"b"])
    random = np.random.default_rng(0)
    for number, size in enumerate(SIZES):
        data = random.standard_normal(size, np.float32)
        data[: size // 10] = data[-size // 10 :] = 0
        writer.add_tensor(f"t{number}", data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("in_parts", [False, True])
def test_each_tensor_counts(large, tmp_path, in_parts):
    path = split(large, tmp_path, in_first=7) if in_parts else large
    header = read_model(path)
    found = fingerprint(path, header)
    assert found == fingerprint(path, header)
    prints = {found}
    for part, own in gguf_parts.files(path, header):
        for tensor in own.tensors:
            at = own.data_start + tensor.offset
            with part.open("r+b") as file:
                file.seek(at)
                before = file.read(tensor.size)
                file.seek(at)
                file.write(bytes(tensor.size))
                file.flush()
                prints.add(fingerprint(path, header))
                file.seek(at)
                file.write(before)
    assert len(prints) == 1 + len(SIZES)
    assert fingerprint(path, header) == found


def test_what_is_read_is_bounded():
    def read(sizes: list[int]) -> tuple[int, int]:
        starts = np.cumsum([0, *sizes])
        tensors = [TensorInfo("t", (1,), 0, int(a), n) for a, n in zip(starts, sizes, strict=False)]
        pieces = list(_samples(tensors))
        for tensor in tensors:
            end = tensor.offset + tensor.size
            mine = [p for p in pieces if tensor.offset <= p[0] < end]
            assert mine
            assert all(start + size <= end for start, size in mine)
        return len(pieces), sum(size for _, size in pieces)

    layer = [1 << 25] * 2 + [1 << 27] * 5 + [1 << 15] * 2  # as a 70B model has 80 of
    count, size = read([1 << 29, *layer * 80, 1 << 29])
    assert count < 4000
    assert size < 32 << 20


def test_a_change_that_no_sample_sees_has_the_file_tried_again(large):
    header = read_model(large)
    mark, found = probe._mark(large, header), fingerprint(large, header)
    assert mark == probe._mark(large, header)
    status = large.stat()
    with large.open("r+b") as file:
        file.seek(header.data_start + (2 << 22) + 5000)
        file.write(b"\1")
    os.utime(large, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert fingerprint(large, header) == found, "between two samples"
    assert probe._mark(large, header) != mark
