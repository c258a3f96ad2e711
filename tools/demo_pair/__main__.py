"""Rebuilds the demo pair from a seed: ``python -m tools.demo_pair --seed 7``.

Training is resumed from its last checkpoint in the work folder.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

from tools.demo_pair.evaluate import ROOT, evaluate
from tools.demo_pair.held_out import DEVELOPMENT, EVALUATION

BASE, ALIGNED = "demo-base-q8_0.gguf", "demo-aligned-q8_0.gguf"
PARTS = ("train", "finetune", "export", "evaluate")
_PROBE = [
    "Grüße, мир! 你好 🙂👩‍🚀 naïve  two  spaces\ttab\nline\n\n",
    "```\n# Query:\n```\nWhat?\n```",
    " leading and trailing ",
    "</s> <s> <0x0A>",
]


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.demo_pair", description=__doc__)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "demo_pair")
    parser.add_argument("--out", type=Path, default=ROOT / "urial_local" / "demo")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to run")
    parser.add_argument(
        "--development",
        action="store_true",
        help="evaluate on the development wordings, for choosing while the pair is made",
    )
    return parser.parse_args()


def build(args: argparse.Namespace) -> None:
    """Train, tune and export; needs the train extra."""
    import torch

    from tools.demo_pair.documents import Documents
    from tools.demo_pair.export import CHAT_TEMPLATE, differing_texts, write_gguf
    from tools.demo_pair.finetune import finetune, load_aligned
    from tools.demo_pair.tokenizer import load_tokenizer, train_tokenizer
    from tools.demo_pair.train import Trainer, load_base
    from tools.demo_pair.world import load_world

    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    documents = Documents(load_world(args.seed))
    trained = (args.work / "tokenizer.model").exists()
    tokenizer = (load_tokenizer if trained else lambda folder: train_tokenizer(documents, folder))(
        args.work
    )
    if "train" in args.only:
        Trainer(documents, tokenizer, args.work).run()
    if "finetune" in args.only:
        finetune(documents, tokenizer, load_base(args.work), args.work)
    if "export" in args.only:
        about = "of a tiny world, trained from nothing on generated text"
        base, aligned = args.out / BASE, args.out / ALIGNED
        write_gguf(
            load_base(args.work),
            tokenizer,
            base,
            title="urial-local demo base",
            description=f"A base model {about}",
        )
        write_gguf(
            load_aligned(args.work),
            tokenizer,
            aligned,
            title="urial-local demo aligned",
            description=f"An aligned model {about}",
            template=CHAT_TEMPLATE,
        )
        texts = [*_PROBE, *itertools.islice(documents.stream("probe"), 400)]
        different = differing_texts(base, tokenizer, texts)
        print(f"{len(different)} of {len(texts)} texts are cut differently by llama.cpp")


def main() -> None:
    """Run the parts that were asked for."""
    args = parse()
    if set(args.only) - {"evaluate"}:
        build(args)
    if "evaluate" in args.only:
        from tools.demo_pair.runtime import runtime_answerer

        args.work.mkdir(parents=True, exist_ok=True)
        answerers = {
            "base": runtime_answerer(args.out / BASE, chat=False),
            "aligned": runtime_answerer(args.out / ALIGNED, chat=True),
        }
        wordings = DEVELOPMENT if args.development else EVALUATION
        out = args.work / wordings.file.replace(".toml", ".json")
        evaluate(answerers, args.seed, out, wordings)


if __name__ == "__main__":
    main()
