"""Writes the script that makes a run in shards under Slurm.

As a job of an array the script makes one shard, hands SIGTERM on so that rows in flight are
finished, and puts itself back into the queue where rows are left. Started with bash it submits
itself as that array, and a job that merges the shards once all of them have ended. What a user
wrote stands in it in shell quotes only, never in a line that Slurm reads.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from urial_local.base.errors import UsageError

TIME = re.compile(r"[0-9]{1,4}(-[0-9]{1,2})?(:[0-9]{1,2}){0,2}")  # as sbatch reads it
MEMORY = re.compile(r"[0-9]{1,9}[KMGT]?")
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,-]{0,99}")
OPTION = re.compile(r"--[a-z][a-z-]{1,40}(=[A-Za-z0-9_./:,@%+*&|\[\]-]{1,200})?")
# What the script itself depends on.
OURS = ("array", "requeue", "no-requeue", "signal", "wrap", "dependency", "parsable", "chdir")


@dataclass(frozen=True, slots=True)
class SlurmJob:
    """What each shard's job asks Slurm for; None and "" leave it to the cluster."""

    shards: int
    time: str = ""
    cpus: int | None = None
    gpus: int | None = None
    mem: str = ""
    partition: str = ""
    array_limit: int | None = None  # jobs at the same time
    grace: int = 60  # seconds from SIGTERM to the end
    restarts: int = 20  # times that one shard goes back into the queue
    more: tuple[str, ...] = ()  # further options of sbatch


def checked(job: SlurmJob) -> SlurmJob:
    """The same job. Raises UsageError for what sbatch would not take, or misread."""
    for name, value, form, example in (
        ("time", job.time, TIME, "12:00:00"),
        ("mem", job.mem, MEMORY, "32G"),
        ("partition", job.partition, NAME, "gpu"),
    ):
        if value and not form.fullmatch(value):
            raise UsageError(
                f"`{name}` {value!r} is not a form that Slurm reads.", f"Write it like {example}."
            )
    for option in job.more:
        if not OPTION.fullmatch(option):
            raise UsageError(
                f"{option!r} is not an option of sbatch.", "Write it like --account=lab."
            )
        if option[2:].partition("=")[0] in OURS:
            raise UsageError(f"{option} is set by this script itself.")
    return job


def script(job: SlurmJob, program: Sequence[str], words: Sequence[str], output: str) -> str:
    """The script. `program` starts urial-local; `words` are the command without its output."""
    checked(job)
    if output.startswith("-"):
        output = f"./{output}"
    merged = output.rstrip("/") or output
    folders = shlex.quote(f"{merged}-shards/")
    of = f"-of-{job.shards}"
    start, (head, tail) = shlex.join(program), names(words)
    threads = "_".join(("URIAL", *head, "THREADS")).upper()
    array = f"1-{job.shards}" + (f"%{job.array_limit}" if job.array_limit else "")
    asked = [
        ("--time", job.time),
        ("--cpus-per-task", job.cpus),
        ("--gpus", job.gpus),
        ("--mem", job.mem),
        ("--partition", job.partition),
    ]
    lines = [f"#SBATCH {name}={value}" for name, value in asked if value]
    lines += [f"#SBATCH {option}" for option in job.more]
    merging = [f"{name}={value}" for name, value in asked if value and name not in _OF_SHARDS]
    merging += [option for option in job.more if not option.startswith(("--gpus", "--gres"))]
    return _SCRIPT.format(
        array=array,
        grace=job.grace,
        asked="".join(f"{line}\n" for line in lines),
        head=shlex.join(head),
        tail=shlex.join(tail),
        program=start,
        shards=job.shards,
        folders=folders,
        of=of,
        merged=shlex.quote(merged),
        threads=threads,
        restarts=job.restarts,
        merging=" ".join(shlex.quote(one) for one in merging),
    )


_OF_SHARDS = ("--gpus", "--cpus-per-task")  # which the merge does without


def names(words: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """The words that name the command, and the rest. `evaluate` has `run` for its default."""
    if words[0] != "evaluate":
        return words[:1], words[1:]
    return ("evaluate", "run"), words[2:] if words[1:2] == ["run"] else words[1:]


_SCRIPT = """\
#!/bin/bash
#SBATCH --job-name=urial
#SBATCH --array={array}
#SBATCH --requeue
#SBATCH --signal=B:TERM@{grace}
#SBATCH --open-mode=append
#SBATCH --output=urial-%A_%a.log
{asked}\
# Made by `urial-local slurm`.
#   bash FILE                 submits the shards and, once all have ended, their merge
#   sbatch --array=3,5 FILE   submits these shards again
# Jobs run in the folder from which they are submitted.

make_shard() {{
  exec {program} {head} --shard "$1/{shards}" -o {folders}"$1{of}" {tail}
}}

merge_shards() {{
  local folders=() i
  for ((i = 1; i <= {shards}; i++)); do folders+=({folders}"$i{of}"); done
  {program} merge "${{folders[@]}}" -o {merged}
}}

if [ "${{1:-}}" = merge ]; then
  merge_shards
  exit
fi

if [ -z "${{SLURM_ARRAY_TASK_ID:-}}" ]; then
  job=$(sbatch --parsable "$0") || exit
  job=${{job%%;*}}
  {{ echo '#!/bin/bash'; declare -f merge_shards; echo merge_shards; }} |
    sbatch --parsable --job-name=urial-merge --output="urial-$job-merge.log" \\
      --dependency="afterany:$job" {merging} || exit
  echo "Submitted $job and its merge; logs are urial-$job*.log." >&2
  exit
fi

# As many threads as the job has cores; -t in the command above overrides this.
if [ -n "${{SLURM_CPUS_PER_TASK:-}}" ]; then export {threads}="$SLURM_CPUS_PER_TASK"; fi

# Slurm sends TERM to this shell alone, and a shell handles it between two commands only: so the
# work runs in the background, is told, and is waited for again.
child='' stopping=''
trap 'stopping=1; [ -z "$child" ] || kill -TERM "$child" 2>/dev/null' TERM
make_shard "$SLURM_ARRAY_TASK_ID" &
child=$!
[ -z "$stopping" ] || kill -TERM "$child" 2>/dev/null
while :; do
  stopping=''
  wait "$child"
  code=$?
  [ -n "$stopping" ] || break
done

# 75 is "unfinished, go on"; 143 is TERM before there was anything to finish.
if [ "$code" = 75 ] || [ "$code" = 143 ]; then
  if [ "${{SLURM_RESTART_COUNT:-0}}" -lt {restarts} ]; then
    scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
  else
    echo "Requeued {restarts} times, and rows are missing: use more --time, or more shards." >&2
  fi
fi
exit "$code"
"""
