"""Exact choice under budgets: pick items in every layer, maximise a summed value, stay within summed limits.

This is a multiple-choice knapsack with a few limits, in whole numbers. Two methods share the work, because each is
fast where the other is slow:

* SciPy's ``milp`` at gap 0: milliseconds where many choices tie or costs take few values, many seconds where three
  limits are unrelated.
* Joining the layers one after the other, keeping every partial choice that may still end above the best known value.
  The proof is a Lagrangian one (Fisher 1981, Management Science 27): for any multipliers m >= 0

      value(x) <= sum over layers of max [value - m . cost] + m . limit        for every x within the limits,

  and the duals of the linear relaxation are good multipliers. When more partial choices are left than a width
  allows, only the most promising go on, to find better values, and the proof fails; it is tried again wider.
  This method is exact to the last digit and finds out whether the best choice is the only one.

What ``milp`` returns is checked in whole numbers before it counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from scansearch.errors import InputError

Integers = NDArray[np.int64]
Reals = NDArray[np.float64]

# What is tried in turn: joining up to a width, or milp up to a number of nodes. Cheap attempts of both kinds go first.
_JOIN_FIRST = (
    ("join", 256),
    ("join", 4096),
    ("milp", 30),
    ("join", 32768),
    ("join", 262144),
    ("milp", 100_000),
)
_MILP_FIRST = (("milp", 30), *_JOIN_FIRST[:2], *_JOIN_FIRST[3:])
_SECONDS = 20.0
_SCALE = (
    1e3  # of rows and objective in milp: its absolute tolerances of 1e-6 then mean 1e-9 of the largest figure
)
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
    ``many_ties`` tells that ``milp`` was the method that succeeded.
    """

    chosen: tuple[NDArray[np.bool_], ...]
    value: int
    bound: int
    unique: bool = False
    many_ties: bool = False


def maximise(problem: Problem, values: Sequence[Integers], known: Choice | None = None) -> Choice | None:
    """The choice with the largest summed value, or None when no choice keeps every limit.

    Args:
        problem: what may be chosen.
        values: per layer int64 [items]; sums of values and of costs must stay below 2**53 in magnitude.
        known: a choice within the limits to start from; only its value and bound are not used.

    Raises:
        InputError: neither a choice nor a proof that there is none was found in reasonable time.
    """
    multipliers = _multipliers(problem, values)
    if multipliers is None:
        return None
    search = _Search(problem, values, multipliers)
    best = None if known is None else _Known(_total(values, known.chosen), known.chosen)
    bound = search.bound
    if known is not None and best is not None and best.value >= bound:
        return replace(known, value=best.value, bound=best.value, unique=False)
    for method, size in _MILP_FIRST if known is not None and known.many_ties else _JOIN_FIRST:
        if method == "milp":
            result = _integer_program(problem, values, size)
            if result is None:
                return None
        else:
            result = search.run(None if best is None else best.value, size, size // 32)
        best = _better(best, result.best)
        if best is None and result.complete:
            return None
        if best is not None and (result.complete or best.value >= bound):
            unique = result.complete and result.count == 1
            return Choice(best.chosen, best.value, best.value, unique, many_ties=method == "milp")
    if best is None:
        raise InputError(
            "the budgets are so tight that neither a choice within them nor a proof that there is none was found: "
            "loosen one of them"
        )
    return Choice(best.chosen, best.value, max(best.value, bound))


@dataclass(frozen=True)
class _Known:
    value: int
    chosen: tuple[NDArray[np.bool_], ...]


def _better(one: _Known | None, other: _Known | None) -> _Known | None:
    if one is None or other is None:
        return one or other
    return other if other.value > one.value else one


def _total(rows: Sequence[Integers], chosen: Sequence[NDArray[np.bool_]]) -> int:
    return sum(int(row[taken].sum()) for row, taken in zip(rows, chosen, strict=True))


@dataclass(frozen=True)
class _Result:
    """The best choice of one method; ``complete``: nothing is better. ``count``: how many are as good, 2 for some."""

    best: _Known | None
    count: int = 0
    complete: bool = True


def _integer_program(problem: Problem, values: Sequence[Integers], nodes: int) -> _Result | None:
    """The answer of SciPy's milp within ``nodes``, checked; None when there is no choice within the limits."""
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_matrix

    value = np.concatenate(values).astype(float)
    scale = max(np.abs(value).max(), 1.0) / _SCALE
    owner = np.repeat(np.arange(len(values)), [len(row) for row in values])
    sizes = csr_matrix((np.concatenate(problem.sizes), (owner, np.arange(len(owner)))))
    constraints = [LinearConstraint(sizes, problem.least, problem.most)]
    for table, limit in zip(problem.costs, problem.limits, strict=True):
        row = np.concatenate(table).astype(float)
        unit = max(np.abs(row).max(), 1.0) / _SCALE
        constraints.append(LinearConstraint(csr_matrix(row / unit), -np.inf, limit / unit))
    low, high = np.concatenate(problem.forced), ~np.concatenate(problem.banned)
    result = milp(
        -value / scale,
        integrality=np.ones(len(value)),
        bounds=Bounds(low.astype(float), high.astype(float)),
        constraints=constraints,
        options={"mip_rel_gap": 0.0, "node_limit": nodes, "time_limit": _SECONDS},
    )
    if result.status == 2:
        return None
    if result.x is None:
        return _Result(None, complete=False)
    chosen = tuple(np.split(result.x > 0.5, np.cumsum([len(row) for row in values])[:-1]))
    if not _allowed(problem, chosen):
        return _Result(None, complete=False)
    return _Result(_Known(_total(values, chosen), chosen), complete=result.status == 0)


def _allowed(problem: Problem, chosen: Sequence[NDArray[np.bool_]]) -> bool:
    """Whether a choice keeps every limit, in whole numbers."""
    counts = [int(size[taken].sum()) for size, taken in zip(problem.sizes, chosen, strict=True)]
    return (
        all(
            low <= count <= high for low, count, high in zip(problem.least, counts, problem.most, strict=True)
        )
        and all(bool(taken[force].all()) for taken, force in zip(chosen, problem.forced, strict=True))
        and not any(bool(taken[ban].any()) for taken, ban in zip(chosen, problem.banned, strict=True))
        and all(
            _total(table, chosen) <= limit for table, limit in zip(problem.costs, problem.limits, strict=True)
        )
    )


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
        for position in range(len(order) - 1, -1, -1):
            item = order[position]
            size = int(problem.sizes[layer][item])
            if not problem.forced[layer][item]:
                table[position] = table[position + 1]
            if not problem.banned[layer][item] and size <= most:
                taken = table[position + 1, size:] + reduced[item]
                table[position, : len(taken)] = np.maximum(table[position, : len(taken)], taken)
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
        for position, item in enumerate(order):
            size = int(problem.sizes[layer][item])
            parts = [] if problem.forced[layer][item] else [(masks, used, sums)]
            if not problem.banned[layer][item]:
                parts.append((masks | 1 << int(item), used + size, sums + reduced[item]))
            masks, used, sums = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
            fits = used <= problem.most[layer]
            masks, used, sums = masks[fits], used[fits], sums[fits]
            bounds = sums + table[position + 1, used] + others
            alive = np.flatnonzero((bounds >= floor - self.margin) & (bounds > -np.inf))
            if len(alive) > most:
                complete = False
                alive = alive[np.argsort(-bounds[alive], kind="stable")[:most]]
            masks, used, sums = masks[alive], used[alive], sums[alive]
        bits = (masks[:, None] >> np.arange(len(order)) & 1).astype(np.int64)
        totals = bits @ self.totals[layer]
        able = (totals @ self.weights + (self.upper - self.tops[layer]) >= floor - self.margin).all(1)
        return masks[able], totals[able], complete

    def run(self, incumbent: int | None, width: int, most_options: int) -> _Result:
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
            room = max(1, 16 * width // len(totals)) if len(totals) else 1
            if len(states) > room:
                complete = False
                states = states[:room]
                history[-1] = (history[-1][0], history[-1][1][:room], history[-1][2][:room])
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
            best_first = np.argsort(-bounds, kind="stable")
            if len(alive) > width:
                complete = False
            alive = alive[best_first[:width]]
            if not len(alive):
                return _Result(None, complete=complete)
            states = joined[alive]
            parents, options = np.divmod(alive, len(totals))
            history.append((layer, parents, options))
        value = int(states[:, 0].max())
        winners = np.flatnonzero(states[:, 0] == value)
        masks, state = [0] * len(layers), int(winners[0])
        for layer, parents, options in reversed(history):
            masks[layer] = int(layers[layer][0][options[state]])
            state = int(parents[state])
        chosen = tuple(
            (mask >> np.arange(len(row)) & 1).astype(bool)
            for mask, row in zip(masks, self.totals, strict=True)
        )
        return _Result(_Known(value, chosen), 2 if merged else len(winners), complete)


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
