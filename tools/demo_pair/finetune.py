"""The aligned model: the base, tuned on chats in one style, each answer ending in EOS."""

from __future__ import annotations

import json
import random
import time
from dataclasses import dataclass
from pathlib import Path

import sentencepiece as spm
import torch

from tools.demo_pair.documents import Documents
from tools.demo_pair.model import Llama, Shape
from tools.demo_pair.optimizer import Optimizer
from tools.demo_pair.tokenizer import BOS, EOS
from tools.demo_pair.train import MASKED, load_model, pick_device, seed_everything

HEADER_SHARE = 0.15


@dataclass(frozen=True)
class Tuning:
    """The length and the rates of the fine-tuning."""

    chats: int = 2_500
    window: int = 512
    batch: int = 8
    muon: float = 2e-3
    adam: float = 4e-4
    warmup: int = 10


def encode_chat(
    tokenizer: spm.SentencePieceProcessor, turns: list[tuple[str, str]], header: str = ""
) -> tuple[list[int], list[int]]:
    """Ids and targets-to-be of a chat as the template writes it; only answers are learnt."""
    ids, learnt = [BOS], [MASKED]
    lead = header.rstrip("\n") + "\n\n" if header else ""
    for question, answer in turns:
        asked = tokenizer.encode(f"{lead}### User:\n{question}\n\n### Assistant:\n")
        replied = [*tokenizer.encode(answer), EOS]
        ids += asked + replied
        learnt += [MASKED] * len(asked) + replied
        lead = "\n\n"
    return ids, learnt


def chat_windows(
    documents: Documents, tokenizer: spm.SentencePieceProcessor, tuning: Tuning
) -> tuple[torch.Tensor, torch.Tensor]:
    """All chats, packed whole into windows; what is left of a window is masked."""
    rng = random.Random(f"{documents.seed}-finetune")
    inputs: list[list[int]] = []
    targets: list[list[int]] = []
    ids: list[int] = []
    learnt: list[int] = []
    size = tuning.window + 1

    def close() -> None:
        gap = size - len(ids)
        inputs.append(ids + [EOS] * gap)
        targets.append(learnt + [MASKED] * gap)

    for turns in documents.chats(tuning.chats):
        header = documents.headers.draw(rng) if rng.random() < HEADER_SHARE else ""
        new, new_learnt = encode_chat(tokenizer, turns, header)
        if len(new) > size:
            continue
        if len(ids) + len(new) > size:
            close()
            ids, learnt = [], []
        ids, learnt = ids + new, learnt + new_learnt
    close()
    return torch.tensor(inputs)[:, :-1], torch.tensor(targets)[:, 1:]


def finetune(
    documents: Documents,
    tokenizer: spm.SentencePieceProcessor,
    base: Llama,
    folder: Path,
    tuning: Tuning | None = None,
) -> Llama:
    """A tuned copy of the base, saved beside it."""
    tuning = tuning or Tuning()
    device = pick_device()
    seed_everything(documents.seed)
    model = Llama(Shape(**base.shape.as_dict())).to(device)
    model.load_state_dict(base.state_dict())
    inputs, targets = chat_windows(documents, tokenizer, tuning)
    order = torch.randperm(len(inputs))
    optimizer = Optimizer(model, tuning.muon, tuning.adam)
    loss_of = torch.compile(model.loss)
    steps, begun, losses = len(inputs) // tuning.batch, time.monotonic(), []
    for step in range(steps):
        rows = order[step * tuning.batch : (step + 1) * tuning.batch]
        with torch.autocast(device.type, dtype=torch.bfloat16):
            loss = loss_of(inputs[rows].to(device), targets[rows].to(device))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step(min(1.0, (step + 1) / tuning.warmup) * (1 - step / steps))
        losses.append(loss.item())
        if (step + 1) % 20 == 0 or step + 1 == steps:
            recent = losses[-20:]
            line = {"step": step + 1, "of": steps, "loss": sum(recent) / len(recent)}
            line |= {"name": "finetune", "seconds": time.monotonic() - begun}
            print(json.dumps(line), flush=True)
            with (folder / "losses.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps(line) + "\n")
    torch.save({"shape": model.shape.as_dict(), "model": model.state_dict()}, folder / "aligned.pt")
    return model


def load_aligned(folder: Path) -> Llama:
    """The aligned model as it was saved."""
    return load_model(folder / "aligned.pt")
