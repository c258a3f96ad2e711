"""Trains a LoRA adapter on a real base: ``python -m tools.real_pair --data ANSWERS``.

The base is the one that ``make real-models`` fetches. ANSWERS is a file of an aligned model's
answers to just-eval-instruct, such as vicuna-7b-v1.5.to_eval.json. The same command goes on after
a stop. Needs the train extra. What comes out is measured in docs/real-models.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from tools.real_models import MODELS, folder

BASE = MODELS["gemma-3-270m"].file
ADAPTER = "real-pair-lora.gguf"
PROMPT = Path(__file__).with_name("plain.toml")
PARTS = ("train", "export", "loss")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.real_pair", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the answers to learn from")
    parser.add_argument("--base", type=Path, default=folder() / BASE, help="a Gemma 3 GGUF file")
    parser.add_argument("--work", type=Path, default=folder() / "real-pair", help="checkpoints")
    parser.add_argument("--out", type=Path, default=folder() / ADAPTER, help="the adapter's file")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--float32", action="store_true", help="where bfloat16 is no faster")
    parser.add_argument("--steps", type=int, help="stop after so many, to go on later")
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=PARTS,
        help="parts to run; loss is that of the held-out answers, without and with the adapter",
    )  # fmt: skip
    return parser.parse_args()


def sha256(path: Path) -> str:
    """Of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> None:
    """Train, export, and measure the loss."""
    args = parse()
    import torch

    from tools.real_pair.data import split
    from tools.real_pair.gemma import load
    from tools.real_pair.lora import write_gguf
    from tools.real_pair.train import Recipe, Trainer, mean_loss
    from urial_local.prompting.library import load_prompt
    from urial_local.runtime.model import Model

    torch.set_num_threads(args.threads)
    recipe = Recipe()
    with Model(args.base) as model:
        rows = split(args.data, model.vocab, load_prompt(str(PROMPT)), recipe.longest)
    about = {"base_sha256": sha256(args.base), "data_sha256": sha256(args.data)}
    base = load(args.base, torch.float32 if args.float32 else torch.bfloat16)
    trainer = Trainer(base, rows.learnt, recipe, args.work, json.dumps(about, sort_keys=True))
    if "train" in args.only:
        used = {e.id: e for step in trainer.steps for e in step}.values()
        tokens = sum(len(e.answer) for e in used)
        print(f"{len(used)} answers of {tokens:,} tokens, {len(trainer.steps)} steps", flush=True)
        trainer.run(args.steps)
    if "export" in args.only:
        about |= {"data": args.data.name, "steps": trainer.done}
        write_gguf(trainer.lora, recipe.alpha, args.out, "real pair", about | asdict(recipe))
        print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB after {trainer.done} steps")
    if "loss" in args.only:
        for name, lora in (("without", None), ("with", trainer.lora)):
            nats = mean_loss(base, rows.held_out, lora)
            print(f"{len(rows.held_out)} held-out answers {name} the adapter: {nats:.4f} nats")


if __name__ == "__main__":
    main()
