"""`make bench`: runs every benchmark, prints a table, and keeps the figures as JSON.

`python -m benchmarks shift` runs one part alone.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from pathlib import Path

from benchmarks import (
    busy,
    crew,
    engine,
    evaluate,
    generate,
    guide,
    many_rows,
    random_model,
    sampling,
    serve,
    shift,
)
from tools import real_models
from urial_local import __version__
from urial_local.runtime.llama_api import TESTED_VERSIONS
from urial_local.runtime.row_scores import instruction_level

RESULTS = Path(__file__).parent / "results"


def model(shape: random_model.Shape, seed: int = 0) -> Path:
    """The random model of a shape and seed, made where it is not there yet."""
    name = f"{shape.name}-q8_0{f'-{seed}' if seed else ''}.gguf"
    return random_model.write_random(RESULTS / name, shape, seed)


def real_or_random() -> Path:
    """The real base model where `make real-models` has fetched it, else the random one."""
    path = real_models.folder() / real_models.MODELS["gemma-3-270m"].file
    if path.exists():
        return path
    print("The real base model is not here (make real-models); a random one stands in.")
    return model(random_model.HALF_BILLION)


def main() -> None:
    usual = ["engine", "generate", "evaluate", "shift", "sampling", "busy", "serve", "guide"]
    usual += ["many-rows", "crew"]
    parts = sys.argv[1:] or usual
    rows = []
    if "engine" in parts:
        rows += engine.run(model(random_model.HALF_BILLION))
    if "generate" in parts:
        rows += generate.run(model(random_model.HALF_BILLION))
    if "evaluate" in parts:
        rows += evaluate.run(model(random_model.HALF_BILLION))
    if "shift" in parts:
        rows += shift.run(
            model(random_model.SIXTY_MILLION),
            model(random_model.SIXTY_MILLION, 1),
            model(random_model.HALF_BILLION),
        )
    if "sampling" in parts:
        rows += sampling.run(real_or_random())
    if "busy" in parts:
        rows += busy.run(real_or_random())
    if "guide" in parts:
        rows += guide.run(model(random_model.HALF_BILLION), model(random_model.SIXTY_MILLION))
    if "many-rows" in parts:
        rows += many_rows.run()
    if "crew" in parts:
        rows += crew.run()
    if "serve" in parts:
        rows += serve.run(model(random_model.HALF_BILLION))
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
    RESULTS.mkdir(exist_ok=True)
    out = RESULTS / time.strftime("%Y%m%d-%H%M%S.json")
    out.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", "utf-8")
    print(f"\nKept in {out.relative_to(Path.cwd()) if out.is_relative_to(Path.cwd()) else out}")


if __name__ == "__main__":
    main()
