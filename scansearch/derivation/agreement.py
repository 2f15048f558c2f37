"""How far several seeds of one search agree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from scansearch.records.preferences import Preferences


@dataclass(frozen=True)
class SeedAgreement:
    """Agreement between seeds, per layer, as means over all pairs of seeds.

    Attributes:
        seeds: how many there are.
        tau: Kendall's tau-b of the candidates' ranking, -1 to 1; nan where a seed ranks all alike.
        overlap: share of the top-k directions that two seeds have in common, 0 to 1.
    """

    seeds: int
    tau: tuple[float, ...]
    overlap: tuple[float, ...]

    def describe(self) -> str:
        """One line."""
        known = [value for value in self.tau if not math.isnan(value)]
        overlap = math.fsum(self.overlap) / len(self.overlap)
        text = f"agreement of {self.seeds} seeds: top-k overlap {overlap:.2f}"
        if not known:
            return text + ", Kendall's tau undefined (a seed ranks all candidates alike)"
        tau = math.fsum(known) / len(known)
        return text + f", Kendall's tau {tau:.2f} (layers {min(known):.2f} to {max(known):.2f})"


def seed_agreement(several: Sequence[Preferences], sizes: Sequence[int]) -> SeedAgreement:
    """Agreement of preferences with the same candidates.

    Args:
        several: at least two, one per seed.
        sizes: k of each layer, for the overlap.
    """
    pairs = list(combinations(several, 2))
    tau, overlap = [], []
    for layer, size in enumerate(sizes):
        values = [kendall_tau(one.scores[layer], other.scores[layer]) for one, other in pairs]
        known = [value for value in values if not math.isnan(value)]
        tau.append(math.fsum(known) / len(known) if known else math.nan)
        shared = [_top(one, layer, size) & _top(other, layer, size) for one, other in pairs]
        overlap.append(math.fsum(len(names) for names in shared) / (size * len(pairs)))
    return SeedAgreement(len(several), tuple(tau), tuple(overlap))


def kendall_tau(one: Sequence[float], other: Sequence[float]) -> float:
    """Kendall's tau-b of two score lists (Kendall 1945, Biometrika 33); nan when a list is constant."""
    signs = [
        ((a > b) - (a < b), (c > d) - (c < d))
        for (a, c), (b, d) in combinations(list(zip(one, other, strict=True)), 2)
    ]
    untied = math.sqrt(sum(first != 0 for first, _ in signs)) * math.sqrt(
        sum(second != 0 for _, second in signs)
    )
    return sum(first * second for first, second in signs) / untied if untied else math.nan


def _top(preferences: Preferences, layer: int, size: int) -> set[str]:
    return {name for name, _ in preferences.ranked(layer)[:size]}
