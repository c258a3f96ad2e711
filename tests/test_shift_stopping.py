"""`urial-local shift` that is stopped and goes on."""

from __future__ import annotations

import random
import subprocess
import sys
import time

from tests.shifted_runs import PAIR, rows_of, summary_of


def test_killed_at_random_and_resumed_gives_the_same_rows(shifted, tmp_path):
    command = [sys.executable, "-m", "urial_local", "shift", str(shifted / "q.json"), *PAIR]
    command += ["-o", str(tmp_path / "run")]
    moments = random.Random(2)
    for _ in range(12):
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(moments.uniform(0.2, 0.9))
        child.kill()
        child.wait()
    done = subprocess.run(command, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert rows_of(tmp_path / "run") == rows_of(shifted / "run")
    assert summary_of(tmp_path / "run") == summary_of(shifted / "run")


def test_ctrl_c_keeps_the_rows_that_are_done(tiny_aligned, tiny_llama, tmp_path):
    import signal

    (tmp_path / "q.txt").write_text("".join(f"the rain {i}\n" for i in range(3000)))
    args = ["shift", str(tmp_path / "q.txt"), "--base", str(tiny_llama)]
    args += ["--aligned", str(tiny_aligned), "-o", str(tmp_path / "run"), "-t", "1"]
    args += ["--base-prompt", "zero-shot", "-n", "60"]
    child = subprocess.Popen([sys.executable, "-m", "urial_local", *args], stderr=subprocess.PIPE)
    rows = tmp_path / "run" / "rows.jsonl"
    deadline = time.monotonic() + 60
    while not (rows.exists() and rows.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    assert child.stderr is not None
    said = child.stderr.read().decode()
    child.stderr.close()
    assert child.wait(timeout=30) == 130, said
    assert "The same command goes on" in said
    assert "Traceback" not in said
    kept = rows.read_bytes()
    assert kept.endswith(b"\n")
    assert kept
