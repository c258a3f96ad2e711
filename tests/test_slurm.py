"""`urial-local slurm`: its script under a stand-in for Slurm, and what `merge` says of shards."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys

import pytest

from tests.command import COMMAND, fails, interrupted_at_rows, size_of, until, urial
from tests.generated_runs import THINGS, rows_of
from tests.slurm_cluster import Cluster, lose
from tests.test_generate import endless
from urial_local.base.errors import UsageError
from urial_local.records.merge import command_for, merge_runs
from urial_local.records.runlog import RunLog
from urial_local.records.runs import read_run
from urial_local.tasks.slurm import SlurmJob, script

HOSTILE = 'a\'b $(touch pwned) `touch pwned` "c" ; touch pwned #\nEOF\n#SBATCH --wrap=touch'
ECHO = [sys.executable, "-c", "import sys, json; print(json.dumps(sys.argv[1:]), file=sys.stderr)"]


def printed(*args) -> str:
    done = urial("slurm", *args)
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- the script ----------------------------------------------------------------------------------


def test_every_line_for_slurm_is_ours_and_bash_reads_the_script():
    text = printed(
        *("--shards", "16", "--time", "4:00:00", "--cpus", "8", "--gpus", "1", "--mem", "32G"),
        *("--partition", "gpu", "--array-limit", "4", "--sbatch", "--account=lab", "--"),
        *("generate", HOSTILE, "--stop", HOSTILE, "-o", HOSTILE),
    )
    lines = text.split("\n\nmake_shard")[0].splitlines()
    assert [line for line in lines if line.startswith("#SBATCH")] == [
        "#SBATCH --job-name=urial",
        "#SBATCH --array=1-16%4",
        "#SBATCH --requeue",
        "#SBATCH --signal=B:TERM@60",
        "#SBATCH --open-mode=append",
        "#SBATCH --output=urial-%A_%a.log",
        "#SBATCH --time=4:00:00",
        "#SBATCH --cpus-per-task=8",
        "#SBATCH --gpus=1",
        "#SBATCH --mem=32G",
        "#SBATCH --partition=gpu",
        "#SBATCH --account=lab",
    ]
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)


def test_slurm_reads_no_line_of_a_users_text():
    """sbatch looks for #SBATCH until the first command: none of ours stands below it."""
    text = script(SlurmJob(2), ["x"], ["generate", HOSTILE], HOSTILE)
    head, _, body = text.partition("make_shard() {")
    assert "touch" not in head
    assert "make_shard" not in head
    assert "#SBATCH --wrap=touch" in body, "inside quotes, below the first command"


def test_hostile_names_reach_the_command_as_they_are(tmp_path):
    text = script(SlurmJob(2), ECHO, ["generate", HOSTILE, "--stop", HOSTILE], HOSTILE)
    cluster = Cluster(tmp_path, text)
    job = cluster.start(2)
    assert json.loads(job.communicate()[1]) == [
        *("generate", "--shard", "2/2", "-o", f"{HOSTILE}-shards/2-of-2"),
        *(HOSTILE, "--stop", HOSTILE),
    ]
    array, merge = cluster.submit()
    assert array[0] == ["--parsable", "run.sh"]
    assert "--dependency=afterany:700" in merge[0]
    done = cluster.merge(merge[1])
    folders = [f"{HOSTILE}-shards/{i}-of-2" for i in (1, 2)]
    assert json.loads(done.stderr) == ["merge", *folders, "-o", HOSTILE]
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("words", "head", "rest"),
    [
        (["generate", "--", "-q.txt"], "generate", "-- -q.txt"),
        (["evaluate", "run/", "--judge", "j"], "evaluate run", "run/ --judge j"),
        (["evaluate", "run", "run", "--judge", "j"], "evaluate run", "run --judge j"),
    ],
)
def test_where_the_shard_stands(words, head, rest):
    text = script(SlurmJob(3), ["urial-local"], words, "-out/")
    assert f"""exec urial-local {head} --shard "$1/3" -o ./-out-shards/"$1-of-3" {rest}\n""" in text
    assert f"URIAL_{head.upper().replace(' ', '_')}_THREADS" in text


@pytest.mark.parametrize(
    "more",
    [
        {"time": "1:00:00\n#SBATCH --wrap=x"},
        {"mem": "32 G"},
        {"partition": "a b"},
        {"more": ("--comment=a b",)},
        {"more": ("-A lab",)},
        {"more": ("--array=1-2",)},
    ],
)
def test_what_sbatch_would_misread_is_refused(more):
    with pytest.raises(UsageError):
        script(SlurmJob(2, **more), ["x"], ["generate", "q"], "run")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("sweep", "q.txt", "-m", "x", "-o", "r"), "'sweep' cannot run in shards"),
        (("generate", "q.txt", "-o", "r", "--shard", "1/2"), "adds --shard"),
        (("generate", "-", "-o", "r"), "no standard input"),
        (("evaluate", "summarize", "r"), "cannot run in shards"),
        (("evaluate", "r", "--judge", "j"), "needs -o FOLDER"),
        (("generate", "q.txt"), "Missing option '-o'"),
        (("generate", "q.txt", "-o", "r", "--no-such"), "No such option"),
        (("generate", "q.txt", "-or"), "Write it as -o FOLDER"),
    ],
)
def test_what_cannot_be_sharded_is_told_before_anything_is_submitted(words, said):
    assert said in fails(2, "slurm", "--", *words)


def test_an_options_value_is_not_taken_for_the_output():
    text = printed("--", "generate", "q", "--stop", "-o", "--output=run", "-n", "4")
    assert "q --stop -o -n 4\n" in text
    assert "merge" in text


# --- jobs ----------------------------------------------------------------------------------------


def test_sigterm_finishes_the_rows_in_hand(tiny_endless, tmp_path):
    args = endless(tiny_endless, tmp_path)
    code, said = interrupted_at_rows(tmp_path / "run" / "rows.jsonl", *args, number=signal.SIGTERM)
    assert code == 75, said
    assert "Run the same command again" in said
    rows = rows_of(tmp_path / "run")
    assert all(r["completion_tokens"] == 40 for r in rows.values()), "no row is cut short"
    assert read_run(tmp_path / "run").sessions[-1].finished is False


@pytest.mark.parametrize(("restarts", "requeued"), [(0, ["requeue 700_1"]), (20, [])])
def test_a_shard_goes_back_into_the_queue_so_many_times(tmp_path, restarts, requeued):
    text = script(SlurmJob(1), ["bash", "-c", "exit 75"], ["generate", "q"], "run")
    cluster = Cluster(tmp_path, text)
    job = cluster.start(1, restarts)
    said = job.communicate()[1].decode()
    assert job.returncode == 75
    assert cluster.requeued() == requeued
    assert ("rows are missing" in said) == (not requeued)


@pytest.mark.slow
def test_shards_that_are_stopped_lost_and_requeued_make_the_single_run(tmp_path):
    """One shard gets SIGTERM as before its time is up, one loses its node; then all are merged."""
    path = tmp_path / "q.txt"
    path.write_text("".join(f"Where can I find a {t} {i}?\n" for i in range(16) for t in THINGS))
    args = ("-m", "demo", "--exact", "-n", "12")
    done = urial("generate", path, *args, "-o", tmp_path / "single")
    assert done.returncode == 0, done.stderr
    cluster = Cluster(
        tmp_path, printed("--shards", "3", "--", "generate", path, *args, "-o", "run")
    )
    shards = [tmp_path / "run-shards" / f"{i}-of-3" for i in (1, 2, 3)]
    _, (_, merge) = cluster.submit()

    stopped, lost = cluster.start(1), cluster.start(2)
    until(lambda: size_of(shards[0] / "rows.jsonl"), stopped)
    stopped.send_signal(signal.SIGTERM)
    assert b"Finishing rows in flight" in stopped.communicate()[1]
    assert stopped.returncode == 75
    assert cluster.requeued() == ["requeue 700_1"]
    until(lambda: size_of(shards[1] / "rows.jsonl"), lost)
    lose(lost)
    said = cluster.merge(merge)
    assert said.returncode == 75
    assert "Missing: shard 3/3." in said.stderr
    for i, shard in enumerate(shards, 1):
        assert f"--shard {i}/3 -o run-shards/{i}-of-3" in said.stderr, shard
    # As the message says, and as Slurm does of its own where a node is lost.
    for i in (1, 2, 3):
        job = cluster.start(i, restarts=1)
        said = job.communicate()[1]
        assert job.returncode == 0, said
    done = cluster.merge(merge)
    assert done.returncode == 0, done.stderr
    assert rows_of(tmp_path / "run") == rows_of(tmp_path / "single")
    assert rows_of(tmp_path / "run"), "and there are some"


# --- what merge says -----------------------------------------------------------------------------


def shard(folder, name: str, finished: bool, command: str = "") -> None:
    config = {"task": "generate", "model": {"name": "m"}, "shard": name}
    with RunLog(folder, config, ("id",)) as log:
        log.append({"id": name, "number": 0})
        log._info["sessions"][-1]["command"] = command
        if finished:
            log.end_session(rows=1)


def test_unfinished_shards_are_told_from_finished_ones(tmp_path):
    shard(tmp_path / "1-of-2", "1/2", True)
    shard(tmp_path / "2-of-2", "2/2", False)
    parts = [tmp_path / f"{i}-of-2" for i in (1, 2)]
    merged = merge_runs(tmp_path / "whole", parts, ("id",))
    assert [info.shard for info in merged.unfinished] == ["2/2"]
    shard(parts[1], "2/2", True)
    assert merge_runs(tmp_path / "whole", parts, ("id",)).unfinished == ()
    for part in parts:  # as an earlier release wrote them
        info = json.loads((part / "run.json").read_text())
        for session in info["sessions"]:
            del session["finished"]
        (part / "run.json").write_text(json.dumps(info))
    assert merge_runs(tmp_path / "whole", parts, ("id",)).unfinished == ()


def test_what_is_to_be_run_is_told_in_shell_words(tmp_path):
    command = shlex.join(["urial-local", "generate", HOSTILE, "--shard", "1/3", "-o", "x"])
    shard(tmp_path / "a", "1/3", True, command)
    told = command_for(read_run(tmp_path / "a"), "2/3", tmp_path / "b c")
    expected = ["urial-local", "generate", HOSTILE, "--shard", "2/3", "-o", str(tmp_path / "b c")]
    assert shlex.split(told) == expected
    shard(tmp_path / "b", "2/3", True, "rm -rf /")
    assert command_for(read_run(tmp_path / "b"), "2/3", tmp_path) == "", "no command of ours"


def test_the_command_is_there(tmp_path):
    """As a program of its own, since the script has to name how it was started."""
    done = subprocess.run(
        [*COMMAND, "slurm", "--", "generate", "q", "-o", "r"], capture_output=True, text=True
    )
    assert f"{shlex.join(COMMAND)} generate" in done.stdout
