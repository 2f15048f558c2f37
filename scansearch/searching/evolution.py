"""Evolution: which genotypes are best as sub-networks with inherited weights, and at what cost.

NSGA-II (Deb et al. 2002, through Optuna) over genotypes, as in single path one-shot search (arXiv 1904.00420,
section 3.4), with two objectives: the validation loss of the sub-network and its cost. No genotype is scored
twice, one outside the budgets never. Several processes work on one search when they are given the same journal
file: what one of them has scored or is scoring, no other one scores.

Randomness is a pure function of the seed and the number of proposals made so far, so one process that continues
from its journal goes on as if it had never stopped.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from scansearch.directions import Layers
from scansearch.errors import InputError, RunStopped
from scansearch.records.costs import Costs
from scansearch.searching.genotypes import Genotypes
from scansearch.searching.shared_study import SharedStudy


@dataclass(frozen=True)
class Scored:
    """One sub-network: its directions, its mean validation loss (nats), and its cost (0 without ``Costs``)."""

    layers: Layers
    loss: float
    cost: float


@dataclass(frozen=True)
class Evolution:
    """What :func:`evolve` found.

    Attributes:
        candidates: direction names of every layer.
        measure: what ``cost`` counts, or None where all genotypes count as equally expensive.
        scored: every genotype that was scored, in the order of the proposals; none twice.
    """

    candidates: Layers
    measure: str | None
    scored: tuple[Scored, ...]

    @cached_property
    def front(self) -> tuple[Scored, ...]:
        """The genotypes that none beats in both loss and cost, cheapest first; ties go to the first name."""
        front: list[Scored] = []
        for one in sorted(self.scored, key=lambda one: (one.cost, one.loss, one.layers)):
            if not front or one.loss < front[-1].loss:
                front.append(one)
        return tuple(front)

    @property
    def best(self) -> Scored:
        """The genotype with the lowest loss; ties go to the cheapest, then to the first name."""
        return self.front[-1]

    def marginal_scores(self, ridge: float = 1.0) -> list[list[float]]:
        """How much each candidate of each layer lowers the loss (nats), other directions being equal.

        The coefficients of an additive model of -loss, fitted to all scored genotypes by least squares with a
        ``ridge`` penalty. So the summed score that :func:`scansearch.derive` maximises is what that model
        predicts; a candidate that was never scored gets 0, which is the mean.
        """
        names = [(layer, name) for layer, allowed in enumerate(self.candidates) for name in allowed]
        chosen = np.array(
            [[name in one.layers[layer] for layer, name in names] for one in self.scored], float
        )
        gain = -np.array([one.loss for one in self.scored])
        design = chosen - chosen.mean(0)
        penalised = np.vstack([design, math.sqrt(ridge) * np.eye(len(names))])
        target = np.concatenate([gain - gain.mean(), np.zeros(len(names))])
        values = iter(np.linalg.lstsq(penalised, target, rcond=None)[0].tolist())
        return [[next(values) for _ in allowed] for allowed in self.candidates]

    def to_json(self) -> str:
        """Candidates, measure, everything scored, and which of it is the front (as positions in that list)."""
        content = asdict(self) | {"schema": 1, "front": [self.scored.index(one) for one in self.front]}
        return json.dumps(content, indent=1) + "\n"


def evolve(
    candidates: Sequence[Sequence[str]],
    loss: Callable[[Layers], float],
    *,
    k: int | None = None,
    k_min: int = 1,
    k_max: int | None = None,
    costs: Costs | None = None,
    measure: str = "flops",
    budgets: Mapping[str, float] | None = None,
    evaluations: int = 100,
    population: int = 20,
    seed: int = 0,
    journal: str | Path | None = None,
) -> Evolution:
    """Search the genotypes with ``k`` (or ``k_min`` to ``k_max``) directions per layer by NSGA-II.

    The first generation covers every candidate of every layer; after ``evaluations`` genotypes, or when no new
    feasible one is found, it ends.

    Args:
        candidates: direction names of every layer.
        loss: the loss to minimise, for a tuple of direction names per layer in candidate order.
        costs: what directions cost; their total in ``measure`` is the second objective.
        budgets: upper limits by measure (needs ``costs``); a genotype above one is never scored.
        evaluations: scored genotypes of the whole search, over all its processes.
        population: parents kept from one generation to the next.
        journal: a file that several processes may share, or that continues a search which was interrupted; it
            holds one search for each set of candidates, sizes, budgets and ``seed``.

    Raises:
        InputError: sizes, measures or budgets that cannot be; no genotype within the budgets was found.
        RunStopped: the loss of a sub-network is not finite.
    """
    genotypes = Genotypes(candidates, k, k_min, k_max, costs, measure, budgets or {})
    if evaluations < 1 or population < 2:
        raise InputError(
            f"evolution needs at least 1 evaluation and a population of 2, not {evaluations}, {population}"
        )
    study = SharedStudy(genotypes, population, seed, Path(journal) if journal is not None else None)
    while (proposal := study.propose(evaluations)) is not None:
        trial, layers = proposal
        try:
            value = loss(layers)
        except RunStopped:
            study.give_up(trial)
            raise
        if not math.isfinite(value):
            study.give_up(trial)
            raise RunStopped(f"the loss of sub-network {layers} is {value}")
        study.record(trial, value, genotypes.cost(layers))
    scored = tuple(Scored(*one) for one in study.scored())
    return Evolution(genotypes.candidates, measure if costs is not None else None, scored)
