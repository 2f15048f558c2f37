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
from typing import Protocol, cast

import torch
from torch import Generator, Tensor

from scansearch.models.merge import LayerGates


class Relaxation(Protocol):
    """What a relaxation offers. ``alphas``: one tensor [candidates] per layer."""

    learns_alphas: bool
    samples: bool  # whether a step computes a drawn part of the branches, all with the same gate

    def gates(
        self, alphas: Sequence[Tensor], *, active: int, temperature: float, generator: Generator
    ) -> list[LayerGates]:
        """The gates of one training step; differentiable in the alphas where ``learns_alphas``.

        ``active`` is the number of branches that sampled relaxations compute per layer; all randomness
        comes from ``generator`` (on the CPU, so that every rank and device draws the same).
        """

    def probabilities(self, alphas: Sequence[Tensor]) -> list[Tensor]:
        """How much each candidate is wanted, one tensor [candidates] per layer; differentiable."""

    def scored_gates(
        self, alphas: Sequence[Tensor], *, active: int, temperature: float
    ) -> list[list[LayerGates]]:
        """Gates to score the supernet with: such as it was trained with, and no chance.

        The supernet's score is the mean over the list. ``active`` and ``temperature`` as in the last step.
        """


def expected_gates(
    relaxation: Relaxation, alphas: Sequence[Tensor], temperature: float = 1.0
) -> list[LayerGates]:
    """Every branch weighted by its probability at ``temperature``: what removing a branch is compared with.

    Active are those that have a probability: all, unless the relaxation was narrowed.
    """
    scaled = alphas if relaxation.samples else [alpha / temperature for alpha in alphas]
    layers = []
    for p in relaxation.probabilities(scaled):
        active = p.detach().nonzero().flatten().tolist()
        layers.append(LayerGates(p if len(active) == len(p) else p[active], tuple(active)))
    return layers


SCORED_PATHS = 8  # of a supernet whose branches are drawn uniformly


class _Mixture:
    """Relaxations that compute all branches in every step."""

    samples = False

    def scored_gates(
        self, alphas: Sequence[Tensor], *, active: int, temperature: float
    ) -> list[list[LayerGates]]:
        return [expected_gates(cast(Relaxation, self), alphas, temperature)]


def uniform_noise(size: int, generator: Generator) -> Tensor:
    """``size`` independent uniform numbers in (0, 1), float64."""
    return torch.rand(size, generator=generator, dtype=torch.float64).clamp_(1e-12, 1 - 1e-12)


def gumbel_noise(size: int, generator: Generator) -> Tensor:
    """``size`` independent standard Gumbel numbers, float64."""
    return -torch.log(-torch.log(uniform_noise(size, generator)))


@dataclass(frozen=True)
class Softmax(_Mixture):
    """All branches, weighted by softmax(alpha / T): LocalMamba (arXiv 2403.09338), DARTS (1806.09055, eq. 2)."""

    learns_alphas = True

    def gates(
        self, alphas: Sequence[Tensor], *, active: int, temperature: float, generator: Generator
    ) -> list[LayerGates]:
        return [LayerGates(torch.softmax(a / temperature, 0), tuple(range(len(a)))) for a in alphas]

    def probabilities(self, alphas: Sequence[Tensor]) -> list[Tensor]:
        return [torch.softmax(a, 0) for a in alphas]


@dataclass(frozen=True)
class Sigmoid(_Mixture):
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

    Straight-through: hard = 1/active, p = softmax((log-softmax(alpha) + Gumbel noise) / T). Scored with the
    ``active`` branches of the largest alphas.
    """

    learns_alphas = True
    samples = True

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

    def scored_gates(
        self, alphas: Sequence[Tensor], *, active: int, temperature: float
    ) -> list[list[LayerGates]]:
        best = (torch.topk(alpha.detach(), min(active, len(alpha))).indices for alpha in alphas)
        return [[equal_gates(a, sorted(b.tolist())) for a, b in zip(alphas, best, strict=True)]]


@dataclass(frozen=True)
class Gdas(GumbelTopK):
    """One branch with gate 1, drawn by the Gumbel-max trick: GDAS (arXiv 1910.04465, eq. 3 to 6)."""

    def gates(
        self, alphas: Sequence[Tensor], *, active: int, temperature: float, generator: Generator
    ) -> list[LayerGates]:
        return super().gates(alphas, active=1, temperature=temperature, generator=generator)

    def scored_gates(
        self, alphas: Sequence[Tensor], *, active: int, temperature: float
    ) -> list[list[LayerGates]]:
        return super().scored_gates(alphas, active=1, temperature=temperature)


@dataclass(frozen=True)
class Uniform:
    """``active`` branches drawn uniformly, each with gate 1/active; alphas do not learn (arXiv 1904.00420).

    Scored with ``SCORED_PATHS`` draws, always the same.
    """

    learns_alphas = False
    samples = True

    def gates(
        self, alphas: Sequence[Tensor], *, active: int, temperature: float, generator: Generator
    ) -> list[LayerGates]:
        layers = []
        for alpha in alphas:
            order = torch.argsort(uniform_noise(len(alpha), generator)).tolist()
            layers.append(equal_gates(alpha, sorted(order[: min(active, len(alpha))])))
        return layers

    def probabilities(self, alphas: Sequence[Tensor]) -> list[Tensor]:
        return [torch.full_like(a, 1 / len(a)) for a in alphas]

    def scored_gates(
        self, alphas: Sequence[Tensor], *, active: int, temperature: float
    ) -> list[list[LayerGates]]:
        generator = torch.Generator().manual_seed(0)
        return [
            self.gates(alphas, active=active, temperature=temperature, generator=generator)
            for _ in range(SCORED_PATHS)
        ]


def equal_gates(alpha: Tensor, active: Sequence[int]) -> LayerGates:
    """Gate 1/len(active) for each of the ``active`` branches, with the dtype and device of ``alpha``."""
    return LayerGates(alpha.detach().new_full((len(active),), 1 / len(active)), tuple(active))
