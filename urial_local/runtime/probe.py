"""Tries an unknown model file in a child process, where a native abort or hang does no harm.

The header check (base.gguf_header) finds what can be seen from outside. Values that are well-formed
and absurd still make llama.cpp abort, which no `except` can catch. So a file is first loaded,
tokenised with and decoded with in a child, and its fingerprint is remembered when that went well.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from urial_local.base import child, gguf_parts
from urial_local.base.errors import ModelError, TokenizeError, UrialError
from urial_local.base.files import private_append, private_folder
from urial_local.base.gguf_header import GGUFHeader
from urial_local.base.gguf_parts import read_model
from urial_local.base.model_names import AdapterName, parse_adapter
from urial_local.base.paths import cache_dir
from urial_local.runtime.adapters import Adapter, checked_adapters, titled, with_adapters
from urial_local.runtime.model import Model, fingerprint

# Seconds, and bytes a second: large files on slow disks take minutes to read.
TIME_LIMIT, SLOWEST_READ = 60.0, 20_000_000
MEMORY = 8 << 30  # bytes beyond what the weights may take: a context of 64 tokens needs little
PROBE_TEXT = "Hello there, 1 2 3"
_DAMAGED = "The file is damaged or malicious: download it again from a source you trust."


def check_unknown(
    path: Path, on_start: Callable[[], None] = lambda: None, again: bool = False
) -> GGUFHeader:
    """Try a file in a child process unless it was tried before, or `again`. `on_start` hears that
    it begins.

    Returns the header that was checked, so that opening the model need not walk it again.
    Raises ModelError when the file is malformed, or makes llama.cpp fail, abort or hang.
    """
    header = read_model(path)
    _try(path, header, (), on_start, again)
    return header


def check_adapters(
    path: Path,
    header: GGUFHeader,
    adapters: Sequence[Adapter],
    on_start: Callable[[], None] = lambda: None,
    again: bool = False,
) -> None:
    """The same for adapters together with the model that they change, whose file was tried.

    Raises ModelError when llama.cpp refuses, aborts or hangs, or computes what is not a number.
    """
    if adapters:
        _try(path, header, adapters, on_start, again)


def _try(
    path: Path,
    header: GGUFHeader,
    adapters: Sequence[Adapter],
    on_start: Callable[[], None],
    again: bool,
) -> None:
    mark = _mark(path, header, adapters)
    if mark.exists() and not again:
        return
    on_start()
    size = header.file_size + sum(a.header.file_size for a in adapters)
    limit = TIME_LIMIT + size / SLOWEST_READ
    what = titled(str(path), adapters)
    names = [a.named.argument for a in adapters]
    try:
        done = subprocess.run(
            child.command(__name__, str(path), str(2 * size + MEMORY), *names),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=limit,
            # Without it, ggml has a debugger write a trace when it aborts, where there is one.
            env={**os.environ, "GGML_NO_BACKTRACE": "1"},
        )
    except subprocess.TimeoutExpired:
        raise ModelError(
            f"llama.cpp did not finish loading {what} within {limit:.0f} seconds.", _DAMAGED
        ) from None
    if name := child.breakdown(done.returncode):
        raise ModelError(f"llama.cpp crashes ({name}) when it loads {what}.", _DAMAGED)
    if done.returncode != 0:
        said = _last_json(done.stdout)
        last = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        hint = said.get("hint", last)
        raise ModelError(said.get("error", f"{what} could not be tested."), hint)
    with contextlib.suppress(OSError):  # a cache that cannot be written only costs time
        private_folder(mark.parent)
        private_append(mark).close()


def _mark(path: Path, header: GGUFHeader, adapters: Sequence[Adapter] = ()) -> Path:
    """The file whose presence says that a model was tried with this build of llama.cpp.

    The times of its files count, too: a change in place that the fingerprint's samples miss has
    the file tried again.
    """
    from urial_local.runtime.llama_api import build_id

    times = [part.stat().st_mtime_ns for part, _ in gguf_parts.files(path, header)]
    own = with_adapters(fingerprint(path, header), adapters)
    key = f"{own}\n{build_id()}\n{times}"
    return cache_dir() / "checked" / hashlib.sha256(key.encode()).hexdigest()[:32]


def _last_json(output: bytes) -> dict[str, str]:
    with contextlib.suppress(ValueError, IndexError):
        record = json.loads(output.splitlines()[-1])
        if isinstance(record, dict):
            return record
    return {}


def probe(path: Path, adapters: Sequence[AdapterName] = ()) -> None:
    """Load a file, tokenise with it, decode. Raises UrialError; worse things end the process."""
    from urial_local.runtime.sequences import BatchToken, Sequences

    header = read_model(path)
    checked = checked_adapters(adapters, header)
    with Model(path, gpu_layers=0, header=header, adapters=checked) as model:
        if model.ctx_train < 1:  # as a signed number, which is how it is used
            raise ModelError(f"{path} names a context length that makes no sense.", _DAMAGED)
        vocab = model.vocab
        try:
            ids = vocab.tokenize(PROBE_TEXT).tolist()
        except TokenizeError:
            ids = []  # some vocabularies know few characters
        ids = ids[: model.ctx_train] or [0]
        vocab.detokenize(ids)
        sequences = Sequences(model, cells=64, n_seq=2, batch=64, threads=1)
        try:
            logits = sequences.decode([BatchToken(t, i, 0, True) for i, t in enumerate(ids)])
            if checked and not np.isfinite(logits).all():
                raise ModelError(
                    f"{titled(str(path), checked)} computes what is not a number.",
                    "The adapter is damaged, for another model, or its scale is far too large.",
                )
        finally:
            sequences.close()


def main() -> None:
    """The child process. Its arguments are the file, its limit of memory, and adapters."""
    path = Path(sys.argv[1])
    child.limit_memory(int(sys.argv[2]))
    try:
        probe(path, [parse_adapter(argument) for argument in sys.argv[3:]])
    except UrialError as error:
        said = {"error": error.message, "hint": error.hint}
    except MemoryError:
        said = {"error": f"{path} asks for more memory than its size explains.", "hint": _DAMAGED}
    else:
        return
    print(json.dumps(said))
    sys.exit(1)
