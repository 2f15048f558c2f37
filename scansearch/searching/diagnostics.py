"""How far to trust a search: entropy, margins against noise, collapse, and the discretisation gap."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scansearch.records.genotype import Genotype
from scansearch.records.preferences import Preferences

# A layer has collapsed when its entropy is below this share of the largest possible one.
_COLLAPSED = 0.05
_RECENT_EPOCHS = 3


@dataclass(frozen=True)
class LayerDiagnosis:
    """One layer of a search.

    Attributes:
        entropy: of the gate probabilities, as a share of its largest value: 1 is undecided, 0 is one-hot.
        margin: the least wanted chosen direction over the most wanted one left out; None where all are chosen.
        noise: standard deviation of that margin over the last epochs; None where there are too few, or where
            the preferences are not the gates.
    """

    entropy: float
    margin: float | None
    noise: float | None


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
) -> Diagnosis:
    """Look a finished search over.

    Args:
        epochs: the ``epoch`` records of its metrics, with ``probabilities`` [layers, candidates].
        supernet, subnetwork: ``loss`` and ``accuracy`` on the validation split, of the supernet with its expected
            gates and of the sub-network with inherited weights that has the genotype's directions.
        learned_epochs: epochs in which the alphas were free to learn; None where it is not known.
        mirrors: whether training images were mirrored at times.
    """
    layers, warnings = [], []
    for index, names in enumerate(genotype.layers):
        candidates = preferences.candidates[index]
        chosen = [candidates.index(name) for name in names]
        probabilities = (
            epochs[-1]["probabilities"][index] if epochs else [1 / len(candidates)] * len(candidates)
        )
        margin = _margin(preferences.scores[index], chosen)
        noise = _noise(epochs, index, chosen) if preferences.selection == "magnitude" else None
        layers.append(LayerDiagnosis(_entropy(probabilities), margin, noise))
        if layers[-1].entropy < _COLLAPSED:
            top = candidates[max(range(len(candidates)), key=probabilities.__getitem__)]
            warnings.append(
                f"layer {index} has collapsed on {top}: the directions chosen beside it were hardly trained "
                "(a lower alphas.lr or a higher temperature helps)"
            )
        elif margin is not None and noise is not None and margin < 2 * noise:
            warnings.append(
                f"layer {index}: the choice is within the noise of the last epochs "
                f"(margin {margin:.4f}, noise {noise:.4f}); more epochs, or several seeds and "
                "`scansearch derive RUN RUN ...`, would tell"
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
    gaps = {name: supernet[name] - subnetwork[name] for name in ("loss", "accuracy")}
    if gaps["accuracy"] > 20:
        warnings.append(
            f"the discretisation gap is {gaps['accuracy']:.1f} points of validation accuracy: the supernet leans on "
            "branches that the genotype leaves out"
        )
    return Diagnosis(tuple(layers), gaps, tuple(warnings))


def _entropy(probabilities: Sequence[float]) -> float:
    total = sum(probabilities)
    shares = [p / total for p in probabilities if p > 0]
    if len(probabilities) == 1:
        return 1.0
    return -sum(share * math.log(share) for share in shares) / math.log(len(probabilities))


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
