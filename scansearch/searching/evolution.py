"""Evolution: which genotypes are best as sub-networks with inherited weights, and at what cost.

There are two objectives: the validation loss of the sub-network and its cost. Genotypes are proposed one by one, by a
Bayesian model of the loss (:mod:`scansearch.searching.proposals`) or, as in single path one-shot search (arXiv
1904.00420, section 3.4), by NSGA-II (Deb et al. 2002, through Optuna). No genotype is scored twice, one outside the
budgets never. Several processes work on one search when they are given the same journal file: what one of them has
scored or is scoring, no other one scores.

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
from scansearch.searching.genotype_model import Effects, GenotypeModel, Variances
from scansearch.searching.genotypes import Genotypes
from scansearch.searching.proposals import Proposals
from scansearch.searching.shared_study import SharedStudy
from scansearch.text import choices

PROPOSALS = ("model", "nsga2")
POPULATION = 20


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

    def expected_losses(self) -> list[float]:
        """What the model of all scores expects of each of ``scored`` (nats): its loss without what no effect explains.

        Where losses are noisy, as on few validation images, the lowest one is partly luck; the lowest of these less
        so. See :mod:`scansearch.searching.genotype_model`.
        """
        counts = [[len(names) for names in one.layers] for one in self.scored]
        sizes = [(min(layer), max(layer)) for layer in zip(*counts, strict=True)]
        effects = Effects(self.candidates, sizes)
        rows = np.array([effects.row(one.layers) for one in self.scored])
        losses = np.array([one.loss for one in self.scored])
        model = GenotypeModel(effects, Variances.learn(effects, rows, losses), rows, losses)
        expected: list[float] = model.predict(rows)[0].tolist()
        return expected

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
    proposals: str = "model",
    population: int | None = None,
    prior: Sequence[Sequence[float]] | None = None,
    seed: int = 0,
    journal: str | Path | None = None,
) -> Evolution:
    """Search the genotypes with ``k`` (or ``k_min`` to ``k_max``) directions per layer.

    The first proposals cover every candidate of every layer; after ``evaluations`` genotypes, or when no new
    feasible one is found, it ends.

    Args:
        candidates: direction names of every layer.
        loss: the loss to minimise, for a tuple of direction names per layer in candidate order.
        costs: what directions cost; their total in ``measure`` is the second objective.
        budgets: upper limits by measure (needs ``costs``); a genotype above one is never scored.
        evaluations: scored genotypes of the whole search, over all its processes.
        proposals: ``model`` or ``nsga2``.
        population: of ``nsga2`` only, parents kept from one generation to the next; default 20.
        prior: of ``model`` only, [layers, candidates], scores from elsewhere, of any unit, larger is better; how
            much they say is learned from the losses.
        journal: a file that several processes may share, or that continues a search which was interrupted; it
            holds one search for each set of candidates, sizes, budgets, proposals, prior and ``seed``. Searches of
            versions that knew no other proposals go on with ``nsga2``.

    Raises:
        InputError: sizes, measures, budgets, proposals or a prior that cannot be; no genotype within the budgets
            was found.
        RunStopped: the loss of a sub-network is not finite.
    """
    genotypes = Genotypes(candidates, k, k_min, k_max, costs, measure, budgets or {})
    check_options(evaluations, proposals, population)
    file = Path(journal) if journal is not None else None
    if proposals == "nsga2":
        if prior is not None:
            raise InputError("a prior goes with proposals 'model' only")
        way: Proposals | int = POPULATION if population is None else population
        study = SharedStudy(genotypes, way, genotypes.name(seed), seed, file)
    else:
        scores = None if prior is None else _checked(prior, genotypes)
        study = SharedStudy(
            genotypes, Proposals(genotypes, scores), genotypes.name(seed, proposals, scores), seed, file
        )
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


def check_options(evaluations: int, proposals: str, population: int | None) -> None:
    """Whether these options of :func:`evolve` go together.

    Raises:
        InputError: one line naming what is allowed.
    """
    if proposals not in PROPOSALS:
        raise InputError(f"unknown proposals {proposals!r} {choices(proposals, PROPOSALS)}")
    if evaluations < 1 or (population is not None and population < 2):
        raise InputError(
            f"evolution needs at least 1 evaluation and a population of 2, not {evaluations}, {population}"
        )
    if population is not None and proposals != "nsga2":
        raise InputError(f"a population goes with proposals 'nsga2' only, not {proposals!r}")


def _checked(prior: Sequence[Sequence[float]], genotypes: Genotypes) -> list[list[float]] | None:
    """The prior in its standard deviations; None where all scores of it are alike."""
    if [len(row) for row in prior] != [len(names) for names in genotypes.candidates]:
        raise InputError("a prior needs one score per layer and candidate")
    values = np.array([float(score) for row in prior for score in row])
    if not np.isfinite(values).all():
        raise InputError("every score of a prior must be finite")
    if values.std() == 0:
        return None
    scaled = iter((values / values.std()).tolist())
    return [[next(scaled) for _ in names] for names in genotypes.candidates]
