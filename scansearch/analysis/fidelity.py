"""Rank fidelity: do the cheap scores of a finished search order genotypes as training from scratch does?

A few genotypes, drawn uniformly, are trained from scratch with a small budget; their validation loss is the truth.
Against it stand the scores that the search gives them for nothing: the summed ``gates``, the validation loss with
``inherited`` weights, and the summed ``perturbation`` scores. Test images are not touched.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scansearch.derivation.agreement import kendall_tau
from scansearch.directions import Layers
from scansearch.errors import InputError
from scansearch.records.genotype import Genotype
from scansearch.records.lookup import expect_search
from scansearch.runs.finished import FinishedTrainings
from scansearch.runs.reopen import open_search
from scansearch.searching.selection import gate_scores, perturbation
from scansearch.seeding import Stream, generate
from scansearch.training.brief import BriefRecipe, brief_score

if TYPE_CHECKING:
    from scansearch.searching.task import SearchTask


@dataclass(frozen=True)
class Sample:
    """One genotype: what the search thinks of it (larger is better), and its losses (nats) from scratch."""

    layers: Layers
    scores: dict[str, float]
    losses: tuple[float, ...]

    @property
    def truth(self) -> float:
        return -math.fsum(self.losses) / len(self.losses)


@dataclass(frozen=True)
class Agreement:
    """How well one score orders the samples.

    Attributes:
        tau: Kendall's tau-b with the truth; 0 where the score does not tell any two genotypes apart.
        interval: its 5 % and 95 % quantiles, samples drawn again with replacement.
        top_k: share of the truth's best ``k`` that are among the score's best ``k``.
        top_k_by_chance: what a score that knows nothing would reach on average.
    """

    score: str
    tau: float
    interval: tuple[float, float]
    top_k: float
    top_k_by_chance: float


@dataclass(frozen=True)
class Fidelity:
    """What :func:`rank_run` gives; ``k`` is that of ``top_k``."""

    samples: tuple[Sample, ...]
    agreements: tuple[Agreement, ...]
    k: int


def rank_run(
    folder: str | Path,
    *,
    samples: int = 16,
    k: int | None = None,
    steps: int = 200,
    trainings: int = 1,
    seed: int = 0,
    observe: Callable[[Sample, int], None] = lambda sample, done: None,
) -> Fidelity:
    """Train ``samples`` genotypes of a run's space from scratch and compare their order with each score's.

    Every training is kept in ``rank/`` in the run folder at once, so an interrupted ranking goes on where it was.

    Args:
        k: directions per layer of the genotypes; default: the run's.
        steps: optimizer steps of one training; batch size, learning rate, weight decay and clipping are the run's.
        trainings: from scratch for every genotype, with different seeds; their mean is the truth.
        observe: called with each finished sample and their number so far.

    Raises:
        InputError: no usable run, fewer than 3 samples, no training or step, or a ``k`` that the space does not have.
    """
    if samples < 3 or trainings < 1 or steps < 1:
        raise InputError(
            f"ranking needs at least 3 samples, 1 training each and 1 step, not {samples}, {trainings}, {steps}"
        )
    expect_search(folder, command="rank")
    task = open_search(folder).task
    if task.config.task != "classify":
        raise InputError(
            f"rank trains classifiers briefly: the search in {str(folder)!r} is of {task.config.task}"
        )
    space = task.space
    config, size = task.config, task.config.k if k is None else k
    recipe = BriefRecipe(
        steps=steps,
        batch_size=config.batch_size,
        lr=config.weights.lr,
        weight_decay=config.weights.weight_decay,
        clip_norm=config.weights.clip_norm or math.inf,
    )
    genotypes = sample_genotypes(task.supernet.candidates, size, samples, seed)
    finished = FinishedTrainings(Path(folder) / "rank" / f"k{size}-steps{steps}-seed{seed}.json")
    scores = _score_tables(task)
    done = []
    for layers in genotypes:
        losses = []
        for training in range(trainings):
            key = {"layers": layers, "training": training}
            if (row := finished.find(key)) is None:
                genotype = Genotype.of_space(space, layers, variant=config.variant)
                score = brief_score(
                    genotype,
                    task.data,
                    recipe,
                    seed=1000 * (seed + 1) + training,
                    accelerator=task.accelerator,
                )
                row = finished.add(key, {"loss": score["loss"]})
            losses.append(row["loss"])
        done.append(Sample(layers, _scores(task, scores, layers), tuple(losses)))
        observe(done[-1], len(done))
    top = max(1, samples // 4)
    names = done[0].scores
    return Fidelity(tuple(done), tuple(agreement(name, done, top) for name in names), top)


def sample_genotypes(candidates: Sequence[Sequence[str]], k: int, count: int, seed: int) -> list[Layers]:
    """``count`` different genotypes with ``k`` directions per layer, every one equally likely.

    Raises:
        InputError: there are fewer, or a layer has fewer than ``k`` candidates.
    """
    smallest = min(len(names) for names in candidates)
    if not 1 <= k <= smallest:
        raise InputError(f"k is {k} (allowed: 1 to {smallest})")
    possible = math.prod(math.comb(len(names), k) for names in candidates)
    if count > possible:
        raise InputError(f"{count} samples asked for, but there are {possible} genotypes with k = {k}")
    generator = generate(Stream.GENOTYPES, seed)
    genotypes: dict[Layers, None] = {}
    while len(genotypes) < count:
        chosen = (sorted(generator.permutation(len(names))[:k].tolist()) for names in candidates)
        layers = tuple(
            tuple(names[i] for i in layer) for names, layer in zip(candidates, chosen, strict=True)
        )
        genotypes[layers] = None
    return list(genotypes)


def agreement(score: str, samples: Sequence[Sample], k: int, *, resamples: int = 1000) -> Agreement:
    """How well the score called ``score`` orders ``samples``, and how well it finds their best ``k``."""
    scored = np.array([sample.scores[score] for sample in samples])
    truth = np.array([sample.truth for sample in samples])
    generator = np.random.default_rng(0)
    draws = (generator.integers(0, len(samples), len(samples)) for _ in range(resamples))
    taus = [kendall_tau(scored[draw].tolist(), truth[draw].tolist()) for draw in draws]
    low, high = np.quantile(np.nan_to_num(taus), [0.05, 0.95])
    best = [set(np.argsort(-values, kind="stable")[:k].tolist()) for values in (scored, truth)]
    return Agreement(
        score=score,
        tau=float(np.nan_to_num(kendall_tau(scored.tolist(), truth.tolist()))),
        interval=(float(low), float(high)),
        top_k=len(best[0] & best[1]) / k,
        top_k_by_chance=k / len(samples),
    )


def _score_tables(task: SearchTask) -> dict[str, list[list[float]]]:
    """Additive scores [candidates] per layer; uniform gates say nothing and are left out."""
    drops = perturbation(task.relaxation, task.supernet.alphas, task.validation_loss, task.temperature)
    tables = {"perturbation": [layer.tolist() for layer in drops]}
    return {"gates": gate_scores(task), **tables} if task.relaxation.learns_alphas else tables


def _scores(task: SearchTask, tables: dict[str, list[list[float]]], layers: Layers) -> dict[str, float]:
    def total(rows: list[list[float]]) -> float:
        triples = zip(rows, layers, task.supernet.candidates, strict=True)
        return math.fsum(row[names.index(name)] for row, chosen, names in triples for name in chosen)

    summed = {name: total(rows) for name, rows in tables.items()}
    return {**summed, "inherited": -task.validation_loss(task.subnetwork(layers))}


def fidelity_json(fidelity: Fidelity) -> str:
    """Samples and agreements as JSON text."""
    return json.dumps(asdict(fidelity), indent=1) + "\n"
