"""Exact choice under budgets: pick items in every layer, maximise a summed value, stay within summed limits.

This is a multiple-choice knapsack with a few limits. SciPy's ``milp`` solves it too, but with absolute
tolerances of 1e-6, which cannot tell ties apart, and in up to 17 seconds at gap 0 for 33 layers and three
unrelated limits; so it serves as the oracle of the tests. Here all values and costs are integers, and
the proof is a Lagrangian one (Fisher 1981, Management Science 27): for any multipliers m >= 0

    value(x) <= sum over layers of max [value - m . cost] + m . limit        for every x within the limits,

so a choice whose layers lose more than the gap to the best known value cannot be optimal. The multipliers are
the duals of the linear relaxation; layers are joined one after the other, and a partial choice is kept only
while the inequality allows it to end above the best known value. When the number of kept choices passes a
width, the search goes on with the most promising ones, only to find better values, and is repeated wider;
a search that dropped nothing is a proof.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Reals = NDArray[np.float64]

_WIDTHS = (256, 4096, 32768, 262144, 2097152)
_OPTIONS = (8, 64)  # per layer, while no feasible choice is known
# Bounds are sums of at most a few hundred products of integers below 2**53: this covers their rounding.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Problem:
    """Items of every layer and what may be chosen.

    Attributes:
        sizes: per layer int64 [items], how much an item counts towards ``least`` and ``most``.
        least, most: bounds on the total size chosen in each layer.
        forced, banned: per layer bool [items].
        costs: per limit, per layer int64 [items].
        limits: largest total of each cost.
    """

    sizes: Sequence[Integers]
    least: Sequence[int]
    most: Sequence[int]
    forced: Sequence[NDArray[np.bool_]]
    banned: Sequence[NDArray[np.bool_]]
    costs: Sequence[Sequence[Integers]] = ()
    limits: Sequence[int] = ()

    def limited(self, costs: Sequence[Integers], limit: int) -> Problem:
        """The same problem with one more limit."""
        return replace(self, costs=(*self.costs, costs), limits=(*self.limits, limit))


@dataclass(frozen=True)
class Choice:
    """A best choice. ``bound`` is proven: no choice within the limits has a larger value.

    ``unique`` tells that no other choice has this value; False also where that was not established.
    """

    chosen: tuple[NDArray[np.bool_], ...]
    value: int
    bound: int
    unique: bool


def maximise(problem: Problem, values: Sequence[Integers]) -> Choice | None:
    """The choice with the largest summed value, or None when no choice keeps every limit.

    Args:
        problem: what may be chosen.
        values: per layer int64 [items]; sums of values and of costs must stay below 2**53 in magnitude.
    """
    multipliers = _multipliers(problem, values)
    if multipliers is None:
        return None
    search = _Search(problem, values, multipliers)
    best: tuple[int, list[int]] | None = None
    for number, width in enumerate(_WIDTHS):
        options = _OPTIONS[min(number, len(_OPTIONS) - 1)] if best is None else width
        found = search.run(None if best is None else best[0], width, options)
        if found.value is not None and (best is None or found.value >= best[0]):
            best = (found.value, found.masks)
        if found.complete or (best is not None and best[0] >= search.bound):
            bound = None if best is None else best[0]
            break
    else:
        found, bound = replace(found, complete=False), search.bound
    if best is None:
        if not found.complete:
            raise RuntimeError(
                "no feasible choice was found and none was excluded: the limits are too entangled"
            )
        return None
    assert bound is not None
    chosen = tuple(
        np.array([bool(mask >> item & 1) for item in range(len(row))])
        for mask, row in zip(best[1], values, strict=True)
    )
    return Choice(chosen, best[0], bound, found.complete and found.count == 1)


def _multipliers(problem: Problem, values: Sequence[Integers]) -> Reals | None:
    """Multipliers [sets, limits], first the duals of the linear relaxation; None when that is infeasible."""
    limits = len(problem.limits)
    if not limits:
        return np.zeros((1, 0))
    from scipy.optimize import linprog
    from scipy.sparse import csr_matrix

    value = np.concatenate(values).astype(float)
    value_scale = max(np.abs(value).max(), 1.0)
    costs = np.array([np.concatenate(table) for table in problem.costs], dtype=float)
    scales = np.maximum(np.abs(costs).max(1), 1.0)
    owner = np.repeat(np.arange(len(values)), [len(row) for row in values])
    sizes = np.concatenate(problem.sizes)
    rows = csr_matrix((sizes, (owner, np.arange(len(owner)))), shape=(len(values), len(owner))).toarray()
    low, high = np.concatenate(problem.forced), ~np.concatenate(problem.banned)
    result = linprog(
        -value / value_scale,
        A_ub=np.concatenate([costs / scales[:, None], rows, -rows]),
        b_ub=np.concatenate([np.array(problem.limits) / scales, problem.most, -np.asarray(problem.least)]),
        bounds=np.stack([low, high], axis=1).astype(float),
        method="highs",
    )
    if result.status == 2:
        return None
    duals = np.zeros(limits)
    if result.status == 0:  # any multipliers give a valid bound; bad ones only a wider search
        duals = np.maximum(-result.ineqlin.marginals[:limits], 0) * value_scale / scales
    sets = [duals]
    for factor in (0.5, 0.8, 1.25, 2.0):  # slack left in one limit shows in the bound of a shifted multiplier
        for limit in range(limits if limits > 1 else 0):
            sets.append(np.where(np.arange(limits) == limit, factor * duals, duals))
        sets.append(factor * duals)
    return np.array(sets if duals.any() else [duals])


@dataclass(frozen=True)
class _Found:
    value: int | None
    masks: list[int] = field(default_factory=list)
    count: int = 0
    complete: bool = True


class _Search:
    """One joining of all layers, under fixed multipliers."""

    def __init__(self, problem: Problem, values: Sequence[Integers], multipliers: Reals) -> None:
        self.problem = problem
        limits = len(problem.limits)
        self.totals = [
            np.stack([row, *(table[layer] for table in problem.costs)], axis=1)
            for layer, row in enumerate(values)
        ]
        # weights [1 + limits, sets]: totals @ weights are Lagrangian values
        self.weights = np.concatenate([np.ones((1, len(multipliers))), -multipliers.T])
        self.limits = np.array(problem.limits, dtype=np.int64).reshape(limits)
        constant = multipliers @ self.limits.astype(float)
        self.tops = np.array([self._best(layer, self.weights) for layer in range(len(values))])
        cheapest = [-self._best(layer, -np.eye(1 + limits)[:, 1:]) for layer in range(len(values))]
        self.cheapest = np.array(cheapest).reshape(len(values), limits).astype(np.int64)  # sums of integers
        self.upper = self.tops.sum(0) + constant
        self.constant = constant
        magnitude = np.abs(self.tops).sum(0) + np.abs(constant) + 1.0
        self.margin = _ROUNDING * float(magnitude.max())
        self.bound = int(np.floor(self.upper.min() + self.margin))

    def _table(self, layer: int, reduced: Reals, order: NDArray[np.intp]) -> Reals:
        """[items + 1, most + 1]: best sum of the items from there on, given the size chosen before."""
        problem = self.problem
        most = problem.most[layer]
        table = np.full((len(order) + 1, most + 1), -np.inf)
        table[-1, problem.least[layer] :] = 0.0
        for place in range(len(order) - 1, -1, -1):
            item = order[place]
            size = int(problem.sizes[layer][item])
            if not problem.forced[layer][item]:
                table[place] = table[place + 1]
            if not problem.banned[layer][item] and size <= most:
                taken = table[place + 1, size:] + reduced[item]
                table[place, : len(taken)] = np.maximum(table[place, : len(taken)], taken)
        return table

    def _best(self, layer: int, weights: Reals) -> Reals:
        """Best Lagrangian value of one layer for each column of ``weights``."""
        reduced = self.totals[layer] @ weights
        order = np.arange(len(reduced))
        return np.array([self._table(layer, column, order)[0, 0] for column in reduced.T])

    def _options(self, layer: int, floor: float, most: int) -> tuple[Integers, Integers, bool]:
        """Masks and totals of this layer's choices that the first multipliers allow to reach ``floor``."""
        problem = self.problem
        reduced = self.totals[layer] @ self.weights[:, 0]
        order = np.argsort(-reduced, kind="stable")
        table = self._table(layer, reduced, order)
        others = self.upper[0] - self.tops[layer, 0]
        masks, used, sums = np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(1)
        complete = True
        for place, item in enumerate(order):
            size = int(problem.sizes[layer][item])
            kept = [slice(None)] if not problem.forced[layer][item] else []
            parts = [(masks[part], used[part], sums[part]) for part in kept]
            if not problem.banned[layer][item]:
                parts.append((masks | 1 << int(item), used + size, sums + reduced[item]))
            masks, used, sums = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
            fits = used <= problem.most[layer]
            masks, used, sums = masks[fits], used[fits], sums[fits]
            bounds = sums + table[place + 1, used] + others
            alive = np.flatnonzero((bounds >= floor - self.margin) & (bounds > -np.inf))
            if len(alive) > most:
                complete = False
                alive = alive[np.argsort(-bounds[alive], kind="stable")[:most]]
            masks, used, sums = masks[alive], used[alive], sums[alive]
        bits = (masks[:, None] >> np.arange(len(order)) & 1).astype(np.int64)
        totals = bits @ self.totals[layer]
        able = (totals @ self.weights + (self.upper - self.tops[layer]) >= floor - self.margin).all(1)
        return masks[able], totals[able], complete

    def run(self, incumbent: int | None, width: int, most_options: int) -> _Found:
        """All choices of value at least ``incumbent``, unless a layer or the joining passes its width."""
        floor = -np.inf if incumbent is None else float(incumbent)
        layers = [self._options(layer, floor, most_options) for layer in range(len(self.totals))]
        complete = all(option[2] for option in layers)
        order = sorted(range(len(layers)), key=lambda layer: len(layers[layer][0]))
        states = np.zeros((1, self.totals[0].shape[1]), np.int64)
        rest, cheapest = self.tops.sum(0) + self.constant, self.cheapest.sum(0)
        history: list[tuple[int, NDArray[np.intp], NDArray[np.intp]]] = []
        merged = False
        for layer in order:
            _, totals, _ = layers[layer]
            rest, cheapest = rest - self.tops[layer], cheapest - self.cheapest[layer]
            joined = (states[:, None] + totals[None]).reshape(-1, states.shape[1])
            alive = np.flatnonzero((joined[:, 1:] + cheapest <= self.limits).all(1))
            bounds = joined[alive] @ self.weights[:, 0] + rest[0]
            alive, bounds = alive[bounds >= floor - self.margin], bounds[bounds >= floor - self.margin]
            if self.weights.shape[1] > 1:
                bounds = (joined[alive] @ self.weights + rest).min(1)
                alive, bounds = alive[bounds >= floor - self.margin], bounds[bounds >= floor - self.margin]
            first = _first_of_equals(joined[alive])
            if first is not None:
                merged = True
                alive, bounds = alive[first], bounds[first]
            if len(alive) > width:
                complete = False
                alive = alive[np.argsort(-bounds, kind="stable")[:width]]
            if not len(alive):
                return _Found(None, complete=complete)
            states = joined[alive]
            parents, options = np.divmod(alive, len(totals))
            history.append((layer, parents, options))
        value = int(states[:, 0].max())
        winners = np.flatnonzero(states[:, 0] == value)
        masks, state = [0] * len(layers), int(winners[0])
        for layer, parents, options in reversed(history):
            masks[layer] = int(layers[layer][0][options[state]])
            state = int(parents[state])
        return _Found(value, masks, 2 if merged else len(winners), complete)


def _first_of_equals(rows: Integers) -> NDArray[np.intp] | None:
    """Index of the first of each group of equal rows, ascending; None where all rows differ."""
    if len(rows) < 2:
        return None
    keys = rows @ (2 * np.arange(rows.shape[1], dtype=np.int64) + 1) ** 7
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    if len(first) == len(rows):
        return None
    if not (rows == rows[first[inverse]]).all():  # two different rows share a key: compare them in full
        _, first = np.unique(rows, axis=0, return_index=True)
        if len(first) == len(rows):
            return None
    return np.sort(first)
