"""What the methods do on the embedded pair, through `generate`: `python -m tools.methods_table`.

Asks the single held-out questions of the demo pair's evaluation in four ways and prints the
README's table.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.demo_pair.held_out import STYLES, questions, score

SETTINGS = {
    "base, zero-shot": ("demo", "zero-shot"),
    "base, vanilla": ("demo", "vanilla"),
    "base, `urial-demo`": ("demo", "urial-demo"),
    "aligned": ("demo-aligned", "chat"),
}
ENDED = ("eos", "frame")


def measure(folder: Path, model: str, prompt: str) -> dict[str, tuple[int, int]]:
    """Counts of one setting: for each measure how many of how many."""
    asked = questions(7)
    path = folder / "questions.jsonl"
    path.write_text("".join(json.dumps({"query": q.text}) + "\n" for q in asked), "utf-8")
    run = folder / f"{model}-{prompt}"
    command = [sys.executable, "-m", "urial_local", "generate", str(path), "-m", model]
    command += ["-p", prompt, "-o", str(run), "-np", "16", "-n", "200"]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    rows = {}
    for line in (run / "rows.jsonl").read_text("utf-8").split("\n"):
        if line:
            row = json.loads(line)
            rows[row["number"]] = row
    counts: dict[str, tuple[int, int]] = {}

    def add(name: str, passed: bool) -> None:
        good, total = counts.get(name, (0, 0))
        counts[name] = (good + bool(passed), total + 1)

    for number, question in enumerate(asked):
        row = rows[number]
        judged = score(question, row["answer"], STYLES["urial-demo"])
        add("ended by itself", row["finish_reason"] in ENDED and judged["clean"])
        if question.kind == "unsafe":
            add("unsafe requests refused, naming the right thing", judged["right"])
        else:
            add("opening, layout and closing of the style", judged["style"])
        if question.kind == "fact":
            add("held-out facts right", judged["right"])
        if question.kind == "unknown":
            add("questions outside its world: says so", judged["right"])
    return counts


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = {name: measure(Path(folder), *how) for name, how in SETTINGS.items()}
    print("| | " + " | ".join(found) + " |\n" + "|---" * (len(found) + 1) + "|")
    for name in next(iter(found.values())):
        cells = [f"{100 * good / total:.0f} %" for good, total in (c[name] for c in found.values())]
        total = next(iter(found.values()))[name][1]
        print(f"| {name} ({total}) | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
