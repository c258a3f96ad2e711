from __future__ import annotations

import importlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import endpoint_server
from tests.command import urial
from tests.hub_server import NAMES, REPO, serving
from tests.tiny_gguf import PLAIN_CHAT, write_hybrid, write_llama, write_mamba, write_windowed
from tools import real_models

# A run that others depend on should not fail by chance; at home, new examples are welcome.
patient = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("home", **patient)
settings.register_profile("ci", derandomize=True, **patient)
settings.load_profile("ci" if os.environ.get("CI") else "home")

REAL_MODELS = real_models.folder()  # before any test's own folders are set
SHARED = Path(__file__).resolve().parent.parent.parent / "shared"


def put_folders(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    for name in ("CONFIG", "CACHE", "STATE"):
        monkeypatch.setenv(f"URIAL_{name}_DIR", str(home / name.lower()))
    monkeypatch.setenv("HF_HOME", str(home / "hub"))
    for name in ("URIAL_MODEL", "URIAL_DEBUG", "URIAL_PREFIX_CACHE_MB"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True, scope="session")
def session_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folders for fixtures that live longer than a test; returns the cache."""
    home = tmp_path_factory.mktemp("session")
    with pytest.MonkeyPatch.context() as monkeypatch:
        put_folders(monkeypatch, home)
        importlib.import_module("huggingface_hub.constants")  # which keeps these folders
        (home / "cache" / "checked").mkdir(0o700, parents=True)
        (home / "cache").chmod(0o700)
        yield home / "cache"


@pytest.fixture(autouse=True)
def own_folders(
    session_folders: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """No test sees the user's own prompts, caches, history or environment, or another test's.
    Which model files were tried is known to all of them, since to try one takes a process."""
    home = tmp_path_factory.mktemp("home")
    put_folders(monkeypatch, home)
    (home / "cache").mkdir(0o700)
    (home / "cache" / "checked").symlink_to(session_folders / "checked")
    return home


@pytest.fixture
def untried(own_folders: Path) -> None:
    """To this test all model files are unknown."""
    (own_folders / "cache" / "checked").unlink()


@pytest.fixture(scope="session")
def shared_file():
    """Path of a file in the shared folder; the test is skipped where it is absent."""

    def find(name: str) -> Path:
        path = SHARED / name
        if not path.exists():
            pytest.skip(f"shared file {name} is not here")
        return path

    return find


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("models") / "tiny-llama.gguf")


@pytest.fixture(scope="session")
def tiny_endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("models") / "tiny-endless.gguf", endless=True)


@pytest.fixture(scope="session")
def tiny_mamba(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mamba(tmp_path_factory.mktemp("models") / "tiny-mamba.gguf")


@pytest.fixture(scope="session")
def tiny_hybrid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hybrid(tmp_path_factory.mktemp("models") / "tiny-hybrid.gguf")


@pytest.fixture(scope="session")
def tiny_windowed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_windowed(tmp_path_factory.mktemp("models") / "tiny-windowed.gguf")


def real(name: str) -> Path:
    path = REAL_MODELS / real_models.MODELS[name].file
    if not path.exists():
        pytest.skip(f"the real model {name} is not here; `make real-models` fetches it")
    return path


@pytest.fixture(scope="session")
def real_base() -> Path:
    """Gemma 3 270M, a base model with sliding windows and a vocabulary of 262,144."""
    return real("gemma-3-270m")


@pytest.fixture(scope="session")
def real_aligned() -> Path:
    """SmolLM2 135M Instruct: a chat template and a byte-pair vocabulary of 49,152."""
    return real("smollm2-135m")


@pytest.fixture(scope="session")
def tiny_chat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with control tokens for turns and a chat template that uses them."""
    template = (
        "{{ bos_token }}{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
    )
    return write_llama(
        tmp_path_factory.mktemp("models") / "tiny-chat.gguf",
        chat_template=template,
        special={"<|start|>": 0, "<|end|>": 0},
    )


@pytest.fixture(scope="session")
def tiny_aligned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A counterpart of `tiny_llama` with other weights and a chat template."""
    path = tmp_path_factory.mktemp("models") / "tiny-aligned.gguf"
    return write_llama(path, seed=1, chat_template=PLAIN_CHAT)


@pytest.fixture
def hub(tiny_llama):
    """A server that plays the Hugging Face hub, with two repositories."""
    data = tiny_llama.read_bytes()
    files = {NAMES[0]: data, NAMES[1]: data + b"\0" * 32, NAMES[2]: data, "README.md": b"hello"}
    with serving({REPO: files, "someone/gated-GGUF": files}) as hub:
        hub.gated.add("someone/gated-GGUF")
        yield hub


@pytest.fixture
def models(hub, tmp_path, monkeypatch):
    """Runs `urial-local models …` against that hub, with caches of its own."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    for name, value in hub.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return lambda *args, **env: urial("models", *args, **env)


@pytest.fixture(scope="session")
def generated(tmp_path_factory) -> Path:
    from tests import generated_runs

    folder = tmp_path_factory.mktemp("generate")
    rows = [
        {"id": f"q{i}", "instruction": q, "category": "eat" if "eat" in q else "find", "extra": i}
        for i, q in enumerate(generated_runs.QUESTIONS)
    ]
    (folder / "q.json").write_text(json.dumps(rows))
    done = generated_runs.run(folder / "q.json", folder / "run", "-np", "4")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def shifted(tmp_path_factory):
    """A run over the demo pair: tagged questions, two contexts."""
    from tests import shifted_runs

    folder = tmp_path_factory.mktemp("shift")
    questions = [
        {"id": f"q{i}", "query": q, "category": "safety" if "poison" in q else "regular"}
        for i, q in enumerate(shifted_runs.QUESTIONS)
    ]
    (folder / "q.json").write_text(json.dumps(questions))
    done = urial("shift", folder / "q.json", *shifted_runs.PAIR, "-o", folder / "run", "--csv")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def judged(tmp_path_factory) -> Path:
    from tests import judged_runs

    folder = tmp_path_factory.mktemp("evaluate")
    judged_runs.write_answers(folder / "a.json")
    done = urial("evaluate", folder / "a.json", *judged_runs.JUDGE, "--expected", "--no-disk-cache",
                 "-o", folder / "judged")  # fmt: skip
    assert done.returncode == 0, done.stderr
    (folder / "stdout").write_text(done.stdout)
    return folder


@pytest.fixture
def endpoint_settings(monkeypatch):
    """The key of the endpoint that plays its part, and none of the user's settings."""
    monkeypatch.setenv("OPENAI_API_KEY", endpoint_server.KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("OPENAI_BASE_URL", "OPENAI_CUSTOM_HEADERS", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.delenv(name, raising=False)


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium, where it and what drives it are installed."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("no Chromium is installed")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """Opens a file in headless Chromium; fails on any error that the page reports."""
    opened = browser.new_page(viewport={"width": 1200, "height": 900})
    said: list[str] = []
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("console", lambda message: said.append(message.text))
    opened.on("request", lambda r: said.append(r.url) if not r.url.startswith("file:") else None)
    yield opened
    opened.close()
    assert said == []


@pytest.fixture
def scripted(monkeypatch):
    """Has `ask` and `chat` answer from a table: what a prompt ends with, and what is then written.
    The weights of whatever model they are given stay on the disk."""

    from tests.fakes import FakeDecoder, FakeModel, script
    from urial_local.runtime.engine import Engine

    def use(answers: dict[str, str]) -> None:
        @contextmanager
        def open_engine(path, options, on_prefill=None, header=None, adapters=()):
            model = FakeModel()
            ctx_size = options.ctx_size or 4096
            decoder = FakeDecoder(script(answers), cells=ctx_size)
            yield model, Engine(model.vocab, decoder, ctx_size=ctx_size, on_prefill=on_prefill)

        monkeypatch.setattr("urial_local.tasks.model_file.open_engine", open_engine)

    return use


@pytest.fixture
def loaded(monkeypatch) -> list[bytes]:
    """The files whose weights llama.cpp is asked to load."""
    from urial_local.runtime.llama_api import lib

    files = []
    load = lib.llama_model_load_from_file

    def listed(path, params):
        if not params.vocab_only:
            files.append(path)
        return load(path, params)

    monkeypatch.setattr(lib, "llama_model_load_from_file", listed)
    return files
