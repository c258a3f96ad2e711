"""Models with adapters under commands, servers and programs: templates of their own, scales as an
axis, and weights once in memory for all models of a run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import urial_local
from tests.adapters import write_lora, write_vector
from tests.command import fails, urial
from tests.tiny_gguf import PLAIN_CHAT, write_llama
from urial_local.base.errors import PromptError, UsageError
from urial_local.cli.sweep import at_scales
from urial_local.records.generated import Generated, ModelFacts
from urial_local.records.runs import latest_rows
from urial_local.records.typed import read_as
from urial_local.tasks.benchmark.usage import _model as named_again
from urial_local.tasks.generate.job import KEY
from urial_local.tasks.generate.setup import GenerateOptions
from urial_local.tasks.guide import KEYS
from urial_local.tasks.model_file import model_file
from urial_local.tasks.prompt_choice import choose_prompt

SHORT = ("-n", "6", "-t", "1")


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return write_llama(tmp_path_factory.mktemp("base") / "base.gguf", seed=5, context=1024)


@pytest.fixture(scope="module")
def lora(base) -> Path:
    return write_lora(base.with_name("lora.gguf"), base)


@pytest.fixture(scope="module")
def template(base) -> Path:
    path = base.with_name("chat.jinja")
    path.write_text("{# given #}" + PLAIN_CHAT.replace("assistant:", "<answer>"))
    return path


def answers(folder: Path) -> dict[str, str]:
    return {row.id: row.answer for row in latest_rows(folder, KEY, Generated.read)}


def test_a_template_from_a_file(base, lora, template):
    """In place of the model's own, in every way of asking; it is part of a run's description."""
    name = f"{base}+{lora}"
    plain, given = model_file(name), model_file(name, chat_template=str(template))
    assert choose_prompt(given).certain.name == "chat"
    assert plain.aligned_prompt is None
    assert given.aligned_prompt == "chat"
    assert given.fingerprint == plain.fingerprint, "the weights are the same"
    assert given.about() == {**plain.about(), "chat_template": given.template_sha}
    with urial_local.load(name, chat_template=str(template), threads=1) as assistant:
        assert assistant.render("Why?").text == "<s>user: Why?\n<answer>"
    demo = model_file("demo-aligned", chat_template=str(template))
    assert choose_prompt(demo).certain.frame.name == "chat"
    assert demo.chat_template == template.read_text()


def test_a_benchmark_asks_the_aligned_model_in_the_template(base, lora, template):
    from urial_local.tasks.benchmark import setup

    options = GenerateOptions(chat_template=str(template))
    asked = {"models": (str(base),), "prompts": ("zero-shot",), "kinds": ("facts",)}
    adapted = f"{base}+{lora}"
    found = setup.plan(setup.BenchmarkOptions(**asked, aligned=adapted, generate=options))
    assert [bool(cell.plan.file.template_sha) for cell in found.cells] == [False, True]
    assert found.cells[1].plan.prompt.certain.name == "chat"
    for wrong in ({"generate": options}, {"aligned": adapted}):
        with pytest.raises(UsageError):
            setup.plan(setup.BenchmarkOptions(**asked, **wrong))


def test_templates_are_bounded_and_tried(base, tmp_path):
    bad = tmp_path / "t.jinja"
    args = ("ask", "-m", base, "--chat-template", bad, "Why?")
    assert "The chat template" in fails(1, *args)
    bad.write_text(" \n")
    assert "is empty" in fails(1, *args)
    bad.write_text("{{ bos_token }}nothing")
    assert "leaves out the question" in fails(1, *args)
    bad.write_text("{{ ().__class__.__bases__ }}")
    assert fails(1, *args)
    bad.write_text("x" * (300 << 10))
    assert "is larger than" in fails(1, *args)
    with pytest.raises(PromptError, match="cannot be read"):
        urial_local.load(str(base), chat_template="/dev/zero")


def test_a_run_is_not_gone_on_with_under_another_template(base, lora, template, tmp_path):
    (tmp_path / "q.txt").write_text("the rain\n")
    args = ("generate", tmp_path / "q.txt", "-m", f"{base}+{lora}", "-o", tmp_path / "run", *SHORT)
    done = urial(*args, "--chat-template", template)
    assert done.returncode == 0, done.stderr
    config = json.loads((tmp_path / "run/run.json").read_text())["config"]
    assert config["prompt"]["name"] == "chat"
    assert config["model"]["adapters"][0]["kind"] == "lora"
    other = tmp_path / "other.jinja"
    other.write_text(template.read_text() + " ")
    assert "chat_template" in fails(2, *args, "--chat-template", other)
    said = fails(2, *(f"{base}+{lora}@0.5" if a == f"{base}+{lora}" else a for a in args),
                 "--chat-template", template)  # fmt: skip
    assert "adapters" in said


def test_scales_are_an_axis_of_a_sweep(base, lora, tmp_path):
    (tmp_path / "q.txt").write_text("the rain\nthe sea\n")
    args = ("sweep", tmp_path / "q.txt", "-m", f"{base}+{lora}@2", "-m", base, "-p", "zero-shot",
            "--scales", "0,0.25,1", *SHORT, "-np", "1", "-o", tmp_path / "runs")  # fmt: skip
    done = urial(*args)
    assert done.returncode == 0, done.stderr
    runs = tmp_path / "runs"
    names = {path.name for path in runs.iterdir() if path.is_dir()}
    stems = {"base", "base+lora@0", "base+lora@0.5", "base+lora@2"}
    assert names == {f"{stem}__zero-shot" for stem in stems}
    at = {stem: answers(runs / f"{stem}__zero-shot") for stem in stems}
    assert at["base+lora@0"] == at["base"]
    assert at["base+lora@2"] != at["base"]
    config = json.loads((runs / "base+lora@0.5__zero-shot/run.json").read_text())["config"]
    assert config["model"]["adapters"][0]["scale"] == 0.5
    assert "needs a model with an adapter" in fails(
        2, "sweep", tmp_path / "q.txt", "-m", base, "--scales", "1", "-o", tmp_path / "no"
    )


def test_what_to_type_to_ask_a_cells_model(base, lora, tmp_path):
    """Files are called as they are, wherever they lie now."""
    vector = write_vector(tmp_path / "v.gguf", {1: np.ones(64)})
    for name, expected in (
        (f"{base}+{lora}@0.25+cvec:{vector}", "base.gguf+lora.gguf@0.25+cvec:v.gguf"),
        (str(base), "base.gguf"),
        ("demo", "demo"),
    ):
        assert named_again(read_as(ModelFacts, model_file(name).about())) == expected


def test_scales_are_factors():
    assert at_scales(["a.gguf+b.gguf+cvec:c.gguf@-2", "d"], [0.5]) == [
        "a.gguf+b.gguf@0.5+cvec:c.gguf@-1",
        "d",
    ]
    assert at_scales(["d"], None) == ["d"]
    with pytest.raises(UsageError):
        at_scales(["d"], [1.0])


def test_a_guide_with_an_adapter_shares_the_weights(base, lora, loaded):
    """Where the base is surely unsure, the guide writes: its answer is the adapted model's."""
    name = f"{base}+{lora}"
    question = "the rain"
    keep = {"prompt": "zero-shot", "max_tokens": 8, "threads": 1}
    with urial_local.load(name, **keep) as alone:
        expected = alone.complete(question).tokens
    with urial_local.load(str(base), **keep) as alone:
        assert alone.complete(question).tokens != expected
    del loaded[:]
    guided = {"guide": name, "guide_rule": "nudge", "gamma": 1.0}
    with urial_local.load(str(base), **keep, **guided) as assistant:
        assert assistant.complete(question).tokens == expected
        assert assistant.about()["guide_model"]["model"]["name"] == "base+lora"
    assert loaded == [bytes(base)]


def test_a_served_pair_shares_the_weights(base, lora, template, loaded):
    from urial_local.cli.plumbing.serving import lane_plans
    from urial_local.runtime.open import RuntimeOptions
    from urial_local.server.lanes import open_lanes

    options = {"model": str(base), "aligned": f"{base}+{lora}@0.5", "prompt": "zero-shot",
               "frame": None, "chat_template": str(template), "parallel": 2, "exact": False,
               "markers": "escape", **dict.fromkeys(("guide", *KEYS))}  # fmt: skip
    plans = lane_plans(options, RuntimeOptions(ctx_size=128, threads=1))
    assert [plan.name for plan in plans] == ["base", "base+lora@0.5"]
    with open_lanes(plans) as lanes:
        assert loaded == [bytes(base)]
        assert [lane.default.name for lane in lanes] == ["zero-shot", "chat"]
        asked = [lane.asker().request("the rain") for lane in lanes]
        first, second = (
            lane.engine.complete([request])[0].tokens
            for lane, request in zip(lanes, [asked[0], asked[0]], strict=True)
        )
        assert first != second
    alone = {**options, "aligned": None}
    (plan,) = lane_plans({**alone, "prompt": None}, RuntimeOptions(ctx_size=128))
    assert plan.choice.certain.name == "chat", "the only model's"


def test_the_demo_with_an_adapter(tmp_path, loaded):
    """Its base keeps its prompt, and shift asks how the adapter was trained."""
    adapter = write_lora(
        tmp_path / "a.gguf", model_file("demo").path, architecture=_architecture("demo"),
        names=("blk.0.attn_q.weight", "blk.1.ffn_down.weight"), size=0.5,
    )  # fmt: skip
    done = urial("ask", "-m", f"demo+{adapter}@0.3", "--json", "Where can I find a fox?", *SHORT)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["prompt"]["name"] == "urial-demo"
    assert said["model"]["name"].endswith("+ a@0.3")
    (tmp_path / "q.txt").write_text("Where can I find a fox?\n")
    args = ("shift", tmp_path / "q.txt", "--base", "demo", "--aligned", f"demo+{adapter}")
    said = fails(2, *args, "-o", tmp_path / "run")
    assert "--aligned-prompt" in said
    assert "--chat-template" in said
    chat = tmp_path / "chat.jinja"
    chat.write_text(model_file("demo-aligned").chat_template)
    del loaded[:]
    done = urial(*args, "--chat-template", chat, "-o", tmp_path / "run", *SHORT)
    assert done.returncode == 0, done.stderr
    assert len(loaded) == 1
    config = json.loads((tmp_path / "run/run.json").read_text())["config"]
    assert config["aligned"][0]["name"] == "demo+a"
    assert config["aligned"][0]["prompt"] == "chat"
    assert len(config["aligned"][0]["chat_template"]) == 64


def _architecture(name: str) -> str:
    return model_file(name).header.architecture
