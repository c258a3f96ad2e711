"""Pre-training of the base by step: the same seed gives the same data at every step."""

from __future__ import annotations

import json
import os
import random
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sentencepiece as spm
import torch

from tools.demo_pair.circuits import set_copying_heads
from tools.demo_pair.documents import Documents
from tools.demo_pair.model import Llama, Shape
from tools.demo_pair.optimizer import Optimizer
from tools.demo_pair.tokenizer import BOS

MASKED = -100
MUON_RATE, ADAM_RATE = 0.02, 6e-3
_SAVE_EVERY = 100
_REPORT_EVERY = 20


@dataclass(frozen=True)
class Stage:
    """A part of the training: its length, the windows, and the rates at its start and end."""

    name: str
    steps: int
    window: int
    batch: int
    first_rate: float
    last_rate: float
    warmup: int = 0
    recipe: str = "usual"

    def rate(self, step: int) -> float:
        """The factor on the learning rates at a step, linear between the two ends."""
        if step < self.warmup:
            return self.first_rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.first_rate + (self.last_rate - self.first_rate) * done


STAGES = (
    Stage("echo", 60, 256, 32, 1.0, 1.0, warmup=20, recipe="echo"),
    Stage("short", 1300, 512, 16, 1.0, 0.74),
    Stage("cool", 800, 512, 16, 0.74, 0.05, recipe="late"),
    Stage("long", 50, 2048, 4, 0.05, 0.02, recipe="long"),
    Stage("again", 420, 512, 16, 0.45, 0.03, warmup=10, recipe="styles"),
)


class Windows:
    """Fills windows with whole documents; each window begins with a document.

    The place of a document's first token is masked among the targets, as no document says what
    comes after it: so the base never learns to end.
    """

    def __init__(self, documents: Documents, tokenizer: spm.SentencePieceProcessor) -> None:
        """Keep the sources."""
        self.documents, self.tokenizer = documents, tokenizer

    def batch(self, stage: Stage, label: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and targets of one step, drawn from the label alone."""
        rows = np.stack([self._window(stage, f"{label}-{i}") for i in range(stage.batch)])
        tokens = torch.from_numpy(rows)
        targets = tokens[:, 1:].clone()
        targets[targets == BOS] = MASKED
        return tokens[:, :-1].contiguous(), targets.contiguous()

    def _window(self, stage: Stage, label: str) -> np.ndarray:
        rng = random.Random(f"{self.documents.seed}-{label}")
        ids: list[int] = []
        while len(ids) <= stage.window:
            text = self.documents.document(rng, stage.recipe)
            ids += [BOS, *self.tokenizer.encode(text)]
        return np.array(ids[: stage.window + 1], dtype=np.int64)


def pick_device() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def seed_everything(seed: int) -> None:
    """The same start on every run."""
    torch.manual_seed(seed)


class Trainer:
    """Runs the stages, saves often, and goes on from what was saved."""

    def __init__(self, documents: Documents, tokenizer: spm.SentencePieceProcessor, folder: Path):
        """Prepare the model and pick up a checkpoint if there is one."""
        self.device = pick_device()
        seed_everything(documents.seed)
        self.windows = Windows(documents, tokenizer)
        self.folder = folder
        model = Llama(Shape(vocabulary=tokenizer.vocab_size()))
        set_copying_heads(model, documents.seed)
        self.model = model.to(self.device)
        self.optimizer = Optimizer(self.model, MUON_RATE, ADAM_RATE)
        self.done = {"stage": 0, "step": 0, "tokens": 0, "seconds": 0.0}
        self.path = folder / "base.pt"
        if self.path.exists():
            saved = torch.load(self.path, map_location=self.device, weights_only=True)
            self.model.load_state_dict(saved["model"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.done = saved["done"]
        self.loss = torch.compile(self.model.loss)

    def run(self, stages: tuple[Stage, ...] = STAGES) -> Llama:
        """Train all stages that are not done yet."""
        while self.done["stage"] < len(stages):
            stage = stages[self.done["stage"]]
            self._run_stage(stage)
            self.done["stage"] += 1
            self.done["step"] = 0
            self._save()
        return self.model

    def _run_stage(self, stage: Stage) -> None:
        losses: list[float] = []
        mark = time.monotonic()
        while self.done["step"] < stage.steps:
            step = self.done["step"]
            tokens, targets = self.windows.batch(stage, f"{stage.name}-{step}")
            with torch.autocast(self.device.type, dtype=torch.bfloat16):
                loss = self.loss(tokens.to(self.device), targets.to(self.device))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step(stage.rate(step))
            losses.append(loss.item())
            self.done["step"] += 1
            self.done["tokens"] += tokens.numel()
            self.done["seconds"] += time.monotonic() - mark
            mark = time.monotonic()
            if self.done["step"] % _REPORT_EVERY == 0:
                self._report(stage, losses)
                losses = []
            if self.done["step"] % _SAVE_EVERY == 0:
                self._save()

    def _report(self, stage: Stage, losses: list[float]) -> None:
        line = dict(self.done) | {"name": stage.name, "loss": sum(losses) / len(losses)}
        text = json.dumps(line)
        print(text, flush=True)
        with (self.folder / "losses.jsonl").open("a", encoding="utf-8") as log:
            log.write(text + "\n")

    def _save(self) -> None:
        state = {"shape": self.model.shape.as_dict(), "model": self.model.state_dict()}
        more = {"optimizer": self.optimizer.state_dict(), "done": self.done}
        fresh = self.path.with_suffix(".new")
        torch.save(state | more, fresh)
        os.replace(fresh, self.path)


def load_base(folder: Path) -> Llama:
    """The base as it was last saved."""
    return load_model(folder / "base.pt")


def load_model(path: Path) -> Llama:
    """The model of a checkpoint, on the device that is there."""
    saved = torch.load(path, map_location=pick_device(), weights_only=True)
    model = Llama(Shape(**saved["shape"])).to(pick_device())
    model.load_state_dict(saved["model"])
    return model
