"""How far to trust a search: does it learn from order, spread and margins against noise, collapse, discretisation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scansearch.data.order_free import OrderFreeBar
from scansearch.directions import FLIP
from scansearch.records.genotype import Genotype
from scansearch.records.heads import FIGURES
from scansearch.records.preferences import Preferences

# A layer has collapsed when its entropy is below this share of the largest possible one.
_COLLAPSED = 0.05
_RECENT_EPOCHS = 3
# Supernets on labels drawn at random spread a layer's alphas by 0.4 to 0.9 of a random walk, planted directions by 1.5
# and more; see experiments/results/noise.md.
_CHANCE_SPREAD = 1.0


@dataclass(frozen=True)
class LayerDiagnosis:
    """One layer of a search.

    Attributes:
        entropy: of the gate probabilities, as a share of its largest value: 1 is undecided, 0 is one-hot.
        margin: the least wanted chosen direction over the most wanted one left out; None where all are chosen.
        noise: standard deviation of that margin over the last epochs; None where there are too few, or where
            the preferences are not the gates.
        spread: standard deviation of the layer's alphas, over what a random walk of their steps has: 1 and less is
            what noise gives. None where it is not known.
    """

    entropy: float
    margin: float | None
    noise: float | None
    spread: float | None = None


@dataclass(frozen=True)
class Diagnosis:
    """A whole search. ``gaps`` holds supernet minus sub-network with inherited weights, on validation."""

    layers: tuple[LayerDiagnosis, ...]
    gaps: Mapping[str, float]
    warnings: tuple[str, ...]


def diagnose(
    preferences: Preferences,
    genotype: Genotype,
    epochs: Sequence[Mapping[str, Any]],
    *,
    supernet: Mapping[str, float],
    subnetwork: Mapping[str, float],
    learned_epochs: int | None = None,
    mirrors: bool = False,
    order_free: OrderFreeBar | None = None,
    walk: float | None = None,
) -> Diagnosis:
    """Look a finished search over.

    Args:
        epochs: the ``epoch`` records of its metrics, with ``probabilities`` [layers, candidates].
        supernet, subnetwork: ``loss`` and the task's figures on the validation split, of the supernet with its expected
            gates and of the sub-network with inherited weights that has the genotype's directions.
        learned_epochs: epochs in which the alphas were free to learn; None where it is not known.
        mirrors: whether training images were mirrored at times.
        order_free: what a classifier reaches that sees no order of the pixels; None where it was not asked.
        walk: standard deviation of an alpha that moves at random, see :func:`random_walk`; None for alphas that are
            not softmax's, or that do not learn.
    """
    layers: list[LayerDiagnosis] = []
    warnings: list[str] = []
    learned = order_free is None or supernet["accuracy"] >= _least_accuracy(order_free)
    if order_free is not None and not learned:
        warnings.append(
            f"the supernet reaches {supernet['accuracy']:.1f} % of the validation images, a classifier that sees their "
            f"values in no order {order_free.accuracy:.1f} %: it has learned nothing from the order of tokens, so "
            "these preferences are noise (more epochs, or data that can be told apart, would help)"
        )
    for index, names in enumerate(genotype.layers):
        candidates = preferences.candidates[index]
        chosen = [candidates.index(name) for name in names]
        probabilities = (
            epochs[-1]["probabilities"][index] if epochs else [1 / len(candidates)] * len(candidates)
        )
        margin = _margin(preferences.scores[index], chosen)
        noise = _noise(epochs, index, chosen) if preferences.selection == "magnitude" else None
        spread = None if walk is None or not epochs else _spread(probabilities) / walk
        layers.append(LayerDiagnosis(_entropy(probabilities), margin, noise, spread))
        if not learned:
            continue
        if layers[-1].entropy < _COLLAPSED:
            top = candidates[max(range(len(candidates)), key=probabilities.__getitem__)]
            warnings.append(
                f"layer {index} has collapsed on {top}: the directions chosen beside it were hardly trained "
                "(a lower alphas.lr or a higher temperature helps)"
            )
        elif spread is not None and spread < _CHANCE_SPREAD:
            warnings.append(
                f"layer {index}: the preferences differ no more than chance makes them differ ({spread:.2f} of a "
                "random walk of as many steps); more epochs, or `scansearch run --verify 5`, would tell"
            )
        elif margin is not None and noise is not None and margin < 2 * noise:
            last, first = _tied(candidates, preferences.scores[index], chosen)
            if last.removesuffix(FLIP) != first.removesuffix(FLIP):  # of a scan and its reverse either may do
                warnings.append(
                    f"layer {index}: {last} was chosen before {first} within the noise of the last epochs (margin "
                    f"{margin:.4f}, noise {noise:.4f}); more epochs, or `scansearch run --verify 5`, would tell"
                )
    if preferences.selection == "magnitude" and len(epochs) < _RECENT_EPOCHS:
        warnings.append(
            f"too few epochs to tell the margins from noise ({len(epochs)}; at least {_RECENT_EPOCHS} are needed)"
        )
        if learned_epochs is not None and learned_epochs < 1:
            warnings.append(
                "the alphas never learned: they are frozen for the first alphas.warmup_epochs epochs, and there were "
                "no more: this genotype is chance"
            )
    if mirrors:
        warnings.append(
            "training images were mirrored at times (augment.flip), after which a direction and its mirror image see "
            "the same: their preferences cannot be told apart by which way things face"
        )
    measure = next(name for name in FIGURES if name in supernet)
    gaps = {name: supernet[name] - subnetwork[name] for name in ("loss", measure)}
    if gaps[measure] > 20:
        warnings.append(
            f"the discretisation gap is {gaps[measure]:.1f} points of validation {FIGURES[measure]}: the supernet "
            "leans on branches that the genotype leaves out"
        )
    return Diagnosis(tuple(layers), gaps, tuple(warnings))


def _entropy(probabilities: Sequence[float]) -> float:
    total = sum(probabilities)
    shares = [p / total for p in probabilities if p > 0]
    if len(probabilities) == 1:
        return 1.0
    return -sum(share * math.log(share) for share in shares) / math.log(len(probabilities))


def random_walk(lr: float, steps: int) -> float:
    """Standard deviation of an alpha after ``steps`` steps of Adam with learning rate ``lr`` on gradients of noise.

    Adam divides each gradient by its own size, so a step of a noisy one has deviation ``lr``.
    """
    return lr * math.sqrt(steps)


def _least_accuracy(bar: OrderFreeBar) -> float:
    """What is above ``bar`` by more than two standard errors, percent."""
    share = min(max(bar.accuracy / 100, 1 / bar.images), 1 - 1 / bar.images)
    return bar.accuracy + 200 * math.sqrt(share * (1 - share) / bar.images)


def _spread(probabilities: Sequence[float]) -> float:
    """Standard deviation of the alphas behind softmax ``probabilities``."""
    logs = [math.log(max(p, 1e-30)) for p in probabilities]
    if len(logs) < 2:
        return math.inf
    mean = math.fsum(logs) / len(logs)
    return math.sqrt(math.fsum((log - mean) ** 2 for log in logs) / (len(logs) - 1))


def _tied(candidates: Sequence[str], scores: Sequence[float], chosen: Sequence[int]) -> tuple[str, str]:
    """The least wanted chosen candidate, and the most wanted one left out."""
    left_out = [index for index in range(len(scores)) if index not in chosen]
    last, first = min(chosen, key=scores.__getitem__), max(left_out, key=scores.__getitem__)
    return candidates[last], candidates[first]


def _margin(scores: Sequence[float], chosen: Sequence[int]) -> float | None:
    left_out = [score for index, score in enumerate(scores) if index not in chosen]
    return min(scores[index] for index in chosen) - max(left_out) if left_out else None


def _noise(epochs: Sequence[Mapping[str, Any]], layer: int, chosen: Sequence[int]) -> float | None:
    margins = [_margin(record["probabilities"][layer], chosen) for record in epochs[-_RECENT_EPOCHS:]]
    known = [margin for margin in margins if margin is not None]
    if len(known) < _RECENT_EPOCHS:
        return None
    mean = sum(known) / len(known)
    return math.sqrt(sum((margin - mean) ** 2 for margin in known) / (len(known) - 1))
