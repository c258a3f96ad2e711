"""`urial-local fit` over the embedded demo pair."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
from pathlib import Path

import pytest

from tests.command import COMMAND, fails, interrupted_at_rows, size_of, until, urial
from urial_local.base.paths import user_prompts_dir
from urial_local.prompting.library import load_prompt
from urial_local.records import runlog
from urial_local.records.runlog import RunLog
from urial_local.tasks.fit import job, plan
from urial_local.tasks.fitted import defaults_path, keep_default
from urial_local.tasks.model_file import model_file

ANIMALS = ("fox", "bear", "duck", "frog", "cat", "dog", "cow", "bee", "hen", "goat")
# Short prompts; one at a time, which has the same numbers always.
QUICK = ("-k", "0", "-np", "1", "-c", "700")
ONE_SHOT = ("-k", "1", "-np", "4", "-c", "700")


@pytest.fixture(autouse=True)
def few_candidates(monkeypatch):
    monkeypatch.setattr(job, "START", 4)


def write_probes(path: Path, queries, rule='any = ["lives"]') -> Path:
    text = 'kind = "facts"\nmax_tokens = 8\n'
    for number, query in enumerate(queries):
        text += (
            f"\n[[probes]]\nid = 'p{number}'\nquery = {json.dumps(query)}\nrule = {{ {rule} }}\n"
        )
    path.write_text(text)
    return path


@pytest.fixture
def probes(tmp_path) -> Path:
    return write_probes(tmp_path / "probes.toml", [f"Where does a {a} live?" for a in ANIMALS])


@pytest.fixture
def unknown(tmp_path) -> Path:
    """Questions that the demo model does not know; under its own prompt it says so."""
    queries = [f"Where is the house number {n}?" for n in range(10)]
    return write_probes(tmp_path / "unknown.toml", queries, 'any = ["house", "is"]')


def write_rows(path: Path, rows) -> Path:
    keys = ("id", "query", "answer")
    path.write_text(json.dumps([dict(zip(keys, row, strict=True)) for row in rows]))
    return path


@pytest.fixture
def answers(tmp_path) -> Path:
    rows = [
        (str(i), f"Where does a {a} live?", f"A {a} lives in forests. It eats mice.")
        for i, a in enumerate(ANIMALS)
    ]
    return write_rows(tmp_path / "answers.json", rows)


def fit(*args, model="demo"):
    done = urial("fit", model, *QUICK, *args)
    assert done.returncode == 0, done.stderr
    return done


def summary(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


def test_a_fit_by_probes_becomes_the_default(unknown, tmp_path):
    done = fit("--probes", unknown, "-o", tmp_path / "r")
    found = summary(tmp_path / "r")
    assert found["held_out"] == 5
    assert found["default"] == "urial-demo"
    assert "the best compared on 5 others" in done.stdout
    assert f"p = {found['p']:.3f}" in done.stdout
    assert found["difference"] > 0
    assert "prompts default demo --clear" in done.stderr
    listed = json.loads(urial("prompts", "list", "-m", "demo", "--json").stdout)
    assert [row["name"] for row in listed if row["default"]] == ["fit-demo"]
    own, kept = (load_prompt(str(p)) for p in (tmp_path / "r/prompt.toml",
                                               user_prompts_dir() / "fit-demo.toml"))  # fmt: skip
    assert own == kept
    assert kept.evidence["fingerprint"] == model_file("demo").fingerprint
    assert kept.evidence["held_out_questions"] == 5
    assert kept.evidence["score"] == pytest.approx(found["mean"], abs=1e-4)
    assert kept.evidence["default_score"] == pytest.approx(found["default_mean"], abs=1e-4)
    assert "fit-demo" in urial("ask", "-m", "demo", "-n", "1", "Hi").stderr
    assert "urial-demo" in urial("prompts", "default", "demo", "--clear").stdout


def test_no_default_and_json(unknown, tmp_path):
    done = fit("--probes", unknown, "-o", tmp_path / "r", "--no-default", "--json")
    found = json.loads(done.stdout)
    assert found == {**summary(tmp_path / "r"), "made_default": False}
    assert not defaults_path().exists()
    assert not user_prompts_dir().exists()
    assert str(tmp_path / "r" / "prompt.toml") in done.stderr


def test_a_fit_that_is_not_better_says_so(probes, tmp_path, monkeypatch):
    """Where the default is best, and where what was chosen is worse on held-out questions."""
    right = write_probes(
        tmp_path / "right.toml", [f"Where does a {a} live?" for a in ANIMALS], 'never = ["zebra"]'
    )
    done = fit("--probes", right, "-o", tmp_path / "same")
    assert "No other prompt was better" in done.stdout or "not better" in done.stdout
    monkeypatch.setattr(job.Outcome, "same", False)
    scores = {"held_out": ("p1", "p3"), "default_scores": (1.0, 1.0), "best_scores": (0.0, 1.0)}
    whole = job.Outcome.__init__

    def worse(self, *args):
        whole(self, *args[:3], *scores.values())

    monkeypatch.setattr(job.Outcome, "__init__", worse)
    done = fit("--probes", probes, "-o", tmp_path / "worse")
    assert "difference -50.0 %" in done.stdout
    assert "not better" in done.stdout
    assert "The default stays." in done.stderr
    assert not defaults_path().exists()


def test_answers_that_are_made_likely(answers, tmp_path):
    done = fit("--answers", answers, "-o", tmp_path / "r")
    found = summary(tmp_path / "r")
    assert found["objective"] == "likelihood"
    assert found["mean"] > found["default_mean"]
    assert found["mean"] < 0
    assert found["held_out"] == 5
    assert "nats a token" in done.stdout
    assert load_prompt("fit-demo").evidence["objective"] == "nats a token of given answers"
    default = {r["id"]: r["score"] for r in rows(tmp_path / "r") if r["name"] == "urial-demo"}
    held_out = set(default) - {str(i) for i in range(10)}
    assert not held_out
    assert len(default) == 10, "the default is scored on both halves"


@pytest.mark.parametrize(
    ("goal", "lines"),
    [
        ("answers", 23),
        *(pytest.param(*a, marks=pytest.mark.slow) for a in (("answers", 1), ("probes", 17))),
    ],
)
def test_a_run_that_was_cut_comes_to_the_same(goal, lines, probes, answers, tmp_path):
    args = (f"--{goal}", {"probes": probes, "answers": answers}[goal], "--no-default")
    whole = fit(*args, "-o", tmp_path / "whole")
    fit(*args, "-o", tmp_path / "cut")
    path = tmp_path / "cut" / "rows.jsonl"
    there = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(there[:lines]) + there[lines][:20])  # the last one torn
    (tmp_path / "cut" / "prompt.toml").unlink()
    again = fit(*args, "-o", tmp_path / "cut")
    assert f"{lines} score" in again.stderr
    assert again.stdout == whole.stdout
    assert summary(tmp_path / "cut") == summary(tmp_path / "whole")
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")
    for name in ("whole", "cut"):
        assert (tmp_path / name / "prompt.toml").read_text().startswith('name = "fit-demo"')


def test_the_same_command_again_asks_nothing_new_once_it_is_the_default(answers, tmp_path):
    first = fit("--answers", answers, "-o", tmp_path / "r")
    assert defaults_path().exists()
    before = (tmp_path / "r" / "rows.jsonl").read_bytes()
    again = fit("--answers", answers, "-o", tmp_path / "r")
    assert again.stdout == first.stdout
    assert (tmp_path / "r" / "rows.jsonl").read_bytes() == before


def test_an_aligned_models_answers(probes, tmp_path):
    args = ("--probes", probes, "--aligned", "demo-aligned", "-o", tmp_path / "r", "--no-default")
    first = fit(*args)
    assert summary(tmp_path / "r")["objective"] == "likelihood"
    made = rows(tmp_path / "r" / "answers")
    assert {row["id"] for row in made} == {f"p{i}" for i in range(10)}
    assert fit(*args).stdout == first.stdout
    assert rows(tmp_path / "r" / "answers") == made, "they are made once"


def test_a_pools_examples_are_tried(answers, tmp_path):
    """The pool holds what the answers look like, and one of the scored questions."""
    pool = write_rows(
        tmp_path / "pool.json",
        [
            ("1", "Where does a wolf live?", "A wolf lives in forests. It eats mice."),
            ("2", "where does a FOX live", "A fox lives in forests. It eats mice."),
            ("3", "Why?", "Short."),
        ],
    )
    done = urial(
        "fit", "demo", *ONE_SHOT, "--answers", answers, "--pool", pool, "-o", tmp_path / "r"
    )
    assert done.returncode == 0, done.stderr
    assert "1 of the pool's 3 examples can be used" in done.stderr
    prompt = load_prompt(str(tmp_path / "r" / "prompt.toml"))
    assert len(prompt.examples) <= 1
    assert "fox" not in prompt.prefix()


def test_a_scored_question_is_no_example(tmp_path):
    """A prompt of the user's own has one probe as an example: that probe is not asked."""
    queries = [f"Where does a {a} live?" for a in ANIMALS]
    user_prompts_dir().mkdir(parents=True)
    own = user_prompts_dir() / "mine.toml"
    own.write_text("name = 'mine'\n[[examples]]\nquery = 'Where does a FOX live'\nanswer = 'Here.'")
    found = write_probes(tmp_path / "p.toml", queries)
    done = urial("fit", "demo", *ONE_SHOT, "--probes", found, "-o", tmp_path / "r",
                 "--no-default")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "1 probe is left out" in done.stderr
    assert "p0" not in {row["id"] for row in rows(tmp_path / "r")}


def test_a_chosen_default_is_what_a_fit_is_held_against(probes, tmp_path):
    keep_default(model_file("demo").fingerprint, "zero-shot")
    fit("--probes", probes, "-o", tmp_path / "r", "--no-default")
    assert summary(tmp_path / "r")["default"] == "zero-shot"


@pytest.mark.slow
def test_malformed_prompts_of_the_users_own_are_passed_over(probes, tmp_path):
    folder = user_prompts_dir()
    folder.mkdir(parents=True)
    (folder / "a.toml").write_text("[[")
    (folder / "b.toml").write_text("frame = 'gone.jinja'")
    (folder / "c.toml").write_text("[sampling]\ntemperature = -3.0")
    (folder / "frame.jinja").write_text(
        "{#-\nfence = '```'\n-#}\n{% block turn %}{% endblock %}{% block request %}{% endblock %}"
    )
    (folder / "d.toml").write_text(
        "frame = 'frame.jinja'\n[[examples]]\nquery = 'Q'\nanswer = 'An answer.'"
    )
    done = urial("fit", "demo", *ONE_SHOT, "--probes", probes, "-o", tmp_path / "r",
                 "--no-default")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert {"a", "b", "c", "d"}.isdisjoint({row["name"] for row in rows(tmp_path / "r")})


def test_what_changes_the_scores_is_refused(probes, answers, tmp_path):
    fit("--probes", probes, "-o", tmp_path / "r", "--no-default")
    args = ("fit", "demo", *QUICK, "-o", tmp_path / "r")
    assert "objective" in fails(2, *args, "--answers", answers)
    assert "seed" in fails(2, *args, "--probes", probes, "-s", "1")
    write_probes(probes, [f"Where is a {a}?" for a in ANIMALS])
    assert "questions" in fails(2, *args, "--probes", probes)


@pytest.mark.slow
def test_another_pool_is_refused(answers, tmp_path):
    pool = write_rows(tmp_path / "pool.json", [("1", "Where is it?", "It is in the green forest.")])
    args = ("demo", *ONE_SHOT, "--answers", answers, "--pool", pool, "-o", tmp_path / "r")
    assert urial("fit", *args, "--no-default").returncode == 0
    write_rows(pool, [("1", "Where is it?", "It is in the cold forest.")])
    assert "examples" in fails(2, "fit", *args)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--aligned", "demo-aligned", "--answers", "x.json"), "two goals"),
        (("--probes", "x.toml", "--answers", "x.json"), "unasked"),
        (("--answers", "few.json"), "needs 8 answers at least"),
        (("--answers", "bare.json"), "needs 8 answers at least"),
        (("--pool", "bare.json"), "none can be an example"),
        (("--probes", "few.toml"), "needs 8 probes at least"),
        (("--budget", "0"), "0"),
        (("-k", "9"), "9"),
    ],
)
def test_too_little_or_too_much(args, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_rows(Path("few.json"), [(str(i), f"Why {i}?", "So.") for i in range(7)])
    Path("bare.json").write_text('[{"query": "Why?"}]')
    write_probes(Path("few.toml"), ["One?", "Two?", "Three?"])
    assert said in fails(2, "fit", "demo", "-o", "r", *args)
    assert not Path("r", "run.json").exists()


def test_a_folder_of_another_run_is_refused_before_anything_is_made(generated, probes):
    args = ("demo", "--probes", probes, "--aligned", "demo-aligned", "-o", generated / "run")
    assert "holds a run of generate" in fails(2, "fit", *args)
    assert not (generated / "run" / "answers").exists()


def test_an_aligned_model_without_a_template(tiny_llama, probes, tmp_path):
    args = ("demo", "--probes", probes, "--aligned", tiny_llama, "-o", tmp_path / "r")
    assert "carries no chat template" in fails(2, "fit", *args)


def test_two_processes(probes, tmp_path):
    with RunLog(tmp_path / "r", {"task": "fit"}, job.KEY):
        said = fails(1, "fit", "demo", *QUICK, "--probes", probes, "-o", tmp_path / "r")
    assert "Another process is writing" in said


def test_a_damaged_row_is_named(probes, tmp_path):
    fit("--probes", probes, "-o", tmp_path / "r", "--no-default")
    path = tmp_path / "r" / "rows.jsonl"
    path.write_text(path.read_text().replace('"score":', '"scare":', 1))
    said = fails(1, "fit", "demo", *QUICK, "--probes", probes, "-o", tmp_path / "r")
    assert "line 1: score is missing" in said


def test_a_result_that_cannot_be_kept_is_shown_all_the_same(answers, tmp_path, own_folders):
    (own_folders / "config").write_text("")  # no folder can be made there
    done = urial("fit", "demo", *QUICK, "--answers", answers, "-o", tmp_path / "r", "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["made_default"] is False
    assert "cannot be written" in done.stderr
    assert "prompt.toml" in done.stderr


def test_malformed_settings_are_not_written_over(answers, tmp_path):
    defaults_path().parent.mkdir(parents=True)
    defaults_path().write_text("{")
    done = urial("fit", "demo", *QUICK, "--answers", answers, "-o", tmp_path / "r")
    assert done.returncode == 2
    assert "malformed" in done.stderr
    assert defaults_path().read_text() == "{"


def test_a_full_disk_at_the_end(answers, tmp_path, monkeypatch):
    whole = runlog.write_json

    def full(path, value):
        if path.name == "summary.json":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        whole(path, value)

    monkeypatch.setattr(runlog, "write_json", full)
    said = fails(1, "fit", "demo", *QUICK, "--answers", answers, "-o", tmp_path / "r")
    assert "No space left" in said
    monkeypatch.undo()
    assert not defaults_path().exists()


def test_a_file_of_an_odd_name(answers, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "my $model 'x'.gguf"
    path.write_bytes(model_file("demo").path.read_bytes())
    keep_default(model_file("demo").fingerprint, "urial-demo")
    done = fit("--answers", answers, model=path.name)
    name = "fit-my__model__x_"
    assert load_prompt(name).name == name
    assert Path(name, "prompt.toml").exists()
    listed = json.loads(urial("prompts", "list", "-m", path.name, "--json").stdout)
    assert [row["name"] for row in listed if row["default"]] == [name]
    assert r"""prompts default 'my $model '"'"'x'"'"'.gguf' --clear""" in done.stderr


@pytest.mark.parametrize("kind", ["tiny_llama", "tiny_mamba", "tiny_windowed"])
def test_models_of_all_kinds(kind, answers, probes, tmp_path, request):
    path = request.getfixturevalue(kind)
    for goal, data in (("answers", answers), ("probes", probes)):
        out = tmp_path / goal
        done = urial("fit", path, *QUICK, f"--{goal}", data, "-o", out, "--no-default")
        assert done.returncode == 0, done.stderr
        assert summary(out)["held_out"] == 5


def test_a_budget_of_next_to_nothing(probes, tmp_path):
    fit("--probes", probes, "-o", tmp_path / "r", "--budget", "1e-9")
    found = summary(tmp_path / "r")
    assert found["held_out"] == 5
    assert len(rows(tmp_path / "r")) == 10, "the default, on both halves"
    assert found["verdict"] == "not better"
    assert not defaults_path().exists()


def test_the_shipped_probes_have_two_halves():
    from urial_local.tasks.benchmark.probes import load_probes

    probes = load_probes()
    found = plan.plan(model_file("demo"), plan.FitOptions(), probes)
    tuning, held_out = found.halves()
    assert sorted(tuning + held_out) == sorted(p.id for p in probes), "none is an example"
    assert not set(tuning) & set(held_out)
    kinds = {p.id: p.kind for p in probes}
    for half in (tuning, held_out):
        assert {kinds[name] for name in half[:12]} == set(kinds.values())


@pytest.mark.slow
def test_ctrl_c_keeps_the_scores(probes, tmp_path):
    args = ("fit", "demo", "-k", "3", "-np", "2", "--probes", probes, "-o", tmp_path / "r")
    code, said = interrupted_at_rows(tmp_path / "r" / "rows.jsonl", *args)
    assert code == 130
    assert "Run the same command again" in said
    assert rows(tmp_path / "r")
    assert not (tmp_path / "r" / "summary.json").exists()
    assert not defaults_path().exists()


@pytest.mark.slow
def test_ctrl_c_while_the_aligned_model_answers(probes, tmp_path):
    folder = tmp_path / "r"
    args = ("fit", "demo", *QUICK, "--probes", probes, "--aligned", "demo-aligned", "-o", folder)
    code, said = interrupted_at_rows(folder / "answers" / "rows.jsonl", *args)
    assert code == 130
    assert "Run the same command again" in said
    assert not (folder / "run.json").exists()
    done = urial(*args, "--no-default")
    assert done.returncode == 0, done.stderr
    assert len(rows(folder / "answers")) == 10


@pytest.mark.slow
def test_a_second_ctrl_c_stops_at_once(answers, tmp_path):
    path = tmp_path / "r" / "rows.jsonl"
    child = subprocess.Popen(
        [*COMMAND, "fit", "demo", "-k", "3", "--answers", str(answers), "-o", str(path.parent)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        until(lambda: size_of(path), child)
        child.send_signal(signal.SIGINT)
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=60)
    finally:
        child.kill()
        child.communicate()
    assert child.returncode == 130
    assert b"Traceback" not in said
