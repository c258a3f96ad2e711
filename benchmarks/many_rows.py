"""A run of a million rows: how fast its log takes them, and time and memory of its next start.

No model: the rows are made up, in the size of real ones, and the few that are left to do are
answered by a fake engine. What is measured is all that hangs on the number of rows.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.engine import row

ROWS = int(os.environ.get("URIAL_BENCH_ROWS", "1000000"))
LEFT = 64  # rows that the next start has to make
_QUESTION = "Where can I find the thing with the number {}?"
_MADE = """
import json, resource, sys, time
from pathlib import Path
from tests.fake_plans import FakePlan, answered
from urial_local.records.generated import Generated
from urial_local.records.runlog import RunLog, asked_digest
from urial_local.tasks.generate.job import KEY
folder, rows, question = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
with (folder / "q.txt").open("w") as file:
    for i in range(rows + 64):
        file.write(question.format(i) + "\\n")
start, used = time.perf_counter(), time.process_time()
with RunLog(folder / "run", FakePlan().config(), KEY, Generated.read) as log:
    for i in range(rows):
        q = question.format(i)
        log.append({**answered(i, q), "asked_sha": asked_digest(q)})
print(json.dumps([time.perf_counter() - start, time.process_time() - used]))
"""
_NEXT = """
import json, resource, sys, time
start = time.perf_counter()
from pathlib import Path
import urial_local.runtime.llama_api, urial_local.tasks.generate.setup  # what a real run has loaded
from tests.fake_plans import FakePlan
from urial_local.cli.plumbing import generating
from urial_local.records.datasets import Fields, Selection
from urial_local.records.runlog import RunLog
from urial_local.records.sources import open_source
folder, first = Path(sys.argv[1]), []
append = RunLog.append
def timed(log, made):
    first.append((time.perf_counter() - start, time.process_time()))
    append(log, made)
RunLog.append = timed
with open_source(str(folder / "q.txt")) as source:
    data = generating.Dataset(source, Fields(), Selection())
    tally, errors = generating.run(FakePlan(), data, folder / "run")
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps([*first[0], peak, tally.done]))
"""
_EXPORT = """
import json, resource, sys, time
from pathlib import Path
start = time.process_time()
from urial_local.records.formats import Export, export, place
from urial_local.records.generated import Generated
from urial_local.records.runs import RunRows
rows = RunRows(Path(sys.argv[1]) / "run", ("id", "repeat"), Generated.read)
with open("/dev/null", "w") as file:
    for piece in export(rows.ordered(place, errors=True), "csv", Export("x", {})):
        file.write(piece)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps([time.process_time() - start, peak]))
"""


def child(code: str, *args: Any) -> list[float]:
    """What a process of its own prints: memory is then this part's alone."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, args)], capture_output=True, text=True, check=True
    )
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


def run() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["URIAL_CACHE_DIR"] = str(Path(folder) / "cache")
        written, busy = child(_MADE, folder, ROWS, _QUESTION)
        size = sum(p.stat().st_size for p in (Path(folder) / "run").glob("rows*.jsonl"))
        seconds, used, peak, done = child(_NEXT, folder)
        assert done == LEFT
        export_used, export_peak = child(_EXPORT, folder)
    what = f"run of {ROWS:,} rows ({size >> 20:,} MB)"
    return [
        row(
            f"{what}: rows into the log",
            f"{ROWS / written:,.0f} rows/s",
            f"{ROWS / busy:,.0f} rows/s of processor time",
            None,
            "> 2,000",
        ),
        row(
            f"{what}: next start, to its first new row",
            f"{seconds:.1f} s",
            f"{used:.1f} s of processor time",
            None,
            "< 20 s",
        ),
        row(f"{what}: memory of that process", f"{peak:.0f} MB", "", None, "< 300 MB"),
        row(
            f"{what}: export as CSV, memory",
            f"{export_peak:.0f} MB",
            f"{export_used:.1f} s of processor time",
            None,
            "< 300 MB",
        ),
    ]
