"""The genotypes that an evolution may propose, and their genes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scansearch.directions import Layers
from scansearch.errors import InputError
from scansearch.records.costs import Costs
from scansearch.text import choices


class Genotypes:
    """Which genotypes there are, which of them are feasible, and how numbers in [0, 1] (genes) describe one.

    A layer's genes are one key per candidate and, where it may vary, the number of directions: the candidates
    with the largest keys are chosen. So any crossing of two genotypes is a genotype.
    """

    def __init__(
        self,
        candidates: Sequence[Sequence[str]],
        k: int | None,
        k_min: int,
        k_max: int | None,
        costs: Costs | None,
        measure: str,
        budgets: Mapping[str, float],
    ) -> None:
        self.candidates: Layers = tuple(tuple(names) for names in candidates)
        smallest = min(len(names) for names in self.candidates)
        if k is not None and (k_min != 1 or k_max is not None):
            raise InputError("give either k, or k_min and k_max")
        low, high = (k_min, k_max) if k is None else (k, k)
        if not 1 <= low <= smallest or (high is not None and high < low):
            raise InputError(
                f"{low} to {high} directions per layer: allowed are 1 to {smallest}, lowest first"
            )
        self.sizes = [(low, min(high or len(names), len(names))) for names in self.candidates]
        if costs is None and budgets:
            raise InputError("budgets need costs")
        if costs is not None:
            if costs.candidates != self.candidates:
                raise InputError("the costs are those of other candidates")
            for name in (measure, *budgets):
                if name not in costs.measures:
                    raise InputError(f"measure {name!r} is not in the costs {choices(name, costs.measures)}")
        self.costs, self.measure, self.budgets = costs, measure, dict(budgets)

    def cost(self, layers: Layers) -> float:
        return self.costs.of(layers)[self.measure] if self.costs is not None else 0.0

    def feasible(self, layers: Layers) -> bool:
        if self.costs is None or not self.budgets:
            return True
        totals = self.costs.of(layers)
        return all(totals[name] <= limit for name, limit in self.budgets.items())

    def distributions(self) -> dict[str, Any]:
        from optuna.distributions import FloatDistribution, IntDistribution

        genes: dict[str, Any] = {}
        for layer, (names, (low, high)) in enumerate(zip(self.candidates, self.sizes, strict=True)):
            genes |= {f"{layer}.{name}": FloatDistribution(0.0, 1.0) for name in names}
            if low < high:
                genes[f"{layer}.k"] = IntDistribution(low, high)
        return genes

    def decode(self, genes: Mapping[str, float]) -> Layers:
        layers = []
        for layer, (names, (low, _)) in enumerate(zip(self.candidates, self.sizes, strict=True)):
            count = int(genes.get(f"{layer}.k", low))
            best = set(sorted(names, key=lambda name: -genes[f"{layer}.{name}"])[:count])
            layers.append(tuple(name for name in names if name in best))
        return tuple(layers)

    def encode(self, layers: Layers, generator: np.random.Generator) -> dict[str, float]:
        genes: dict[str, float] = {}
        for layer, (names, (low, high)) in enumerate(zip(self.candidates, self.sizes, strict=True)):
            keys = np.sort(generator.random(len(names))).tolist()
            genes |= {f"{layer}.{name}": keys.pop() for name in names if name in layers[layer]}
            genes |= {f"{layer}.{name}": keys.pop() for name in names if name not in layers[layer]}
            if low < high:
                genes[f"{layer}.k"] = len(layers[layer])
        return genes

    def random(self, generator: np.random.Generator) -> Layers:
        return self._ordered(
            generator.permutation(names)[: generator.integers(low, high + 1)].tolist()
            for names, (low, high) in zip(self.candidates, self.sizes, strict=True)
        )

    def covering(self, generator: np.random.Generator) -> list[Layers]:
        """Few genotypes that hold every candidate of every layer: first of the most directions, then of the fewest."""
        genotypes = []
        for end in (1, 0) if self.sizes != [(low, low) for low, _ in self.sizes] else (0,):
            counts = [size[end] for size in self.sizes]
            decks = [generator.permutation(names).tolist() for names in self.candidates]
            groups = max(-(-len(deck) // count) for deck, count in zip(decks, counts, strict=True))
            genotypes += [
                self._ordered(
                    [deck[(group * count + i) % len(deck)] for i in range(count)]
                    for deck, count in zip(decks, counts, strict=True)
                )
                for group in range(groups)
            ]
        return genotypes

    def _ordered(self, chosen: Any) -> Layers:
        pairs = zip(self.candidates, chosen, strict=True)
        return tuple(tuple(name for name in names if name in layer) for names, layer in pairs)

    def name(self, seed: int, *way: object) -> str:
        """A name that only the same problem, proposed for in the same ``way``, has; none is that of NSGA-II."""
        costs = self.costs.to_json() if self.costs is not None else ""
        content = json.dumps([self.candidates, self.sizes, self.measure, self.budgets, costs, seed, *way])
        return f"evolution-{hashlib.sha256(content.encode()).hexdigest()[:16]}"
