"""From a trained supernet to :class:`Preferences`: which candidates are wanted in each layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from scansearch._version import __version__
from scansearch.models.merge import LayerGates
from scansearch.records.preferences import Preferences
from scansearch.records.provenance import Provenance
from scansearch.searching.evolution import Evolution, evolve
from scansearch.searching.relaxations import Relaxation, expected_gates
from scansearch.searching.strategies import SELECTIONS

if TYPE_CHECKING:
    from scansearch.searching.task import SearchTask

Score = Callable[[Sequence[LayerGates]], float]


@torch.no_grad()
def magnitude(relaxation: Relaxation, alphas: Sequence[Tensor]) -> list[Tensor]:
    """The gate probabilities themselves, one tensor [candidates] per layer (LocalMamba, section 3.3)."""
    return [p.detach() for p in relaxation.probabilities(alphas)]


@torch.no_grad()
def perturbation(
    relaxation: Relaxation, alphas: Sequence[Tensor], loss: Score, temperature: float = 1.0
) -> list[Tensor]:
    """How much the validation loss rises when one branch of one layer is removed (arXiv 2108.04392, section 4).

    ``loss`` maps gates to the supernet's mean validation loss in nats. The other gates of that layer are scaled
    so that their sum stays; all other layers keep all their branches. Layers x candidates + 1 evaluations. A layer's
    only branch scores 0, as do those that narrowing removed before. All layers are scored on one trained supernet,
    where the paper fixes a layer, trains on, and scores the next. Supernets whose branches were sampled are scored as
    a mixture of all branches, which they were never trained as.
    """
    full = expected_gates(relaxation, alphas, temperature)
    base = loss(full)
    layers = []
    for index, (layer, alpha) in enumerate(zip(full, alphas, strict=True)):
        drops = torch.zeros(len(alpha), dtype=torch.float64)
        for removed in layer.active if len(layer.active) > 1 else ():  # else nothing would be left to compute
            kept = [at for at, branch in enumerate(layer.active) if branch != removed]
            values = layer.values[kept]
            values = values * (layer.values.sum() / values.sum())
            rest = LayerGates(values, tuple(layer.active[at] for at in kept))
            drops[removed] = loss([*full[:index], rest, *full[index + 1 :]]) - base
        layers.append(drops)
    return layers


@dataclass(frozen=True)
class Selection:
    """Scores [layers, candidates], a larger one is better, and the sub-networks that ``evolution`` scored."""

    scores: list[list[float]]
    evolution: Evolution | None = None


def by_magnitude(task: SearchTask) -> Selection:
    """:func:`magnitude` of a finished search."""
    return Selection(gate_scores(task))


def by_narrowing(task: SearchTask) -> Selection:
    """:func:`gate_scores` of a finished search whose layers were fixed on the way."""
    return Selection(gate_scores(task))


def gate_scores(task: SearchTask) -> list[list[float]]:
    """:func:`magnitude`; of layers that narrowing fixed, the probabilities by which they were."""
    if task.narrowing is not None:
        return task.narrowing.all_scores(task.supernet.alphas)
    return _lists(magnitude(task.relaxation, task.supernet.alphas))


def by_perturbation(task: SearchTask) -> Selection:
    """:func:`perturbation` of a finished search, on the validation split."""
    scores = perturbation(task.relaxation, task.supernet.alphas, task.validation_loss, task.temperature)
    return Selection(_lists(scores))


def by_evolution(task: SearchTask) -> Selection:
    """What each candidate adds to sub-networks of ``task.config.k`` directions per layer, on the validation split.

    See :meth:`Evolution.marginal_scores`.
    """
    config = task.config
    evolution = evolve(
        task.supernet.candidates,
        lambda layers: task.validation_loss(task.subnetwork(layers)),
        k=config.k,
        costs=task.costs,
        evaluations=config.evolution.evaluations,
        proposals=config.evolution.proposals,
        population=config.evolution.population,
        seed=config.seed,
    )
    return Selection(evolution.marginal_scores(), evolution)


def select(task: SearchTask) -> Selection:
    """The selection that ``task.config`` names."""
    selection: Selection = SELECTIONS.load(task.config.selection)(task)
    return selection


def as_preferences(task: SearchTask, selection: str, scores: list[list[float]], *, run: str) -> Preferences:
    """The ``scores`` of a search under the name of the ``selection`` that made them; ``run`` is its folder's name."""
    config, space = task.config, task.space
    return Preferences(
        space=space.name,
        variant=config.variant or space.default_variant,
        selection=selection,
        candidates=task.supernet.candidates,
        scores=tuple(tuple(row) for row in scores),
        provenance=Provenance(
            strategy=config.strategy,
            selection=selection,
            data=config.data,
            treatment=task.data.treatment,
            seeds=(config.seed,),
            epochs=config.epochs,
            runs=(run,),
            scansearch=__version__,
        ),
    )


def _lists(layers: Sequence[Tensor]) -> list[list[float]]:
    return [layer.tolist() for layer in layers]
