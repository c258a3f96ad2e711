"""Muon for the matrices of the layers, Adam for embedding and gains."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def orthogonalize(batch: Tensor, rounds: int = 5) -> Tensor:
    """Push all singular values of a batch of matrices towards one (Newton-Schulz)."""
    x = batch.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(rounds):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return (x.mT if tall else x).float()


class Muon(torch.optim.Optimizer):
    """Momentum whose steps are made orthogonal; matrices of one form are handled together."""

    def __init__(self, matrices: list[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        """Group the matrices by their form."""
        forms: dict[tuple[int, ...], list[nn.Parameter]] = {}
        for matrix in matrices:
            forms.setdefault(tuple(matrix.shape), []).append(matrix)
        super().__init__([{"params": group} for group in forms.values()], {"lr": lr})
        self.momentum = momentum

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One step."""
        for group in self.param_groups:
            updates = []
            for matrix in group["params"]:
                assert matrix.grad is not None
                state = self.state[matrix]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(matrix)
                state["momentum"].lerp_(matrix.grad, 1 - self.momentum)
                updates.append(matrix.grad.lerp(state["momentum"], self.momentum))
            rows, columns = group["params"][0].shape
            scale = max(1.0, rows / columns) ** 0.5
            whole = orthogonalize(torch.stack(updates))
            for matrix, update in zip(group["params"], whole, strict=True):
                matrix.add_(update, alpha=-group["lr"] * scale)


class Optimizer:
    """Both optimisers as one, with a common factor on their rates."""

    def __init__(self, model: nn.Module, muon: float, adam: float) -> None:
        """Split the parameters: matrices inside the layers go to Muon."""
        inner, outer = [], []
        for name, weight in model.named_parameters():
            (inner if weight.ndim == 2 and "blocks." in name else outer).append(weight)
        self.parts = [
            Muon(inner, lr=muon),
            torch.optim.Adam(outer, lr=adam, betas=(0.9, 0.98)),
        ]
        self.rates = [muon, adam]

    def step(self, factor: float) -> None:
        """One step with the rates times the factor; the gradients are cleared."""
        for part, rate in zip(self.parts, self.rates, strict=True):
            for group in part.param_groups:
                group["lr"] = rate * factor
            part.step()
            part.zero_grad(set_to_none=True)

    def state_dict(self) -> list[dict]:
        """What is needed to go on after a break."""
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states: list[dict]) -> None:
        """Go on where a run was broken off."""
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)
