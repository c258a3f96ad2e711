"""models.txt: what a line may hold, what is shipped, and what a name stands for."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import crafted_gguf as crafted
from tests.command import fails, urial
from urial_local.base import registry as module
from urial_local.base.errors import ModelError, UsageError, near
from urial_local.base.gguf_header import read_header
from urial_local.base.hub import cache_folder
from urial_local.base.paths import shipped
from urial_local.base.registry import (
    HubName,
    find_model,
    parse_hub_name,
    parse_line,
    parts,
    read_registry,
    registry,
)

LINE = "tiny some/repo tiny.Q8_0.gguf Q8_0 - 1000 512 mit base tiny-chat -"


def changed(column: int, value: str) -> str:
    cells = LINE.split()
    cells[column] = value
    return " ".join(cells)


def test_the_shipped_registry():
    entries, problems = read_registry(shipped("models.txt"))
    assert problems == []
    assert registry().problems == ()
    bases = [e for e in entries.values() if e.role == "base"]
    readme = Path(__file__).parent.parent.joinpath("README.md").read_text("utf-8")
    assert f"`models list` names {len(bases)} base models" in readme
    for entry in entries.values():
        other = entries[entry.pair]
        assert (other.pair, other.quant) == (entry.name, entry.quant)
        assert {entry.role, other.role} == {"base", "aligned"}
        assert entry.source in "SFR"
        assert (entry.source == "S") == (entry.sha256 is not None)
        ends = entry.file.lower()
        assert entry.quant.lower() in ends
    assert {"llama-2-7b", "llama-2-7b-chat", "mistral-7b", "mistral-7b-instruct"} <= set(entries)
    assert any("70b" in name for name in entries)
    assert any("135m" in name for name in entries)
    assert entries["gemma-3-270m"].pair == "gemma-3-270m-it"
    assert entries["gemma-3-1b-pt"].pair == "gemma-3-1b-it"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tiny some/repo", "2 columns instead of 11"),
        (LINE + " more", "12 columns"),
        (changed(0, "Tiny"), "'Tiny' is not a name"),
        (changed(0, "../x"), "is not a name"),
        (changed(0, "demo"), "embedded"),
        (changed(1, "repo"), "not a repository"),
        (changed(1, "../repo"), "not a repository"),
        (changed(1, "a/b/c"), "not a repository"),
        (changed(1, "a/..b"), "not a repository"),
        (changed(2, "tiny.bin"), "not the name of a GGUF"),
        (changed(2, "../tiny.gguf"), "not the name of a GGUF"),
        (changed(2, "/etc/tiny.gguf"), "not the name of a GGUF"),
        (changed(2, "a/../tiny.gguf"), "not the name of a GGUF"),
        (changed(2, "a\\tiny.gguf"), "not the name of a GGUF"),
        (changed(2, ".hidden.gguf"), "not the name of a GGUF"),
        (changed(3, "Q8-"), "not a quantisation"),
        (changed(2, "m-00002-of-00003.gguf"), "not the first part"),
        (changed(4, "abc"), "not a sha256"),
        (changed(4, "A" * 64), "not a sha256"),
        (changed(5, "1.5GB"), "not a size in bytes"),
        (changed(5, "-1"), "not a size in bytes"),
        (changed(6, "0"), "not a number of tokens"),
        (changed(8, "chat"), "role is 'chat'"),
        (changed(9, "a b"), "12 columns"),
        (changed(9, "A"), "is not a name"),
        (changed(7, "x" * 5000), "more than 4096 characters"),
        (changed(7, "\x1b[31mmit"), "not a licence"),
        (changed(7, "x" * 65), "not a licence"),
        (changed(10, "\x1b[5m"), "not a source"),
    ],
)
def test_malformed_lines(text, message):
    with pytest.raises(ValueError, match=message):
        parse_line(text)


@pytest.mark.slow
@given(st.text(max_size=200))
def test_any_line_is_an_entry_or_a_sentence(text):
    try:
        entry = parse_line(text)
    except ValueError:
        return
    cache = cache_folder().resolve()
    assert (cache / entry.repo / entry.file).resolve().is_relative_to(cache)


def test_the_users_own_registry(tmp_path):
    folder = Path(os.environ["URIAL_CONFIG_DIR"])
    folder.mkdir(parents=True)
    mine = folder / "models.txt"
    mine.write_text(f"# mine\n{LINE}\n\nbroken line  # why\n{LINE}\n")
    found = registry()
    assert found.entries["tiny"].size == 1000
    assert "mistral-7b" in found.entries
    assert [p.split(": ", 1)[1] for p in found.problems[:2]] == [
        "it has 2 columns instead of 11.",
        "the name tiny appears twice.",
    ]
    assert f"{mine}, line 4" in found.problems[0]
    assert "tiny names tiny-chat as its counterpart" in found.problems[2]
    done = urial("models", "list", "--json")
    assert "line 4" in done.stderr
    assert "tiny" in [row["name"] for row in json.loads(done.stdout)]
    mine.write_text(LINE.replace("tiny ", "mistral-7b ", 1))
    assert registry().entries["mistral-7b"].repo == "some/repo"
    mine.write_bytes(b"\xff\xfe")
    assert "cannot be read" in registry().problems[0]


@pytest.fixture
def mine():
    """Where the user's own registry lies."""
    folder = Path(os.environ["URIAL_CONFIG_DIR"])
    folder.mkdir(parents=True)
    return folder / "models.txt"


def test_what_editors_leave(mine):
    """A byte order mark, carriage returns, and a form feed, which ends no line."""
    line = LINE.replace("tiny-chat", "-")
    mine.write_bytes(f"\ufeff# a\fb\r\n{line}\r\n{line}\r\n".encode())
    found = registry()
    assert "tiny" in found.entries
    assert [p.split(": ", 1)[0] for p in found.problems] == [f"{mine}, line 3"]


def test_what_is_no_registry(mine):
    os.mkfifo(mine)
    assert "is not a file" in registry().problems[0]
    mine.unlink()
    mine.mkdir()
    assert "is not a file" in registry().problems[0]
    mine.rmdir()
    mine.symlink_to("/dev/zero")
    assert "is not a file" in registry().problems[0]
    mine.unlink()
    mine.write_bytes(b"#" * (module.MAX_FILE + 1))
    assert "at most 1 MB" in registry().problems[0]
    assert "mistral-7b" in registry().entries


def test_a_counterpart_need_not_know_of_it(mine):
    mine.write_text(LINE.replace("tiny-chat", "mistral-7b-instruct"))
    assert registry().problems == ()
    mine.write_text(LINE.replace("tiny-chat", "mistral-7b"))
    assert "mistral-7b as its counterpart, which is also base" in registry().problems[0]


def test_a_malformed_line_is_named_where_its_model_is_not_found(mine):
    mine.write_text("mine some/one a.gguf Q8_0 - - 512 mit base\n")
    for command in (["ask", "-m", "mine", "hi"], ["models", "show", "mine"]):
        assert "line 1: it has 9 columns" in fails(1, *command)
    assert "line 1: it has 9 columns" in fails(2, "models", "pull", "mine")


def test_names():
    assert parse_hub_name("hf:a/b") == HubName("a/b")
    assert parse_hub_name("hf:a/b:Q4_K_M") == HubName("a/b", quant="Q4_K_M")
    assert parse_hub_name("hf:a/b:UD-Q4_K_XL") == HubName("a/b", quant="UD-Q4_K_XL")
    with pytest.raises(UsageError, match="is a part of a model") as error:
        parse_hub_name("hf:a/b:m-00002-of-00003.gguf")
    assert "hf:a/b:m-00001-of-00003.gguf" in error.value.hint
    assert parse_hub_name("hf:a/b:x/y.gguf") == HubName("a/b", file="x/y.gguf")
    for name in ("hf:a", "hf:a/b/c", "hf:/b", "hf:a/b:q 4", "hf:a/b:../x.gguf", "hf:a/..", "hf:"):
        with pytest.raises(UsageError):
            parse_hub_name(name)
    files = ["a-Q4_K_S.gguf", "a-Q4_K_M.gguf", "mmproj-Q4_K_M.gguf", "b.txt", "a-IQ4_K_M.gguf"]
    assert HubName("a/b", quant="q4_k_m").choose(files) == ["a-Q4_K_M.gguf"]
    split = ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"]
    assert HubName("a/b").choose(split) == split[:1]
    assert parts(split[0]) == split
    assert parts("m.gguf") == ["m.gguf"]
    assert parts("m-00003-of-00002.gguf") == ["m-00003-of-00002.gguf"]
    assert near("MISTRAL-7b", ["Mistral-7B"]) == "Did you mean Mistral-7B?"
    assert find_model("demo").prompt == "urial-demo"
    assert find_model("./demo").path == Path("demo")
    assert find_model("x/y.gguf").path == Path("x/y.gguf")
    with pytest.raises(ModelError, match="no model 'mistrall-7b'") as caught:
        find_model("mistrall-7b")
    assert "mistral-7b" in caught.value.hint
    with pytest.raises(ModelError, match="not on this machine yet") as caught:
        find_model("mistral-7b")
    assert caught.value.hint == "urial-local models pull mistral-7b"


def test_list_and_path(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    done = urial("models")
    assert done.stdout.startswith("* demo ")
    assert done.stderr == ""
    rows = json.loads(urial("models", "list", "--base", "--json").stdout)
    assert {row["role"] for row in rows} == {"base"}
    assert all("instruct" not in row["name"] for row in rows)
    pairs = json.loads(urial("models", "list", "--pairs", "--json").stdout)
    assert ("mistral-7b", "mistral-7b-instruct") in {
        (p["base"]["name"], p["aligned"]["name"]) for p in pairs
    }
    assert "mistral-7b-instruct" in urial("models", "list", "--pairs").stdout
    local = urial("models", "list", "--local").stdout.splitlines()
    assert [line.split()[1] for line in local] == ["demo", "demo-aligned"]
    assert urial("models", "path").stdout.strip() == str(module.user_registry())
    assert urial("models", "path", "demo").stdout.strip().endswith(".gguf")


# --- files that are no models --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("general.type", "adapter", "an adapter (LoRA)"),
        ("general.type", "mmproj", "the projector (mmproj)"),
        ("general.type", "imatrix", "an importance matrix"),
        ("general.architecture", "controlvector", "a control vector"),
        ("general.architecture", "clip", "the projector (mmproj)"),
    ],
)
def test_gguf_files_of_other_kinds_are_named(key, value, named, tmp_path):
    path = tmp_path / "x.gguf"
    entry = crafted.kv(key, crafted.STRING, crafted.string(value))
    path.write_bytes(crafted.build([entry], [crafted.tensor()]))
    with pytest.raises(ModelError, match=re.escape(f"x.gguf is not a model but {named}")) as caught:
        read_header(path)
    assert "download" not in caught.value.hint


@pytest.mark.parametrize(
    ("head", "named", "advice"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS", "git lfs pull"),
        (b" \n<!DOCTYPE html><html>", "a web page", "models pull"),
        (b"<HTML>", "a web page", "models pull"),
        (b"PK\x03\x04xx", "ZIP archive", "convert_hf_to_gguf.py"),
        (b"\x1f\x8b\x08", "is compressed", "Unpack"),
        (b"tjgg\x03\0\0\0", "before GGUF", "conversion"),
        (b'\x10\0\0\0\0\0\0\0{"a": 1}', "safetensors", "convert_hf_to_gguf.py"),
        (b"\x10\0\0\0", "starts with", "convert_hf_to_gguf.py"),
    ],
)
def test_files_of_other_formats_are_named(head, named, advice, tmp_path):
    path = tmp_path / "x.gguf"
    path.write_bytes(head)
    with pytest.raises(ModelError, match="is not a GGUF file: it") as caught:
        read_header(path)
    assert named in caught.value.message
    assert advice in caught.value.hint


def test_a_pointer_in_place_of_rows_is_not_asked(tmp_path):
    path = tmp_path / "rows.txt"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
    said = fails(2, "generate", str(path), "-m", "demo", "-o", str(tmp_path / "run"))
    assert "Git LFS pointer" in said
    assert "git lfs pull" in said


def test_links_that_lead_nowhere_are_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("x.gguf").symlink_to("store/x.gguf")
    Path("models").symlink_to(tmp_path / "gone")
    Path("plain").symlink_to("nowhere")
    said = f"x.gguf is a link to {Path('store/x.gguf')}, which is not there"
    with pytest.raises(ModelError, match=re.escape(said)):
        read_header(Path("x.gguf"))
    with pytest.raises(ModelError, match=r"models is a link to .*gone, which is not there"):
        read_header(Path("models/x.gguf"))
    with pytest.raises(ModelError, match="plain is a link to nowhere"):
        read_header(find_model("plain").path)
    assert said in fails(1, "models", "path", "x.gguf")
    with pytest.raises(ModelError, match=r"no model file y\.gguf") as caught:
        read_header(Path("y.gguf"))
    assert "x.gguf" not in caught.value.hint  # which is as little there
