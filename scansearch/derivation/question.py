"""The question that a derivation answers: items to choose from, how many, what is wished, what may be spent."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from scansearch.derivation.wishes import Rule, Wishes
from scansearch.directions import FLIP, Layers, parse_direction
from scansearch.errors import InputError
from scansearch.records.costs import Costs, CostTable
from scansearch.records.preferences import Preferences
from scansearch.text import choices

Chosen = Sequence[NDArray[np.bool_]]


@dataclass(frozen=True)
class Question:
    """One derivation. An item is a candidate, or with ``pair_flips`` a candidate and its reverse.

    Attributes:
        preferences: the mean over seeds.
        least, most: directions per layer.
        items: per layer, the candidate indices of each item, in alphabetical order of their names.
        forced, banned: per layer, per item.
        tables: by measure, latency without the differences below its noise; empty without costs.
        budgets: by measure, the largest total.
        rules: require, forbid and pair_flips in words.
    """

    preferences: Preferences
    least: Sequence[int]
    most: Sequence[int]
    items: Sequence[Sequence[tuple[int, ...]]]
    forced: Chosen
    banned: Chosen
    costs: Costs | None
    tables: Mapping[str, CostTable]
    budgets: Mapping[str, float]
    rules: Sequence[str]

    @classmethod
    def build(
        cls,
        preferences: Preferences,
        wishes: Wishes,
        costs: Costs | None,
        offered: Sequence[int] | None = None,
    ) -> Question:
        """Check the wishes against the candidates; ``offered`` as in :meth:`Wishes.sizes`.

        Raises:
            InputError: naming the first contradiction.
        """
        least, most = wishes.sizes(preferences, offered)
        tables = _tables(preferences, costs, wishes.limits)
        pair_flips = wishes.pair_flips
        required = _by_layer(wishes.require, preferences, "require")
        forbidden = _by_layer(wishes.forbid, preferences, "forbid")
        items, forced, banned = [], [], []
        for layer, names in enumerate(preferences.candidates):
            both = sorted(required[layer] & forbidden[layer])
            if both:
                raise InputError(f"layer {layer}: {both[0]!r} is both required and forbidden")
            groups = _pairs(names) if pair_flips else [(index,) for index in range(len(names))]
            groups.sort(key=lambda group: names[group[0]])
            required_items = [any(names[index] in required[layer] for index in group) for group in groups]
            banned_items = [
                any(names[index] in forbidden[layer] for index in group) or (pair_flips and len(group) == 1)
                for group in groups
            ]
            for group, is_required, is_banned in zip(groups, required_items, banned_items, strict=True):
                if is_required and is_banned:
                    label = " with ".join(names[index] for index in group)
                    raise InputError(
                        f"layer {layer}: {label} is required, but pair_flips and forbid rule it out"
                    )
            if pair_flips and least[layer] == most[layer] and least[layer] % 2:
                raise InputError(f"k = {least[layer]} with pair_flips: k must be even")
            size = 2 if pair_flips else 1
            need, left = size * sum(required_items), size * (len(groups) - sum(banned_items))
            if need > most[layer]:
                raise InputError(
                    f"layer {layer}: {need} directions are required, but at most {most[layer]} allowed"
                )
            if left < least[layer] or (pair_flips and most[layer] - most[layer] % 2 < least[layer]):
                raise InputError(
                    f"layer {layer}: {least[layer]} directions are needed, but the wishes leave {left} to choose from"
                )
            items.append(groups)
            forced.append(np.array(required_items))
            banned.append(np.array(banned_items))
        rules = [*_describe("required", wishes.require), *_describe("forbidden", wishes.forbid)]
        if pair_flips:
            rules.append("each direction comes with its reverse")
        return cls(preferences, least, most, items, forced, banned, costs, tables, wishes.limits, rules)

    def without_budgets(self) -> Question:
        return replace(self, budgets={})

    def per_item(self, table: Sequence[Sequence[float]]) -> list[list[float]]:
        """A table [layers, candidates] summed over the candidates of each item."""
        return [
            [math.fsum(row[index] for index in group) for group in groups]
            for row, groups in zip(table, self.items, strict=True)
        ]

    def sizes(self) -> list[NDArray[np.int64]]:
        return [np.array([len(group) for group in groups], dtype=np.int64) for groups in self.items]

    def layers(self, chosen: Chosen) -> Layers:
        """Direction names of a choice, in candidate order."""
        return tuple(
            tuple(self.preferences.candidates[layer][index] for index in sorted(indices))
            for layer, indices in enumerate(self._indices(chosen))
        )

    def _indices(self, chosen: Chosen) -> Iterator[list[int]]:
        for groups, taken in zip(self.items, chosen, strict=True):
            yield [index for group, take in zip(groups, taken, strict=True) if take for index in group]

    def objective(self, chosen: Chosen) -> float:
        indices = enumerate(self._indices(chosen))
        return math.fsum(self.preferences.scores[layer][index] for layer, row in indices for index in row)

    def total(self, measure: str, chosen: Chosen) -> float:
        """Cost of a choice, correctly rounded."""
        table = self.tables[measure]
        indices = enumerate(self._indices(chosen))
        return math.fsum(
            [table.fixed, *(table.table[layer][index] for layer, row in indices for index in row)]
        )

    def spent(self, chosen: Chosen) -> dict[str, float]:
        return {measure: self.total(measure, chosen) for measure in self.tables}

    def within_budgets(self, chosen: Chosen) -> bool:
        """Whether a choice is within every budget."""
        return all(self.total(measure, chosen) <= limit for measure, limit in self.budgets.items())

    def describe_k(self) -> str:
        ranges = [
            str(low) if low == high else f"{low}..{high}"
            for low, high in zip(self.least, self.most, strict=True)
        ]
        return ranges[0] if len(set(ranges)) == 1 else "per layer: " + " ".join(ranges)


def _tables(
    preferences: Preferences, costs: Costs | None, budgets: Mapping[str, float]
) -> dict[str, CostTable]:
    for measure, limit in budgets.items():
        if math.isnan(limit):
            raise InputError(f"max_{measure} is not a number")
        if costs is None:
            raise InputError(f"max_{measure} needs costs: what each direction costs in each layer")
        if measure not in costs.measures:
            raise InputError(
                f"max_{measure} needs {measure} in the costs, which have {', '.join(costs.measures)} only"
            )
    if costs is None:
        return {}
    for field in ("space", "variant"):
        ours, theirs = getattr(preferences, field), getattr(costs, field)
        if theirs is not None and theirs != ours:
            raise InputError(f"the costs are of {field} {theirs!r}, the preferences of {ours!r}")
    if costs.candidates != preferences.candidates:
        raise InputError("costs and preferences have different candidates")
    tables = costs.tables()
    levelled = costs.levelled_latency()
    if levelled is not None:
        tables["latency_ms"] = levelled
    return tables


def _by_layer(rule: Rule | None, preferences: Preferences, word: str) -> list[set[str]]:
    layers = len(preferences.candidates)
    if rule is None:
        return [set() for _ in range(layers)]
    if isinstance(rule, str):
        raise InputError(f"{word}: give a list of directions, not the single text {rule!r}")
    if isinstance(rule, Mapping):
        for layer in rule:
            if layer not in range(layers):
                raise InputError(f"{word}: layer {layer!r} does not exist (allowed: 0..{layers - 1})")
        names = [set(rule.get(layer, ())) for layer in range(layers)]
    else:
        names = [set(rule)] * layers
        offered = {name for candidates in preferences.candidates for name in candidates}
        if word == "forbid":  # what a layer does not offer needs no forbidding there
            names = [
                rule_names & set(candidates) | (rule_names - offered)
                for rule_names, candidates in zip(names, preferences.candidates, strict=True)
            ]
    for layer, (layer_names, candidates) in enumerate(zip(names, preferences.candidates, strict=True)):
        for name in sorted(layer_names):
            parse_direction(name)
            if name not in candidates:
                raise InputError(
                    f"{word}: {name!r} is no candidate of layer {layer} {choices(name, candidates)}"
                )
    return names


def _pairs(names: Sequence[str]) -> list[tuple[int, ...]]:
    """Candidate indices grouped with their reverse, the unflipped one first."""
    groups: dict[str, list[int]] = {}
    for index in sorted(range(len(names)), key=lambda index: names[index].endswith(FLIP)):
        groups.setdefault(names[index].removesuffix(FLIP), []).append(index)
    return [tuple(group) for group in groups.values()]


def _describe(word: str, rule: Rule | None) -> list[str]:
    if not rule:
        return []
    if isinstance(rule, Mapping):
        layers = "; ".join(f"layer {layer}: {' '.join(rule[layer])}" for layer in sorted(rule))
        return [f"{word} in {layers}"]
    return [f"{word} in every layer: {' '.join(rule)}"]
