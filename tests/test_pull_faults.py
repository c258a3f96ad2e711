"""`models pull` that is interrupted, and hubs that answer nothing or nonsense."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.command import COMMAND, fails, until
from tests.hub_server import REPO
from tests.tiny_gguf import write_llama
from urial_local.base import hub as hub_module
from urial_local.base import hub_fetch
from urial_local.base.hub_fetch import SUFFIX

NAME = "large.Q6_K.gguf"
PIECE = 10 << 20  # bytes that huggingface_hub writes at once


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A model of some 30 MB, which takes a while to send."""
    path = write_llama(tmp_path_factory.mktemp("large") / "m.gguf", width=512, layers=3)
    return path.read_bytes()


def begun(home: Path) -> list[Path]:
    return list(home.rglob("*" + SUFFIX))


def stopped(home: Path, how: signal.Signals) -> tuple[int, str, str]:
    """A pull that is interrupted in the middle: its exit code and what it said."""
    process = subprocess.Popen(
        [*COMMAND, "models", "pull", f"hf:{REPO}:Q6_K"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    until(lambda: any(path.stat().st_size >= PIECE for path in begun(home)), process)
    process.send_signal(how)
    out, said = process.communicate(timeout=60)
    return process.returncode, out.decode(), said.decode()


@pytest.mark.slow
def test_an_interrupted_pull_goes_on(hub, models, large, tmp_path):
    hub.repos[REPO][NAME] = large
    hub.slow = 0.1
    home = tmp_path / "hf"
    assert stopped(home, signal.SIGKILL)[:2] == (-signal.SIGKILL, "")
    assert not list(home.rglob("*.gguf"))
    assert "not on this machine yet" in fails(1, "models", "path", f"hf:{REPO}:Q6_K")
    (left,) = begun(home)
    there = left.stat().st_size
    assert there >= PIECE
    hub.slow = 0
    done = models("pull", f"hf:{REPO}:Q6_K")
    assert done.returncode == 0, done.stderr
    assert hub.ranges[-1] == f"bytes={there}-"
    path = Path(done.stdout.strip())
    assert hashlib.sha256(path.read_bytes()).hexdigest() == hub.sha256(REPO, NAME)
    assert not begun(home)


def test_ctrl_c_says_that_it_goes_on(hub, models, large, tmp_path):
    hub.repos[REPO][NAME] = large
    hub.slow = 0.1
    code, out, said = stopped(tmp_path / "hf", signal.SIGINT)
    assert (code, out) == (130, "")
    assert "Stopped; run the same command again to resume." in said
    assert "Traceback" not in said
    hub.slow = 0
    assert models("pull", f"hf:{REPO}:Q6_K").returncode == 0
    assert hub.ranges[-1].startswith("bytes=1")


@pytest.mark.slow
def test_what_was_begun_can_be_removed(hub, models, large, tmp_path):
    hub.repos[REPO][NAME] = large
    hub.slow = 0.1
    stopped(tmp_path / "hf", signal.SIGKILL)
    assert "Freed 10.5 MB" in models("rm", f"hf:{REPO}:Q6_K", "--yes").stderr
    assert not begun(tmp_path / "hf")
    assert "nothing to remove" in fails(1, "models", "rm", f"hf:{REPO}:Q6_K", "--yes")


@pytest.mark.slow
def test_a_cut_download_goes_on(hub, models, large, tmp_path):
    hub.repos[REPO][NAME] = large
    hub.cuts[NAME] = 1  # huggingface_hub goes on by itself
    done = models("pull", f"hf:{REPO}:Q6_K")
    assert done.returncode == 0, done.stderr
    assert models("rm", f"hf:{REPO}:Q6_K", "--yes").returncode == 0
    hub.cuts[NAME] = 1000  # until it gives up
    said = fails(1, "models", "pull", f"hf:{REPO}:Q6_K")
    assert "could not be fetched" in said
    assert "same command again to resume" in said
    hub.cuts.clear()
    (left,) = begun(tmp_path / "hf")
    there = left.stat().st_size
    assert models("pull", f"hf:{REPO}:Q6_K").returncode == 0
    assert hub.ranges[-1] == f"bytes={there}-"


def test_damage_to_what_was_begun_is_found(hub, models, large, tmp_path):
    hub.repos[REPO][NAME] = large
    sha256 = hub.sha256(REPO, NAME)
    folder = tmp_path / "hf" / "hub" / "models--someone--tiny-GGUF" / "blobs"
    folder.mkdir(parents=True)
    left = folder / (sha256 + SUFFIX)
    left.write_bytes(bytes(1 << 20))
    assert "so it was removed" in fails(1, "models", "pull", f"hf:{REPO}:Q6_K")
    assert not left.exists()
    left.write_bytes(large + b"more")
    assert models("pull", f"hf:{REPO}:Q6_K").returncode == 0
    assert hub.ranges[-1] == ""


def test_a_hub_that_has_less_than_it_says(hub, models, large, tmp_path):
    hub.repos[REPO][NAME] = large
    assert models("pull", f"hf:{REPO}:Q6_K", "--dry-run").returncode == 0
    hub.short.add(NAME)
    assert "same command again to resume" in fails(1, "models", "pull", f"hf:{REPO}:Q6_K")
    assert "hub refused" in fails(1, "models", "pull", f"hf:{REPO}:Q6_K")  # to send what follows
    assert begun(tmp_path / "hf")[0].stat().st_size == 0
    hub.short.clear()
    assert models("pull", f"hf:{REPO}:Q6_K").returncode == 0


def test_other_releases_of_huggingface_hub(monkeypatch):
    """Where its download of one file is another, huggingface_hub does all of it."""
    from huggingface_hub import file_download

    assert hub_fetch.goes_on("a" * 64, 5)
    assert not hub_fetch.goes_on(None, 5)
    assert not hub_fetch.goes_on("a" * 64, None)
    assert not hub_fetch.goes_on("a" * 64, 60 * 10**9)
    monkeypatch.setattr(file_download, "http_get", lambda url, to: None)
    assert not hub_fetch.goes_on("a" * 64, 5)
    monkeypatch.delattr(file_download, "http_get")
    assert not hub_fetch.goes_on("a" * 64, 5)


SIBLINGS = {"id": REPO, "sha": "c" * 40}
NONSENSE = {
    "a login page": b"<html>\x1b[31mlogin</html>",
    "nothing": b"",
    "null": b"null",
    "a list": b"[1]",
    "an empty object": b"{}",
    "no commit": json.dumps({"id": REPO, "siblings": []}).encode(),
    "a file without a name": json.dumps({**SIBLINGS, "siblings": [{"x": 1}]}).encode(),
    "a name that is a number": json.dumps({**SIBLINGS, "siblings": [{"rfilename": 1}]}).encode(),
    "a name that climbs": json.dumps(
        {**SIBLINGS, "siblings": [{"rfilename": "../../x.Q4_K_M.gguf", "size": 5}]}
    ).encode(),
    "a size that is none": json.dumps(
        {**SIBLINGS, "siblings": [{"rfilename": "x.Q4_K_M.gguf", "size": -5}]}
    ).encode(),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_an_answer_that_is_none(hub, name, monkeypatch):
    from huggingface_hub import constants

    hub.answer = NONSENSE[name]
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    with pytest.raises(
        hub_module.HubUnreachable, match="something that is not a hub's answer"
    ) as e:
        hub_module.repository(REPO)
    assert "HF_ENDPOINT" in e.value.hint


def test_an_answer_that_is_none_at_the_command_line(hub, models):
    hub.answer = NONSENSE["a login page"]
    assert "login page" in fails(1, "models", "pull", f"hf:{REPO}:Q8_0")


@pytest.mark.slow
def test_a_hub_that_says_nothing(hub, models):
    patience = {"HF_HUB_ETAG_TIMEOUT": "2", "HF_HUB_DOWNLOAD_TIMEOUT": "1"}
    began = time.monotonic()
    hub.hangs = {"api"}
    assert "could not be fetched" in fails(1, "models", "pull", f"hf:{REPO}:Q4_K_M", **patience)
    hub.hangs = {"HEAD"}
    hub.plain = {NAME}
    hub.repos[REPO][NAME] = hub.repos[REPO]["tiny.Q4_K_M.gguf"]
    assert "could not be fetched" in fails(1, "models", "pull", f"hf:{REPO}:Q6_K", **patience)
    assert models("pull", f"hf:{REPO}:Q4_K_M", **patience).returncode == 0  # asks no HEAD
    assert time.monotonic() - began < 40
    hub.hangs = {"GET"}
    hub.repos[REPO][NAME] += b"\0" * 32
    hub.plain.clear()
    assert "could not be fetched" in fails(1, "models", "pull", f"hf:{REPO}:Q6_K", **patience)
    assert time.monotonic() - began < 80
