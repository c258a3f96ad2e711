"""Training of the adapter: resumes from its last checkpoint, the same data at every step."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from tools.real_pair.data import Example
from tools.real_pair.gemma import Gemma, Lora
from tools.real_pair.lora import fresh
from tools.real_pair.loss import answer_loss

SAVE_EVERY = 120.0  # seconds
CHECKPOINT, LOG = "adapter.pt", "losses.jsonl"


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that decides what is learnt, the data and the base aside."""

    seed: int = 7
    rank: int = 16
    alpha: float = 32.0
    epochs: int = 1
    batch: int = 4  # examples of a step
    rate: float = 8e-4  # AdamW's, at its highest
    warmup: int = 5  # steps
    longest: int = 256  # tokens of a question and its answer; longer rows are left out
    rows: int = 300  # of those that are left, drawn by the seed

    def rate_at(self, step: int, steps: int) -> float:
        """Up for `warmup` steps, then linearly down to zero."""
        if step < self.warmup:
            return self.rate * (step + 1) / self.warmup
        return self.rate * (steps - step) / max(1, steps - self.warmup)


def batches(examples: Sequence[Example], recipe: Recipe) -> list[list[Example]]:
    """The examples of every step: `rows` of them, each once an epoch, in an order of the seed."""
    found = []
    drawn = list(examples)
    random.Random(recipe.seed).shuffle(drawn)
    for epoch in range(recipe.epochs):
        order = drawn[: recipe.rows]
        random.Random(f"{recipe.seed}-{epoch}").shuffle(order)
        found += [order[i : i + recipe.batch] for i in range(0, len(order), recipe.batch)]
    return found


def loss_of(base: Gemma, example: Example, lora: Lora | None) -> Tensor:
    """Σ -log p of the answer's tokens, in nats."""
    ids = torch.tensor([*example.prompt, *example.answer])
    hidden = base.hidden(ids[:-1], lora)[len(example.prompt) - 1 :]
    return answer_loss(hidden, base.embedding(), torch.tensor(example.answer))


def mean_loss(base: Gemma, examples: Sequence[Example], lora: Lora | None) -> float:
    """Nats for each answer token, over the examples together."""
    with torch.no_grad():
        total = sum(float(loss_of(base, e, lora)) for e in examples)
    return total / sum(len(e.answer) for e in examples)


class Trainer:
    """Trains an adapter on a base; what is done lies in `folder`."""

    def __init__(
        self, base: Gemma, examples: Sequence[Example], recipe: Recipe, folder: Path, source: str
    ) -> None:
        """`source` names base and data: a checkpoint of others is refused, as is one of another
        recipe, with a ValueError."""
        self.base, self.recipe, self.folder = base, recipe, folder
        self.steps = batches(examples, recipe)
        self.lora = fresh(base, recipe.rank, recipe.alpha, recipe.seed)
        self._parameters = [matrix for pair in self.lora.pairs.values() for matrix in pair]
        self._optimizer = torch.optim.AdamW(self._parameters, lr=recipe.rate, weight_decay=0.0)
        self.done, self.seconds = 0, 0.0
        self._about = json.dumps({"recipe": asdict(recipe), "source": source}, sort_keys=True)
        folder.mkdir(parents=True, exist_ok=True)
        self._resume()

    def run(self, most: int | None = None) -> Lora:
        """All steps that are left, or at most so many; the adapter as it then is."""
        until = len(self.steps) if most is None else min(len(self.steps), self.done + most)
        saved = time.monotonic()
        while self.done < until:
            begun = time.monotonic()
            loss = self._step()
            self.seconds += time.monotonic() - begun
            self._tell(loss)
            if time.monotonic() - saved > SAVE_EVERY:
                self._save()
                saved = time.monotonic()
        self._save()
        return self.lora

    def _step(self) -> float:
        examples = self.steps[self.done]
        tokens = sum(len(e.answer) for e in examples)
        total = 0.0
        for example in examples:
            loss = loss_of(self.base, example, self.lora) / tokens
            loss.backward()
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        for group in self._optimizer.param_groups:
            group["lr"] = self.recipe.rate_at(self.done, len(self.steps))
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.done += 1
        return total

    def _tell(self, loss: float) -> None:
        line = {"step": self.done, "of": len(self.steps), "loss": round(loss, 4)}
        text = json.dumps(line | {"seconds": round(self.seconds, 1)})
        print(text, flush=True)
        with (self.folder / LOG).open("a", encoding="utf-8") as log:
            log.write(text + "\n")

    def _save(self) -> None:
        state = {
            "about": self._about,
            "done": self.done,
            "seconds": self.seconds,
            "matrices": [matrix.detach() for matrix in self._parameters],
            "optimizer": self._optimizer.state_dict(),
        }
        unfinished = self.folder / (CHECKPOINT + ".unfinished")
        torch.save(state, unfinished)
        os.replace(unfinished, self.folder / CHECKPOINT)

    def _resume(self) -> None:
        path = self.folder / CHECKPOINT
        if not path.exists():
            return
        state = torch.load(path, weights_only=True)
        if state["about"] != self._about:
            raise ValueError(
                f"{path} was begun with another recipe, base or data. Remove it, or name another"
                f" folder with --work. It has {state['about']}"
            )
        self.done, self.seconds = state["done"], state["seconds"]
        with torch.no_grad():
            for matrix, saved in zip(self._parameters, state["matrices"], strict=True):
                matrix.copy_(saved)
        self._optimizer.load_state_dict(state["optimizer"])
