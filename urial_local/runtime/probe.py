"""Tries an unknown model file in a child process, where a native abort or hang does no harm.

The header check (base.gguf_header) finds what can be seen from outside. Values that are well-formed
and absurd still make llama.cpp abort, which no `except` can catch. So a file is first loaded,
tokenised with and decoded with in a child, and its fingerprint is remembered when that went well.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from urial_local.base.errors import ModelError, TokenizeError, UrialError
from urial_local.base.gguf_header import GGUFHeader, read_header
from urial_local.base.paths import cache_dir
from urial_local.runtime.model import Model, fingerprint

TIME_LIMIT = 600.0  # seconds: large files on slow disks take minutes to read
PROBE_TEXT = "Hello there, 1 2 3"
_DAMAGED = "The file is damaged or made to do harm: download it again from a source you trust."


def check_unknown(path: Path, on_start: Callable[[], None] = lambda: None) -> GGUFHeader:
    """Try a file in a child process unless it was tried before. `on_start` hears that it begins.

    Returns the header that was checked, so that opening the model need not walk it again.
    Raises ModelError when the file is malformed, or makes llama.cpp fail, abort or hang.
    """
    header = read_header(path)
    mark = _mark(path, header)
    if mark.exists():
        return header
    on_start()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "urial_local.runtime.probe", str(path)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIME_LIMIT,
        )
    except subprocess.TimeoutExpired:
        raise ModelError(
            f"llama.cpp did not finish loading {path} within {TIME_LIMIT:.0f} seconds.", _DAMAGED
        ) from None
    if done.returncode < 0:
        with contextlib.suppress(ValueError):
            name = signal.Signals(-done.returncode).name
            if name == "SIGINT":
                raise KeyboardInterrupt
            raise ModelError(f"llama.cpp breaks down ({name}) when it loads {path}.", _DAMAGED)
    if done.returncode != 0:
        said = _last_json(done.stdout)
        raise ModelError(said.get("error", f"{path} could not be tried."), said.get("hint", ""))
    with contextlib.suppress(OSError):  # a cache that cannot be written only costs time
        mark.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        mark.touch()
    return header


def _mark(path: Path, header: GGUFHeader) -> Path:
    """The file whose presence says that a model was tried with this build of llama.cpp."""
    from urial_local.runtime.llama_api import build_id

    key = f"{fingerprint(path, header)}\n{build_id()}"
    return cache_dir() / "checked" / hashlib.sha256(key.encode()).hexdigest()[:32]


def _last_json(output: bytes) -> dict[str, str]:
    with contextlib.suppress(ValueError, IndexError):
        record = json.loads(output.splitlines()[-1])
        if isinstance(record, dict):
            return record
    return {}


def probe(path: Path) -> None:
    """Load a file, tokenise with it, decode. Raises UrialError; worse things end the process."""
    from urial_local.runtime.sequences import BatchToken, Sequences

    with Model(path, gpu_layers=0) as model:
        vocab = model.vocab
        try:
            ids = vocab.tokenize(PROBE_TEXT).tolist()
        except TokenizeError:
            ids = []  # some vocabularies know few characters
        ids = ids[: max(1, model.ctx_train)] or [0]
        vocab.detokenize(ids)
        sequences = Sequences(model, cells=64, n_seq=2, batch=64, threads=1)
        try:
            sequences.decode([BatchToken(t, i, 0, True) for i, t in enumerate(ids)])
        finally:
            sequences.close()


if __name__ == "__main__":
    try:
        probe(Path(sys.argv[1]))
    except UrialError as error:
        print(json.dumps({"error": error.message, "hint": error.hint}))
        sys.exit(1)
