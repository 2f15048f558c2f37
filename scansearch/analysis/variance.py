"""One-way random effects: how much of what differs between trainings is due to genotypes, and what choosing gains.

The model is ``measure = mean + genotype + training`` with independent normal effects, each training with a seed of its
own (Shrout & Fleiss 1979, "Intraclass correlations: uses in assessing rater reliability", Psychological Bulletin 86,
case 1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from scansearch.errors import InputError


@dataclass(frozen=True)
class Noise:
    """How a measure varies.

    Attributes:
        between: standard deviation between genotypes, seeds taken out.
        seeds: standard deviation between trainings of one genotype.
        icc: intraclass correlation ICC(1,1), the share of the variance of one training that the genotype explains.
        icc_interval: its 5 % and 95 % limits.
        genotypes: how many of them were trained more than once, which is what all of this rests on.
    """

    between: float
    seeds: float
    icc: float
    icc_interval: tuple[float, float]
    genotypes: int

    def gain(self, count: int) -> float:
        """How much better than a random genotype the best of ``count`` random ones is, in the unit of the measure.

        The best is chosen by one training each, so some of what it seems to gain is luck. Its expected gain is that of
        selection in breeding, R = i h^2 s (Lush 1937, Animal Breeding Plans): the expected maximum i of ``count``
        standard normals (:func:`expected_maximum`), times the deviation s of one training, times the reliability
        h^2 = ICC of one training. As s^2 ICC is the variance between genotypes, that is i * between * sqrt(ICC).
        """
        return expected_maximum(count) * self.between * math.sqrt(self.icc)


def components(groups: Sequence[np.ndarray]) -> tuple[float, float]:
    """Variance between and within groups, which may differ in size; the former is at least 0."""
    sizes = np.array([len(group) for group in groups])
    means = np.array([group.mean() for group in groups])
    total = sizes.sum()
    grand = (sizes * means).sum() / total
    within = sum(((group - group.mean()) ** 2).sum() for group in groups) / (total - len(groups))
    spread = (sizes * (means - grand) ** 2).sum() / (len(groups) - 1)
    typical = (total - (sizes**2).sum() / total) / (len(groups) - 1)
    return max(0.0, float((spread - within) / typical)), float(within)


def intraclass(between: float, within: float) -> float:
    """ICC(1,1) of two variances; 0 where nothing varies."""
    return between / (between + within) if between + within > 0 else 0.0


def balanced_noise(groups: Sequence[Sequence[float]]) -> Noise:
    """Variance components of a few groups of equally many trainings, with the exact interval of the ICC.

    With few genotypes resampling gives intervals that are too short. Under the model above,
    F = mean square between / mean square within over (1 + m ICC / (1 - ICC)), for m trainings a genotype, has the F
    distribution, which gives the limits (Shrout & Fleiss 1979). They are cut at 0 and 1.

    Raises:
        InputError: fewer than two groups, fewer than two trainings in one, or groups of different sizes.
    """
    arrays = [np.asarray(group, float) for group in groups]
    count, size = len(arrays), min(map(len, arrays), default=0)
    if count < 2 or size < 2 or any(len(array) != size for array in arrays):
        raise InputError(
            "the interval needs two or more genotypes, each trained equally often, twice or more"
        )
    between, within = components(arrays)
    spread = size * float(np.var([array.mean() for array in arrays], ddof=1))
    if within == 0:
        interval = (1.0, 1.0) if spread > 0 else (0.0, 1.0)
    else:
        freedom = (count - 1, count * (size - 1))
        ratios = (
            spread / within / f_quantile(0.95, *freedom),
            spread / within * f_quantile(0.95, *freedom[::-1]),
        )
        low, high = (min(1.0, max(0.0, (ratio - 1) / (ratio + size - 1))) for ratio in ratios)
        interval = (low, high)
    return Noise(
        between=math.sqrt(between),
        seeds=math.sqrt(within),
        icc=intraclass(between, within),
        icc_interval=interval,
        genotypes=count,
    )


@cache
def f_quantile(probability: float, above: int, below: int) -> float:
    """Quantile of the F distribution with ``above`` and ``below`` degrees of freedom.

    With F = (below / above) tan^2 t the density is sin(t)^(above - 1) cos(t)^(below - 1) up to a factor, which is
    smooth on [0, pi / 2] and is summed there.
    """
    angles = np.linspace(0, np.pi / 2, 100_001)[1:-1]
    density = (above - 1) * np.log(np.sin(angles)) + (below - 1) * np.log(np.cos(angles))
    density = np.exp(density - density.max())
    share = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    # What lies before the first angle and after the last one.
    share += density[0] / 2
    angle = np.interp(probability, share / (share[-1] + density[-1] / 2), angles)
    return float(below / above * np.tan(angle) ** 2)


def expected_maximum(count: int) -> float:
    """Expected maximum of ``count`` independent standard normals (Tippett 1925, Biometrika 17).

    It is the integral of 1 - P^count above zero less that of P^count below, P being the normal distribution function.
    """
    points = np.linspace(-10, 10, 4001)
    below = np.array([0.5 * math.erfc(-point / math.sqrt(2)) for point in points]) ** count
    height = np.where(points > 0, 1 - below, -below)
    height[len(points) // 2] = 0.5 - below[len(points) // 2]  # the middle of its jump at 0
    return float(height.sum() * (points[1] - points[0]))
