"""`make bench`: runs every benchmark, prints a table, and keeps the figures as JSON."""

from __future__ import annotations

import json
import platform
import time
from pathlib import Path

from benchmarks import engine, random_model
from urial_local import __version__
from urial_local.runtime.llama_api import TESTED_VERSIONS
from urial_local.runtime.row_scores import instruction_level

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    model = random_model.write_half_billion(RESULTS / "random-0.5b-q8_0.gguf")
    rows = engine.run(model)
    print("\n| what | here | yardstick in the same run | ratio | goal |\n|---|---|---|---|---|")
    for r in rows:
        ratio = f"{r['ratio']:.2f}×" if r["ratio"] is not None else ""
        print(f"| {r['what']} | {r['ours']} | {r['yardstick']} | {ratio} | {r['goal']} |")
    record = {
        "urial-local": __version__,
        "llama-cpp-python": TESTED_VERSIONS[-1],
        "machine": platform.machine(),
        "system": platform.system(),
        "kernel level": instruction_level(),
        "rows": rows,
    }
    out = RESULTS / time.strftime("%Y%m%d-%H%M%S.json")
    out.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", "utf-8")
    print(f"\nKept in {out.relative_to(Path.cwd()) if out.is_relative_to(Path.cwd()) else out}")


if __name__ == "__main__":
    main()
