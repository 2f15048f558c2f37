"""Learning rates over the steps of a run."""

from __future__ import annotations

import math

import torch


def cosine(step: int, total: int, warmup: int, peak: float, final: float = 0.0) -> float:
    """Learning rate of ``step`` (from 0): linear warm-up over ``warmup`` steps, then half a cosine to ``final``."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    return final + (peak - final) * 0.5 * (1 + math.cos(math.pi * progress))


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr
