"""Relaxations: from architecture parameters (alphas) to the gates of one step.

A relaxation returns, per layer, the active candidates and one gate value for each. A candidate that is not
active has a gate of exactly zero and is not computed at all.

For sampled gates the estimator is straight-through, ``hard - p.detach() + p`` over the active branches:
the value is the hard gate, the gradient is that of the soft probability ``p``. With ``s`` = log-softmax of
the alphas plus noise, divided by the temperature T, and p = softmax(s) over *all* candidates,
d gate_i / d alpha_j = p_i (delta_ij - p_j) / T.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor

from scansearch.models.merge import LayerGates


class Relaxation(Protocol):
    """What a relaxation offers. ``alphas``: one tensor [candidates] per layer."""

    learns_alphas: bool

    def gates(
        self, alphas: Sequence[Tensor], *, active: int, temperature: float, generator: Generator
    ) -> list[LayerGates]:
        """The gates of one training step; differentiable in the alphas where ``learns_alphas``.

        ``active`` is the number of branches that sampled relaxations compute per layer; all randomness
        comes from ``generator`` (on the CPU, so that every rank and device draws the same).
        """

    def probabilities(self, alphas: Sequence[Tensor]) -> list[Tensor]:
        """How much each candidate is wanted, one tensor [candidates] per layer; differentiable."""


def expected_gates(relaxation: Relaxation, alphas: Sequence[Tensor]) -> list[LayerGates]:
    """Deterministic gates for evaluation: every branch active, weighted by its probability."""
    return [LayerGates(p, tuple(range(len(p)))) for p in relaxation.probabilities(alphas)]


def uniform_noise(size: int, generator: Generator) -> Tensor:
    """``size`` independent uniform numbers in (0, 1), float64."""
    return torch.rand(size, generator=generator, dtype=torch.float64).clamp_(1e-12, 1 - 1e-12)


def gumbel_noise(size: int, generator: Generator) -> Tensor:
    """``size`` independent standard Gumbel numbers, float64."""
    return -torch.log(-torch.log(uniform_noise(size, generator)))


@dataclass(frozen=True)
class Softmax:
    """All branches, weighted by softmax(alpha / T): LocalMamba (arXiv 2403.09338), DARTS (1806.09055, eq. 2)."""

    learns_alphas = True

    def gates(
        self, alphas: Sequence[Tensor], *, active: int, temperature: float, generator: Generator
    ) -> list[LayerGates]:
        return [LayerGates(torch.softmax(a / temperature, 0), tuple(range(len(a)))) for a in alphas]

    def probabilities(self, alphas: Sequence[Tensor]) -> list[Tensor]:
        return [torch.softmax(a, 0) for a in alphas]


@dataclass(frozen=True)
class Sigmoid:
    """All branches, each gated by sigmoid(alpha / T) on its own: FairDARTS (arXiv 1911.12126, eq. 3)."""

    learns_alphas = True

    def gates(
        self, alphas: Sequence[Tensor], *, active: int, temperature: float, generator: Generator
    ) -> list[LayerGates]:
        return [LayerGates(torch.sigmoid(a / temperature), tuple(range(len(a)))) for a in alphas]

    def probabilities(self, alphas: Sequence[Tensor]) -> list[Tensor]:
        return [torch.sigmoid(a) for a in alphas]


@dataclass(frozen=True)
class GumbelTopK:
    """Exactly ``active`` branches, drawn without replacement (Gumbel top-k, arXiv 1903.06059), each with gate 1/active.

    Straight-through: hard = 1/active, p = softmax((log-softmax(alpha) + Gumbel noise) / T).
    """

    learns_alphas = True

    def gates(
        self, alphas: Sequence[Tensor], *, active: int, temperature: float, generator: Generator
    ) -> list[LayerGates]:
        return [self._layer(a, min(active, len(a)), temperature, generator) for a in alphas]

    def _layer(self, alpha: Tensor, active: int, temperature: float, generator: Generator) -> LayerGates:
        noise = gumbel_noise(len(alpha), generator).to(alpha)
        scores = torch.log_softmax(alpha, 0) + noise
        chosen = tuple(sorted(int(i) for i in torch.topk(scores.detach(), active).indices))
        p = torch.softmax(scores / temperature, 0)[list(chosen)]
        return LayerGates(torch.full_like(p, 1 / active) - p.detach() + p, chosen)

    def probabilities(self, alphas: Sequence[Tensor]) -> list[Tensor]:
        return [torch.softmax(a, 0) for a in alphas]


@dataclass(frozen=True)
class Gdas(GumbelTopK):
    """One branch with gate 1, drawn by the Gumbel-max trick: GDAS (arXiv 1910.04465, eq. 3 to 6)."""

    def gates(
        self, alphas: Sequence[Tensor], *, active: int, temperature: float, generator: Generator
    ) -> list[LayerGates]:
        return super().gates(alphas, active=1, temperature=temperature, generator=generator)


@dataclass(frozen=True)
class Uniform:
    """``active`` branches drawn uniformly, each with gate 1/active; alphas do not learn (arXiv 1904.00420)."""

    learns_alphas = False

    def gates(
        self, alphas: Sequence[Tensor], *, active: int, temperature: float, generator: Generator
    ) -> list[LayerGates]:
        layers = []
        for alpha in alphas:
            count = min(active, len(alpha))
            order = torch.argsort(uniform_noise(len(alpha), generator))
            chosen = tuple(sorted(int(i) for i in order[:count]))
            layers.append(
                LayerGates(torch.full((count,), 1 / count, dtype=alpha.dtype, device=alpha.device), chosen)
            )
        return layers

    def probabilities(self, alphas: Sequence[Tensor]) -> list[Tensor]:
        return [torch.full_like(a, 1 / len(a)) for a in alphas]
