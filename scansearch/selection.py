"""From a trained supernet to :class:`Preferences`: which candidates are wanted in each layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from scansearch.models.merge import LayerGates
from scansearch.search.relaxations import Relaxation, expected_gates

Score = Callable[[Sequence[LayerGates]], float]


@torch.no_grad()
def magnitude(relaxation: Relaxation, alphas: Sequence[Tensor]) -> list[Tensor]:
    """The gate probabilities themselves, one tensor [candidates] per layer (LocalMamba, section 3.3)."""
    return [p.detach() for p in relaxation.probabilities(alphas)]


@torch.no_grad()
def perturbation(relaxation: Relaxation, alphas: Sequence[Tensor], loss: Score) -> list[Tensor]:
    """How much the validation loss rises when one branch of one layer is removed (arXiv 2108.04392, section 4).

    ``loss`` maps gates to the supernet's mean validation loss in nats. The other gates of that layer are scaled
    so that their sum stays; all other layers keep all their branches. Layers x candidates + 1 evaluations.
    """
    full = expected_gates(relaxation, alphas)
    base = loss(full)
    layers = []
    for index, layer in enumerate(full):
        count = len(layer.active)
        drops = torch.zeros(count, dtype=torch.float64)
        for removed in range(count):
            if count == 1:
                break  # nothing would be left to compute
            kept = tuple(i for i in range(count) if i != removed)
            values = layer.values[list(kept)]
            values = values * (layer.values.sum() / values.sum())
            gates = [*full[:index], LayerGates(values, kept), *full[index + 1 :]]
            drops[removed] = loss(gates) - base
        layers.append(drops)
    return layers


def select(method: str, relaxation: Relaxation, alphas: Sequence[Tensor], loss: Score) -> list[Tensor]:
    """Scores [candidates] per layer by the selection called ``method``."""
    if method == "magnitude":
        return magnitude(relaxation, alphas)
    if method == "perturbation":
        return perturbation(relaxation, alphas, loss)
    raise ValueError(f"unknown selection {method!r} (allowed: magnitude, perturbation)")
