"""Penalties on the architecture parameters, added to the loss that the alphas see."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from scansearch.records.costs import Costs
from scansearch.searching.relaxations import Relaxation


def mean_entropy(probabilities: Sequence[Tensor]) -> Tensor:
    """Mean over layers of the entropy (nats) of each layer's probabilities, normalised to sum to one."""
    entropies = []
    for p in probabilities:
        share = p / p.sum()
        entropies.append(-(share * torch.log(share.clamp_min(1e-30))).sum())
    return torch.stack(entropies).mean()


def expected_cost_share(probabilities: Sequence[Tensor], flops: Sequence[Sequence[float]]) -> Tensor:
    """Expected FLOPs of the candidates under ``probabilities``, as a share of all candidates' FLOPs; exact.

    ``flops[layer][candidate]`` is additive (see :class:`~scansearch.costs.Costs`), so this is a dot product.
    """
    expected = sum((p * p.new_tensor(row)).sum() for p, row in zip(probabilities, flops, strict=True))
    return torch.as_tensor(expected) / sum(sum(row) for row in flops)


class Penalty:
    """``entropy_weight`` x mean entropy + ``cost_weight`` x expected cost share, or None where both are zero."""

    def __init__(
        self, relaxation: Relaxation, costs: Costs | None, *, entropy_weight: float, cost_weight: float
    ) -> None:
        self.relaxation = relaxation
        self.flops = costs.flops.table if costs is not None else None
        self.entropy_weight, self.cost_weight = entropy_weight, cost_weight

    def __call__(self, alphas: Sequence[Tensor]) -> Tensor | None:
        if not self.entropy_weight and not self.cost_weight:
            return None
        probabilities = self.relaxation.probabilities(alphas)
        total = self.entropy_weight * mean_entropy(probabilities)
        if self.cost_weight:
            assert self.flops is not None
            total = total + self.cost_weight * expected_cost_share(probabilities, self.flops)
        return total
