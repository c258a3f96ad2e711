"""The Hugging Face hub: what a repository has, what lies in its cache, and errors as sentences.

All of it through huggingface_hub: its cache (HF_HOME), its tokens (HF_TOKEN), its offline switch
(HF_HUB_OFFLINE), its endpoint (HF_ENDPOINT). Imported only where a name of the hub is used.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from urial_local.base.addresses import without_secrets
from urial_local.base.errors import UrialError, near

RepoType = Literal["model", "dataset"]
AGAIN = "Run the same command again to retry."
_NUMBERS = ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT")


class HubError(UrialError):
    """The hub does not give what was asked for, or cannot be reached."""


class HubUnreachable(HubError):
    """Nothing was learnt from the hub: no network, offline, or an answer that is none."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository, as the hub describes it."""

    name: str  # path in the repository
    size: int | None  # bytes
    sha256: str | None  # of large files; the hub keeps none of small ones


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository at one commit."""

    name: str
    commit: str
    files: tuple[RemoteFile, ...]

    def file(self, name: str) -> RemoteFile:
        """Raises HubError that names the nearest files of the repository."""
        for file in self.files:
            if file.name == name:
                return file
        others = [f.name for f in self.files if Path(f.name).suffix == Path(name).suffix]
        hint = near(name, others) if others else "It has no file of that kind."
        raise HubError(f"{self.name} has no file {name}.", hint)


def constants() -> Any:
    """huggingface_hub's settings, read from the environment once. Raises HubError for malformed
    ones."""
    try:
        from huggingface_hub import constants as found
    except ValueError:
        wrong = [n for n in _NUMBERS if not os.environ.get(n, "0").strip().isdecimal()]
        names = " or ".join(wrong) or "A variable that begins with HF_"
        raise HubError(
            f"{names} is not a whole number.", "Unset it, then run the same command again."
        ) from None
    return found


def repository(name: str, repo_type: RepoType = "model") -> Repository:
    """What the hub says of a repository. Raises HubError."""
    known = constants()
    from huggingface_hub import HfApi, errors

    with hub_errors(name, repo_type):
        try:
            info = HfApi().repo_info(
                name,
                repo_type=repo_type,
                files_metadata=True,
                timeout=known.HF_HUB_ETAG_TIMEOUT,
            )
            files = tuple(_remote_file(s) for s in getattr(info, "siblings", None) or ())
            if not re.fullmatch("[0-9a-f]{40}", str(info.sha)):
                raise ValueError("no commit")
        except (errors.HFValidationError, errors.HfHubHTTPError):
            raise
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            # Whatever huggingface_hub and we stumble over in an answer that is none.
            raise HubUnreachable(
                f"{without_secrets(known.ENDPOINT)} answered with something that is not a hub's"
                " answer.",
                "Is there a login page between you and the network, or is HF_ENDPOINT set to"
                " something else?",
            ) from None
    return Repository(name, str(info.sha), files)


def _remote_file(told: Any) -> RemoteFile:
    """Raises ValueError or TypeError for what is not a file's description."""
    name, size, sha256 = told.rfilename, told.size, told.lfs.sha256 if told.lfs else None
    if not isinstance(name, str) or not {"", ".", ".."}.isdisjoint(name.split("/")):
        raise ValueError("no file's name")
    if size is not None and (type(size) is not int or size < 0):
        raise ValueError("no file's size")
    whole = isinstance(sha256, str) and re.fullmatch("[0-9a-f]{64}", sha256)
    return RemoteFile(name, size, sha256 if whole else None)


def download(
    repo: str, file: str, repo_type: RepoType = "model", revision: str | None = None
) -> Path:
    """A file in the hub's cache, downloaded where it is not there. Raises HubError.

    An interrupted download begins anew; see base.hub_fetch for one that goes on.
    """
    known = constants()
    from huggingface_hub import errors, get_hf_file_metadata, hf_hub_url
    from huggingface_hub import hf_hub_download as fetch

    from urial_local.base.hub_client import download_of

    with hub_errors(f"{repo}, {file}", repo_type):
        try:  # one question with a limit: hf_hub_download asks a silent hub for minutes
            size = get_hf_file_metadata(
                hf_hub_url(repo, file, repo_type=repo_type, revision=revision),
                timeout=known.HF_HUB_ETAG_TIMEOUT,
            ).size
        except (errors.RemoteEntryNotFoundError, errors.RevisionNotFoundError):
            raise
        except Exception:
            with contextlib.suppress(errors.LocalEntryNotFoundError):
                there = fetch(
                    repo, file, repo_type=repo_type, revision=revision, local_files_only=True
                )
                return Path(str(there))
            raise
        with download_of(size):
            return Path(str(fetch(repo, file, repo_type=repo_type, revision=revision)))


def cache_folder() -> Path:
    """Where huggingface_hub keeps what it downloaded."""
    return Path(constants().HF_HUB_CACHE)


def model_folder(repo: str) -> Path:
    """A model repository's folder in that cache: `blobs`, `refs` and `snapshots`."""
    return cache_folder() / f"models--{repo.replace('/', '--')}"


def cached_files(repo: str) -> dict[str, Path]:
    """The GGUF files of a model repository that are there already, by name; of several snapshots
    the latest. No network is used."""
    snapshots = model_folder(repo) / "snapshots"
    found: dict[str, Path] = {}
    with contextlib.suppress(OSError):
        for snapshot in sorted(snapshots.iterdir(), key=lambda p: -p.stat().st_mtime):
            for path in sorted(snapshot.rglob("*.gguf")):
                if path.exists():  # a link whose file is gone is not a file
                    found.setdefault(path.relative_to(snapshot).as_posix(), path)
    return found


@contextlib.contextmanager
def hub_errors(what: str, repo_type: RepoType = "model") -> Iterator[None]:
    """Inside, every way in which the hub fails becomes a HubError that says what to do."""
    constants()  # whose errors are the first that importing it has
    from huggingface_hub import errors

    from urial_local.base.hub_client import use_our_client

    try:
        use_our_client()
        yield
    except HubError:
        raise
    except UrialError as error:
        raise HubUnreachable(
            f"{what} could not be fetched: {error.message}", error.hint or AGAIN
        ) from None
    except errors.OfflineModeIsEnabled:
        raise HubUnreachable(
            f"HF_HUB_OFFLINE forbids asking the hub for {what}.",
            "Unset HF_HUB_OFFLINE, then run the same command again.",
        ) from None
    except errors.LocalEntryNotFoundError as error:
        raise _unreachable(what, error.__cause__ or error) from None
    except errors.HfHubHTTPError as error:
        raise _refused(what, repo_type, error) from None
    except errors.HFValidationError as error:
        raise HubError(f"{what} is not a name that the hub accepts: {_first_line(error)}") from None
    except OSError as error:
        if error.errno is not None:  # a disk, not a network
            raise
        raise _unreachable(what, error) from None
    except Exception as error:
        # The hub's HTTP client is its own business, and its exceptions are no OSErrors.
        if type(error).__module__.split(".")[0] not in ("httpx", "httpx2", "httpcore", "httpcore2"):
            raise
        raise _unreachable(what, error) from None


def _refused(what: str, repo_type: RepoType, error: Exception) -> HubError:
    """What an answer says that is not the wanted one."""
    from huggingface_hub import errors

    repo = what.split(",")[0]
    if isinstance(error, errors.GatedRepoError):
        page = f"https://huggingface.co/{'datasets/' if repo_type == 'dataset' else ''}"
        return HubError(
            f"{repo} is gated: its owners ask for consent first.",
            f"Accept the terms at {page}{repo}, then `hf auth login` (or HF_TOKEN) and the same"
            " command.",
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return HubError(
            f"The hub has no {repo_type} {repo}, or it is private.",
            "Check the name; for a private one, `hf auth login` or HF_TOKEN first.",
        )
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return HubError(f"The hub has no file {what}.", "Check its name.")
    status = getattr(getattr(error, "response", None), "status_code", None)
    hint = AGAIN
    if status in (401, 403):
        hint = "Use `hf auth login` (or HF_TOKEN), then run the same command again."
    kind = HubUnreachable if type(status) is int and status >= 500 else HubError
    return kind(f"The hub refused {what} ({_first_line(error)}).", hint)


def _unreachable(what: str, error: BaseException) -> HubError:
    return HubUnreachable(
        f"{what} could not be fetched: {_first_line(error)}",
        f"Is there a network? {AGAIN}",
    )


def _first_line(error: BaseException) -> str:
    said = (str(error).strip() or type(error).__name__).split("\n")[0]
    return without_secrets(said).rstrip(".") + "."
