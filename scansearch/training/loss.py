"""Cross-entropy in which the images of rare classes weigh more."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class WeightedCrossEntropy(nn.Module):
    """Mean over the images of weight times cross-entropy (nats), with label smoothing as torch has it.

    Other than torch's own weights, the sum is divided by the number of images and not by the sum of their weights:
    so micro-batches and processes add up to the whole batch, and weights of mean 1 keep the scale of the loss.

    Args:
        weights: of each class, float [classes].
        smoothing: share of the target that is spread over all classes.
    """

    weights: Tensor

    def __init__(self, weights: Sequence[float], smoothing: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float32), persistent=False)
        self.smoothing = smoothing

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The loss of ``logits`` [n, classes], a scalar.

        Args:
            targets: labels int64 [n], or the shares of each class [n, classes], not smoothed: of a mixed image each
                share has the weight of its class.
        """
        if targets.ndim == 1:
            targets = nn.functional.one_hot(targets, logits.shape[1])
        shares = targets.to(logits.dtype) * self.weights.to(logits.dtype)
        spread = shares.sum(1, keepdim=True) / logits.shape[1]
        shares = (1 - self.smoothing) * shares + self.smoothing * spread
        return -(shares * logits.log_softmax(1)).sum(1).mean()
