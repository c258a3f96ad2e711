"""Downloads of model files that go on where they were interrupted, and that nobody finds before
they were checked.

huggingface_hub gives each download a file of its own and removes it when the process ends, so a
second one begins anew. Here the bytes go to one file beside its blobs, named after the sha256 that
the hub promises, by the hub's plain HTTP addresses: what Xet would do faster, it cannot take up
again. Once checked, the file becomes a blob with a link to it, as huggingface_hub lays them out
(https://huggingface.co/docs/huggingface_hub/guides/manage-cache).
"""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from urial_local.base.guarded import TooLong
from urial_local.base.hub import AGAIN, HubError, HubUnreachable, hub_errors, model_folder
from urial_local.base.hub_client import LARGEST, download_of

SUFFIX = ".urial-incomplete"
GOES_ON = "Run the same command again to resume."


def http_get() -> Callable[..., Any] | None:
    """huggingface_hub's own download to an open file; None where a release has none like it."""
    try:
        from huggingface_hub.file_download import http_get as found

        known = inspect.signature(found).parameters
    except (ImportError, TypeError, ValueError):
        return None
    needed = {"url", "temp_file", "resume_size", "headers", "expected_size", "displayed_filename"}
    return found if needed <= set(known) else None


def goes_on(sha256: str | None, size: int | None) -> bool:
    """Whether an interrupted download of such a file can be taken up again."""
    return bool(sha256 and size is not None and size <= LARGEST and http_get())


def begun(repo: str, sha256: str) -> Path:
    """Where the bytes lie that were fetched so far."""
    return model_folder(repo) / "blobs" / (sha256 + SUFFIX)


def fetch(repo: str, file: str, commit: str, sha256: str, size: int) -> Path:
    """All bytes of a file that `goes_on`, fetched or taken up again; not checked yet. One process
    at a time. Raises HubError; what was fetched is kept then."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    path = begun(repo, sha256)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as out:
        if out.tell() > size:
            out.truncate(0)
        get = http_get()
        assert get is not None
        try:
            with hub_errors(f"{repo}, {file}"), _wrong_bytes(out, file), download_of(size):
                get(
                    hf_hub_url(repo, file, revision=commit),
                    _Promised(out, size),
                    resume_size=out.seek(0, os.SEEK_END),
                    # Compressed, the bytes that came would not be those to go on from.
                    headers={**build_hf_headers(), "Accept-Encoding": "identity"},
                    expected_size=size,
                    displayed_filename=Path(file).name,
                )
        except HubUnreachable as error:
            hint = error.hint.removesuffix(AGAIN).strip()
            kept = " ".join(filter(None, ["What arrived is kept.", hint, GOES_ON]))
            raise HubError(error.message, kept) from None
    return path


class _Promised:
    """The file, as far as the hub has said that it goes: with the answers to several requests in
    it, each of which may be as long as the whole, it must not become longer."""

    def __init__(self, out: BinaryIO, size: int) -> None:
        self._out, self._size = out, size

    def write(self, data: bytes) -> int:
        if self._out.seek(0, os.SEEK_END) + len(data) > self._size:
            raise TooLong(f"More than {self._size:,} bytes.")
        return self._out.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._out, name)


@contextlib.contextmanager
def _wrong_bytes(out: BinaryIO, file: str) -> Iterator[None]:
    """Inside, a hub that has no bytes where ours end (416), or more than it has said, leaves us
    with none: they are wrong."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except TooLong:
        out.truncate(0)
        raise HubError(f"The hub sent more of {file} than it had promised.", AGAIN) from None
    except HfHubHTTPError as error:
        if getattr(error.response, "status_code", None) == 416:
            out.truncate(0)
        raise


def adopt(repo: str, file: str, commit: str, sha256: str, checked: Path) -> Path:
    """Make a checked file the hub's blob and link to it, as a file of that commit. Returns the
    link."""
    folder = model_folder(repo)
    blob, link = folder / "blobs" / sha256, folder / "snapshots" / commit / file
    if checked == link:
        return link
    if checked != blob:
        os.replace(checked, blob)
    link.parent.mkdir(parents=True, exist_ok=True)
    if os.path.realpath(link) != os.path.realpath(blob):
        link.unlink(missing_ok=True)  # it leads nowhere, or to other bytes
        try:
            link.symlink_to(os.path.relpath(blob, link.parent))
        except OSError:  # a disk without links
            os.replace(blob, link)
    remember_main(repo, commit)
    return link


def remember_main(repo: str, commit: str) -> None:
    """Write which commit is the newest, as huggingface_hub does when asked for it by no other
    name: `hf cache prune` removes the files of commits that nothing names."""
    ref = model_folder(repo) / "refs" / "main"
    with contextlib.suppress(OSError):
        ref.parent.mkdir(parents=True, exist_ok=True)
        ref.write_text(commit)
