"""Models in several files count as one: header, fingerprint, try, answers."""

from __future__ import annotations

import hashlib
import json

import pytest

from tests.command import fails, urial
from tests.crafted_gguf import BOTH, build, kv, tensor
from tests.split_gguf import split
from tests.tiny_gguf import write_llama
from urial_local.base import gguf_facts
from urial_local.base.errors import ModelError
from urial_local.base.gguf_header import read_header
from urial_local.base.gguf_parts import read_model
from urial_local.runtime import probe
from urial_local.runtime.model import Model, fingerprint

pytestmark = pytest.mark.usefixtures("untried")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two models that differ in their weights only, each as one file and as two parts, whose first
    ones are the same."""
    folder = tmp_path_factory.mktemp("split")
    whole = [write_llama(folder / f"{i}.gguf", seed=i, endless=True, context=2048) for i in (1, 2)]
    first = [split(path, folder / path.stem) for path in whole]
    assert first[0].read_bytes() == first[1].read_bytes()
    return whole, first


def test_the_header_of_all_parts(pair):
    (whole, _), (first, _) = pair
    one, two = read_header(whole), read_model(first)
    assert two.metadata["llama.block_count"] == 2
    for fact in (gguf_facts.parameters, gguf_facts.bytes_by_type, gguf_facts.layer_sizes):
        assert fact(one) == fact(two)
    assert gguf_facts.memory(one, 512) == gguf_facts.memory(two, 512)
    parts = sorted(first.parent.glob("*.gguf"))
    assert two.file_size == sum(path.stat().st_size for path in parts)
    with Model(first, gpu_layers=0) as model:
        assert model.n_params == gguf_facts.parameters(two)


def test_parts_that_hold_tensors_each(pair, tmp_path):
    (whole, _), _ = pair
    first = split(whole, tmp_path, in_first=5)
    assert {t.name for t in read_model(first).tensors} == {
        t.name for t in read_header(whole).tensors
    }
    probe.check_unknown(first)


def test_the_fingerprint_covers_all_parts(pair):
    whole, first = pair
    prints = {fingerprint(path, read_model(path)) for path in (*whole, *first)}
    assert len(prints) == 4
    # Of an unsplit file it must stay what it is: prompt states on users' disks are found by it.
    data = whole[0].read_bytes()
    digest = hashlib.sha256(len(data).to_bytes(8, "little") + data)
    assert fingerprint(whole[0], read_header(whole[0])) == digest.hexdigest()[:32]
    marks = {probe._mark(path, read_model(path)) for path in first}
    assert len(marks) == 2


@pytest.mark.slow
def test_answers_are_those_of_the_weights(pair):
    """A saved prompt state of one model must not serve the other."""
    whole, first = pair

    def answers(path):
        args = ["-p", "urial-demo", "-n", "12", "--temp", "0", "fox"]
        return urial("ask", "-m", path, *args).stdout

    said = [answers(path) for path in whole]
    assert said[0] != said[1]
    assert [answers(path) for path in first] == said


def test_parts_that_are_missing_or_wrong(pair, tmp_path):
    (whole, other), _ = pair
    first = split(whole, tmp_path / "a")
    second = first.with_name("m-Q8_0-00002-of-00002.gguf")
    with pytest.raises(ModelError, match=r"is part 2 of 2") as error:
        read_model(second)
    assert str(first) in error.value.hint
    assert "Name the first part" in fails(1, "ask", "-m", second, "hello")
    good = second.read_bytes()
    second.unlink()
    with pytest.raises(ModelError, match=f"{second.name} is missing"):
        read_model(first)
    second.write_bytes(good[: len(good) // 2])
    with pytest.raises(ModelError, match="should end"):
        read_model(first)
    second.write_bytes(first.read_bytes())
    with pytest.raises(ModelError, match="not the part that its name says"):
        read_model(first)
    second.write_bytes(split(other, tmp_path / "b", in_first=3).with_name(second.name).read_bytes())
    said = fails(1, "ask", "-m", first, "-p", "raw", "hello")
    assert "cannot load" in said
    third = first.rename(first.with_name("m.gguf"))
    with pytest.raises(ModelError, match="one of 2 parts"):
        read_model(third)


def test_tensors_that_come_twice(tmp_path):
    for number in (1, 2):
        entries = [kv("split.no", 2, bytes([number - 1, 0])), kv("split.count", 2, b"\2\0")]
        path = tmp_path / f"m-0000{number}-of-00002.gguf"
        path.write_bytes(build([*BOTH, *entries], [tensor()]))
    with pytest.raises(ModelError, match="do not belong together"):
        read_model(tmp_path / "m-00001-of-00002.gguf")


def test_show_and_verify_all_parts(pair):
    (whole, _), (first, _) = pair
    found = json.loads(urial("models", "show", first, "--json").stdout)
    assert found["parameters"] == gguf_facts.parameters(read_header(whole))
    done = urial("models", "verify", first)
    assert done.returncode == 0, done.stderr
    names = [line.split()[1] for line in done.stdout.replace("–", "ok").splitlines()]
    assert names == ["header", "sha256", "sha256", "try"]
    for path in sorted(first.parent.glob("*.gguf")):
        assert hashlib.sha256(path.read_bytes()).hexdigest() in done.stdout
