"""The wheel holds what an installed command needs, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.command import urial

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--wheel-dir",
            str(out),
            f"--config-settings=build-dir={out}/build",
            str(ROOT),
        ],
        check=True,
        timeout=900,
    )
    return next(out.glob("*.whl"))


@pytest.mark.slow
def test_members(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for kind in ("frames/*.jinja", "phrases/*.txt", "probes/*.toml", "prompts/*.toml"):
        files = list((ROOT / "templates").glob(kind))
        assert files
        for path in files:
            assert f"urial_local/templates/{path.parent.name}/{path.name}" in names
    assert "urial_local/models.txt" in names
    for model in ("base", "aligned"):
        assert f"urial_local/demo/demo-{model}-q8_0.gguf" in names
    assert "urial_local/_native.pyi" in names
    assert sum(n.startswith("urial_local/_native.") and n.endswith(".so") for n in names) == 1
    modules = {p.relative_to(ROOT).as_posix() for p in (ROOT / "urial_local").rglob("*.py")}
    assert modules <= names
    foreign = [n for n in names if not n.startswith(("urial_local/", "urial_local-"))]
    assert foreign == [], "no tests, no csrc, nothing at the top"
    assert any(n.endswith("licenses/LICENSE") for n in names)


@pytest.mark.slow
def test_an_installed_wheel_finds_its_files(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    # Past the finder of the editable install, so that the wheel's own files are imported.
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1))\n"
        "sys.meta_path[:] = [f for f in sys.meta_path if 'ScikitBuild' not in type(f).__name__]\n"
        "import urial_local.cli.main as m; print(m.__file__, file=sys.stderr); m.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), "prompts", "show", "urial"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
    )
    assert str(tmp_path) in done.stderr
    assert done.stdout.startswith("# Instruction")
    assert done.returncode == 0


def test_the_version_is_said_once():
    import urial_local

    assert urial_local.__version__ in urial("--version").stdout
    assert f'version = "{urial_local.__version__}"' in (ROOT / "pyproject.toml").read_text()
