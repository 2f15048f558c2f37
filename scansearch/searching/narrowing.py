"""Narrowing: layers are fixed to their best candidates one after another while the supernet goes on.

From the middle of a search on, at evenly spaced steps, the layer whose choice is surest keeps its k best candidates
only; the others are no longer computed, and the layers that are still open learn beside what was chosen. Candidates
that leave a supernet while it trains are the idea of P-DARTS (arXiv 1904.12760) and ASAP (arXiv 1904.04123); here whole
layers leave, as in the stepwise form of DARTS-PT (arXiv 2108.04392, algorithm 1), by gates and not by perturbation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, Tensor

from scansearch.models.merge import LayerGates
from scansearch.searching.relaxations import Relaxation

START = 0.5  # share of the steps after which the first layer is fixed


class Narrowed:
    """A relaxation of the candidates that are still open; those that left have probability 0 and are not computed.

    Attributes:
        open: indices of the open candidates of each layer, ascending; layers that it does not hold are whole.
    """

    def __init__(self, relaxation: Relaxation) -> None:
        self.relaxation = relaxation
        self.learns_alphas, self.samples = relaxation.learns_alphas, relaxation.samples
        self.open: dict[int, tuple[int, ...]] = {}

    def gates(
        self, alphas: Sequence[Tensor], *, active: int, temperature: float, generator: Generator
    ) -> list[LayerGates]:
        gates = self.relaxation.gates(
            self._inner(alphas), active=active, temperature=temperature, generator=generator
        )
        return self._outer(gates)

    def probabilities(self, alphas: Sequence[Tensor]) -> list[Tensor]:
        layers = self.relaxation.probabilities(self._inner(alphas))
        for layer, kept in self.open.items():
            index = torch.tensor(kept, device=alphas[layer].device)
            layers[layer] = torch.zeros_like(alphas[layer]).index_copy(0, index, layers[layer])
        return layers

    def scored_gates(
        self, alphas: Sequence[Tensor], *, active: int, temperature: float
    ) -> list[list[LayerGates]]:
        several = self.relaxation.scored_gates(self._inner(alphas), active=active, temperature=temperature)
        return [self._outer(gates) for gates in several]

    def _inner(self, alphas: Sequence[Tensor]) -> list[Tensor]:
        """The alphas of the open candidates."""
        return [
            alpha if layer not in self.open else alpha[list(self.open[layer])]
            for layer, alpha in enumerate(alphas)
        ]

    def _outer(self, gates: Sequence[LayerGates]) -> list[LayerGates]:
        """``gates`` of open candidates, with the indices that these have among all."""
        return [
            gate
            if layer not in self.open
            else LayerGates(gate.values, tuple(self.open[layer][index] for index in gate.active))
            for layer, gate in enumerate(gates)
        ]


@dataclass
class Narrowing:
    """Which layers are fixed, and when the next one will be.

    Attributes:
        relaxation: of the search; told which candidates stay.
        k: how many stay in each layer.
        scores: layer -> the probabilities by which it was fixed.
    """

    relaxation: Narrowed
    k: int
    scores: dict[int, list[float]] = field(default_factory=dict)

    def advance(self, alphas: Sequence[Tensor], progress: float) -> None:
        """Fix as many layers as are due when ``progress``, a share of the steps, is done.

        The first is due at `START`; the last one learns alone for the same share of the steps as each before it.
        """
        layers = len(alphas)
        due = 0 if progress < START else int((progress - START) / (1 - START) * layers + 1e-9) + 1
        while len(self.scores) < min(due, layers - 1):
            self._fix_surest(alphas)

    @torch.no_grad()
    def _fix_surest(self, alphas: Sequence[Tensor]) -> None:
        probabilities = self.relaxation.probabilities(alphas)
        still_open = [layer for layer in range(len(alphas)) if layer not in self.scores]
        layer = max(still_open, key=lambda index: self._margin(probabilities[index]))
        kept = torch.topk(probabilities[layer], min(self.k, len(probabilities[layer]))).indices
        self.scores[layer] = probabilities[layer].tolist()
        self.relaxation.open[layer] = tuple(sorted(kept.tolist()))

    def _margin(self, probabilities: Tensor) -> float:
        """How far the k-th best is above the next one; a layer without a next one has nothing to decide."""
        best = torch.topk(probabilities, min(self.k + 1, len(probabilities))).values
        return float(best[self.k - 1] - best[self.k]) if len(best) > self.k else 1.0

    def all_scores(self, alphas: Sequence[Tensor]) -> list[list[float]]:
        """The probabilities by which each layer was fixed, of the open ones those of now."""
        with torch.no_grad():
            now = self.relaxation.probabilities(alphas)
        return [self.scores.get(layer, p.tolist()) for layer, p in enumerate(now)]

    def state(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "scores": {str(layer): row for layer, row in self.scores.items()},
            "open": {str(layer): list(kept) for layer, kept in self.relaxation.open.items()},
        }

    def load(self, state: Mapping[str, Any]) -> None:
        self.scores = {int(layer): list(row) for layer, row in state["scores"].items()}
        self.relaxation.open = {int(layer): tuple(kept) for layer, kept in state["open"].items()}
