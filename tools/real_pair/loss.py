"""The loss over answer tokens, where a row of logits has 262,144 numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK = 64  # positions whose logits exist at the same time: 67 MB in float32


class AnswerLoss(torch.autograd.Function):
    """Σ_t -log softmax(E h_t)[target_t] in nats: h [n, width], a frozen E [vocabulary, width].

    The gradient ∂/∂h_t = (softmax(E h_t) - onehot(target_t)) E is found in the forward pass, while
    the logits of a chunk are there, so no logits are kept or computed twice.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, matrix: Tensor, targets: Tensor) -> Tensor:
        """The sum over all targets."""
        total = hidden.new_zeros(())
        gradient = torch.empty_like(hidden)
        for start in range(0, len(targets), CHUNK):
            part = slice(start, start + CHUNK)
            chosen = targets[part]
            logits = (hidden[part].to(matrix.dtype) @ matrix.T).float()
            top = logits.amax(-1, keepdim=True)
            of_chosen = logits.gather(-1, chosen[:, None]) - top
            powers = logits.sub_(top).exp_()
            sums = powers.sum(-1, keepdim=True)
            total += (sums.log() - of_chosen).sum()
            mean = (powers.to(matrix.dtype) @ matrix).float() / sums
            gradient[part] = mean - matrix[chosen].float()
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, weight: Tensor) -> tuple[Tensor, None, None]:
        """By the gradient that was kept."""
        (gradient,) = ctx.saved_tensors
        return weight * gradient, None, None


def answer_loss(hidden: Tensor, matrix: Tensor, targets: Tensor) -> Tensor:
    """The sum of the losses of all targets, see AnswerLoss."""
    return AnswerLoss.apply(hidden, matrix, targets)
