"""Which genotype to score next, by a model of the loss: the one with the largest expected improvement.

Expected improvement (Jones, Schonlau and Welch 1998, Journal of Global Optimization 13), in logarithms (arXiv
2310.20708) so that it tells genotypes apart where hardly any improvement is expected. It is climbed layer by layer,
by exchanging, adding or removing one direction, from several starts: the optimum of the model without its pairs,
the best genotypes so far, and random ones. Nothing outside the budgets is looked at, nothing claimed is proposed.

Where genotypes differ in cost, every second proposal, drawn by lot, is for the front of loss and cost: the best one
below a cost drawn between the cheapest and the most expensive.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from scansearch.directions import Layers
from scansearch.searching.genotype_model import Effects, GenotypeModel, Reals, Variances
from scansearch.searching.genotypes import Genotypes

_SWEEPS = 4  # over all layers, of one climb
_BEST, _RANDOM = 3, 2  # starts of each kind; one of each where there are
_MANY = 12  # layers, so that a proposal takes a tenth of a second
_SLACK = 1e-12  # of a limit, for the rounding of sums; what is proposed is checked exactly
_HALVINGS = 40


class Proposals:
    """Proposals for one problem.

    Args:
        genotypes: what may be proposed.
        prior: [layers, candidates], larger is better: scores from elsewhere, of unknown scale; None for none.
    """

    def __init__(self, genotypes: Genotypes, prior: Sequence[Sequence[float]] | None = None) -> None:
        self.genotypes = genotypes
        self.effects = Effects(genotypes.candidates, genotypes.sizes, prior)
        self._rows: dict[Layers, Reals] = {}
        self._moves: dict[tuple[int, bytes], Reals] = {}
        self._learned: tuple[tuple[bytes, bytes], Variances] | None = None
        self._limits: list[tuple[Reals, float]] = []  # cost of each entry, and how much may be spent on them
        self._costs = np.zeros(self.effects.layers * self.effects.width)
        if genotypes.costs is not None:
            tables = genotypes.costs.tables()
            for measure, limit in genotypes.budgets.items():
                self._limits.append((self._flat(tables[measure].table), limit - tables[measure].fixed))
            self._costs = self._flat(tables[genotypes.measure].table)
        self._range = self._cost_range()

    def _flat(self, table: Sequence[Sequence[float]]) -> Reals:
        flat = np.zeros((self.effects.layers, self.effects.width))
        for row, figures in zip(flat, table, strict=True):
            row[: len(figures)] = figures
        return flat.ravel()

    def _cost_range(self) -> tuple[float, float]:
        """The least and the largest that the directions of a genotype within the budgets may cost."""
        costs = self._costs.reshape(self.effects.layers, self.effects.width)
        ends = [float((self._costs * self._chosen(sign * costs, every=sign < 0)).sum()) for sign in (1, -1)]
        budget = [limit for table, limit in self._limits if np.array_equal(table, self._costs)]
        return ends[0], min([ends[1], *budget])

    def next(
        self,
        scored: Sequence[tuple[Layers, float]],
        pending: Sequence[Layers],
        generator: np.random.Generator,
    ) -> Layers | None:
        """A genotype to score, or None when nothing new is within reach.

        Before anything is scored, it is one that costs little, as the first ones may all be outside the budgets.

        Args:
            scored: genotypes and their losses (nats).
            pending: genotypes that other processes are scoring.
        """
        effects = self.effects
        if not scored:
            cheapest = effects.names(self.optimum(np.zeros((effects.layers, effects.width)), self._limits))
            return cheapest if cheapest not in pending and self.genotypes.feasible(cheapest) else None
        rows = np.array([self._row(layers) for layers, _ in scored])
        waiting = np.array([self._row(layers) for layers in pending]).reshape(-1, rows.shape[1])
        losses = np.array([loss for _, loss in scored])
        model = GenotypeModel(effects, self._variances(rows, losses), rows, losses, waiting)
        limits = list(self._limits)
        low, high = self._range
        if high > low * (1 + 1e-9) and generator.random() < 0.5:
            limits.append((self._costs, low + (high - low) * generator.random()))
        means = model.predict(rows)[0]
        within = self._within(rows, limits)
        most, chance = (_BEST, _RANDOM) if effects.layers <= _MANY else (1, 1)
        incumbent = float(means[within].min() if within.any() else means.max())
        best = np.flatnonzero(within)[np.argsort(means[within], kind="stable")[:most]]
        starts = [self.optimum(model.effects_of_one, limits), *rows[best]]
        starts += [effects.row(self.genotypes.random(generator)) for _ in range(chance)]
        seen = self._climb(model, np.array(starts), limits, incumbent)
        claimed = {row.tobytes() for row in np.concatenate([rows, waiting])}
        for row in seen:
            if row.tobytes() not in claimed:
                layers = effects.names(row)
                if self.genotypes.feasible(layers):
                    return layers
        return None

    def _row(self, layers: Layers) -> Reals:
        if layers not in self._rows:
            self._rows[layers] = self.effects.row(layers)
        return self._rows[layers]

    def _variances(self, rows: Reals, losses: Reals) -> Variances:
        """Learned from the first of the scored genotypes, anew whenever there is a tenth more of them."""
        count = len(rows)
        count -= count % max(count // 10, 1)
        key = (rows[:count].tobytes(), losses[:count].tobytes())
        if self._learned is None or self._learned[0] != key:
            self._learned = (key, Variances.learn(self.effects, rows[:count], losses[:count]))
        return self._learned[1]

    def _within(self, rows: Reals, limits: Collection[tuple[Reals, float]]) -> NDArray[np.bool_]:
        within = np.ones(len(rows), bool)
        for costs, limit in limits:
            within &= rows @ costs <= limit + _SLACK * abs(limit)
        return within

    def _chosen(self, values: Reals, every: bool = False) -> Reals:
        """The entries with the lowest summed value; ``values`` [layers, width].

        What is not worth less than 0 is chosen only where the smallest size, or with ``every`` the largest, needs it.
        """
        chosen = np.zeros_like(values)
        for layer, (names, (low, high)) in enumerate(
            zip(self.genotypes.candidates, self.genotypes.sizes, strict=True)
        ):
            order = np.argsort(values[layer, : len(names)], kind="stable")
            count = high if every else int((values[layer, : len(names)] < 0).sum())
            chosen[layer, order[: min(max(low, count), high)]] = 1.0
        return chosen.ravel()

    def optimum(self, values: Reals, limits: Sequence[tuple[Reals, float]]) -> Reals:
        """The lowest summed value: exact without limits, else the best for one price on all that is limited.

        The price (Fisher 1981, Management Science 27) is halved towards the lowest at which the limits hold, so what
        is left of them is less than one exchange; climbing from there spends it.
        """
        best = self._chosen(values)
        if self._within(best[None], limits).all():
            return best
        burden = np.asarray(sum(costs / max(abs(limit), 1e-300) for costs, limit in limits)).reshape(
            values.shape
        )
        best = self._chosen(burden)
        low, high = 0.0, 1.0
        for _ in range(_HALVINGS):
            choice = self._chosen(values + high * burden)
            if self._within(choice[None], limits).all():
                best = choice
                break
            low, high = high, 4 * high
        for _ in range(_HALVINGS):
            price = (low + high) / 2
            choice = self._chosen(values + price * burden)
            if self._within(choice[None], limits).all():
                best, high = choice, price
            else:
                low = price
        return best

    def _climb(
        self, model: GenotypeModel, rows: Reals, limits: Sequence[tuple[Reals, float]], incumbent: float
    ) -> Reals:
        """Climb from all ``rows`` at once; everything looked at that is within the limits, most promising first."""
        rows = rows[self._within(rows, limits)]
        if not len(rows):
            return rows
        values = log_improvement(*model.predict(rows), incumbent)
        seen, promises = [rows.copy()], [values.copy()]
        width = self.effects.width
        for _ in range(_SWEEPS):
            before = rows.copy()
            for layer in range(self.effects.layers):
                part = slice(layer * width, (layer + 1) * width)
                moves = [self._neighbours(layer, row[part]) for row in rows]
                owner = np.repeat(np.arange(len(rows)), [len(each) for each in moves])
                others = rows[owner]
                others[:, part] = np.concatenate(moves)
                kept = self._within(others, limits)
                owner, others = owner[kept], others[kept]
                if not len(others):
                    continue
                gains = log_improvement(*model.predict(others), incumbent)
                seen.append(others)
                promises.append(gains)
                for start in range(len(rows)):
                    mine = np.flatnonzero(owner == start)
                    if len(mine) and gains[mine].max() > values[start]:
                        best = mine[gains[mine].argmax()]
                        rows[start], values[start] = others[best], gains[best]
            moved = (before != rows).any(1)
            if not moved.any():
                break
            going = np.flatnonzero(moved)
            going = going[np.sort(np.unique(rows[going], axis=0, return_index=True)[1])]  # once each
            rows, values = rows[going], values[going]
        return np.concatenate(seen)[np.argsort(-np.concatenate(promises), kind="stable")]

    def _neighbours(self, layer: int, entries: Reals) -> Reals:
        """[moves, width]: one direction exchanged, added or removed, as the sizes allow."""
        key = (layer, entries.tobytes())
        if key not in self._moves:
            low, high = self.genotypes.sizes[layer]
            chosen = np.flatnonzero(entries)
            left = np.setdiff1d(np.arange(len(self.genotypes.candidates[layer])), chosen)
            flips = [[out, put] for out in chosen for put in left]
            flips += [[put] for put in left] if len(chosen) < high else []
            flips += [[out] for out in chosen] if len(chosen) > low else []
            moves = np.tile(entries, (len(flips), 1))
            for move, places in zip(moves, flips, strict=True):
                move[places] = 1 - move[places]
            self._moves[key] = moves
        return self._moves[key]


def _log_hope(score: float) -> float:
    """log(phi(z) + z Phi(z)): of the expected improvement in deviations, where ``score`` of them are expected."""
    density = -score * score / 2 - math.log(2 * math.pi) / 2
    if score < -20:
        return density - 2 * math.log(-score)  # what it tends to
    return math.log(math.exp(density) + score * math.erfc(-score / math.sqrt(2)) / 2)


_SCORES = np.linspace(-20, 10, 6001)
_HOPES = np.array([_log_hope(score) for score in np.linspace(-20, 10, 6001).tolist()])


def log_improvement(means: Reals, deviations: Reals, incumbent: float) -> Reals:
    """Logarithm of the expected improvement on ``incumbent`` of losses that are normally distributed, to 1e-3.

    Args:
        means, deviations: float64 [n], nats; deviations above 0.
    """
    scores = (incumbent - means) / deviations
    inside = np.interp(scores, _SCORES, _HOPES)
    low = np.minimum(scores, _SCORES[0])
    below = -(low**2) / 2 - math.log(2 * math.pi) / 2 - 2 * np.log(-low)
    above = np.log(np.maximum(scores, _SCORES[-1]))
    hopes = np.where(scores < _SCORES[0], below, np.where(scores > _SCORES[-1], above, inside))
    return np.asarray(np.log(deviations) + hopes)
