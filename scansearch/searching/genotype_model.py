"""A Bayesian model of the loss of genotypes: effects of directions, and of pairs of them.

Bayesian linear regression (Rasmussen and Williams 2006, chapter 2) on features of a genotype, written as a Gaussian
process with one kernel per kind of effect:

    layer      one effect per layer and direction
    reversal   what a direction and its ``_flip`` have in common, per layer
    shared     what a direction does in every layer
    scores     one factor on scores that are known beforehand, where there are any
    number     the number of directions, where it may vary
    near, far  pairs of directions in neighbouring layers and in others
    within     pairs of directions in one layer

Features are centred, so pairs hold only what single directions do not say. Every kind has one variance, and the rest
is noise; all of them are the mode of their posterior under log-normal priors that favour single effects over pairs,
found by a pattern search: no draws, so the same losses give the same model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from scansearch.directions import FLIP, Layers

Reals = NDArray[np.float64]

# Prior mode of each kind's share of the variance between random genotypes, and of the noise.
_PRIOR = {
    "layer": 0.4,
    "reversal": 0.05,
    "shared": 0.05,
    "scores": 0.3,
    "number": 0.2,
    "near": 0.1,
    "far": 0.02,
    "within": 0.05,
    "noise": 0.05,
}
_SPREAD = 1.5  # standard deviation of the priors, in natural logarithms
_STEPS = (2.0, 1.0, 0.5)  # of the pattern search, in natural logarithms
_CONSTANT = 1.0  # prior variance of the mean, in variances of the losses
_LEAST = 1e-6  # noise that keeps the matrices invertible


class Effects:
    """The features of genotypes with the given candidates and sizes: what every model of them shares.

    A genotype is a row of 0 and 1, one entry per layer and candidate; layers are padded to one width.

    Args:
        candidates: direction names of every layer.
        sizes: least and most directions of every layer.
        scores: [layers, candidates], larger is better, what is known beforehand; None for nothing.
    """

    def __init__(
        self,
        candidates: Layers,
        sizes: Sequence[tuple[int, int]],
        scores: Sequence[Sequence[float]] | None = None,
    ) -> None:
        self.candidates = candidates
        self.layers, self.width = len(candidates), max(map(len, candidates))
        centre = np.zeros((self.layers, self.width))
        for layer, (names, (low, high)) in enumerate(zip(candidates, sizes, strict=True)):
            centre[layer, : len(names)] = (low + high) / 2 / len(names)
        self._centre = centre.ravel()
        self.maps = self._maps(sizes, scores)
        pairs = {"near": self.layers > 1, "far": self.layers > 2, "within": max(h for _, h in sizes) > 1}
        self.pairs = [kind for kind, there in pairs.items() if there]
        self.kinds = [*self.maps, *self.pairs]
        self._scales = np.ones(len(self.kinds))
        sample = self._sample(sizes)
        grams = self.grams(sample, sample)
        spread = np.einsum("kii->k", grams) / len(sample) - grams.mean((1, 2))
        self._scales = np.where(spread > 1e-9, 1 / np.maximum(spread, 1e-9), 0.0)

    def _maps(
        self, sizes: Sequence[tuple[int, int]], scores: Sequence[Sequence[float]] | None
    ) -> dict[str, Reals]:
        """Kind -> matrix from entries to its features."""
        entries = [(layer, name) for layer, names in enumerate(self.candidates) for name in names]
        rows = [
            layer * self.width + names.index(name)
            for layer, names in enumerate(self.candidates)
            for name in names
        ]
        layer = np.zeros((self.layers * self.width, len(entries)))
        layer[rows, range(len(entries))] = 1.0
        maps = {"layer": layer}

        def grouped(keys: list[object]) -> Reals:
            distinct = list(dict.fromkeys(keys))
            features = np.zeros((len(layer), len(distinct)))
            for row, key in zip(rows, keys, strict=True):
                features[row, distinct.index(key)] = 1.0
            return features

        without = [(layer, name.removesuffix(FLIP)) for layer, name in entries]
        if len(set(without)) < len(entries):
            maps["reversal"] = grouped(list(without))
        if len({name for _, name in entries}) < len(entries):
            maps["shared"] = grouped([name for _, name in entries])
        if scores is not None:
            maps["scores"] = np.zeros((len(layer), 1))
            maps["scores"][rows, 0] = [value for row in scores for value in row]
        if any(low < high for low, high in sizes):
            maps["number"] = layer.sum(1, keepdims=True)
        return maps

    def _sample(self, sizes: Sequence[tuple[int, int]]) -> Reals:
        """Random genotypes, always the same ones: their variance under each kind is the unit of its variance."""
        generator = np.random.default_rng(0)
        rows = np.zeros((200, self.layers, self.width))
        for row in rows:
            for layer, (names, (low, high)) in enumerate(zip(self.candidates, sizes, strict=True)):
                row[layer, generator.permutation(len(names))[: generator.integers(low, high + 1)]] = 1.0
        return rows.reshape(len(rows), -1)

    def row(self, layers: Layers) -> Reals:
        """A genotype as float64 [layers x width] of 0 and 1."""
        row = np.zeros((self.layers, self.width))
        for layer, (names, chosen) in enumerate(zip(self.candidates, layers, strict=True)):
            row[layer, [names.index(name) for name in chosen]] = 1.0
        return row.ravel()

    def names(self, row: Reals) -> Layers:
        """The genotype of a row, in candidate order."""
        rows = row.reshape(self.layers, self.width)
        return tuple(
            tuple(name for name, taken in zip(names, entries, strict=False) if taken > 0.5)
            for names, entries in zip(self.candidates, rows, strict=True)
        )

    def linear(self, variances: Reals) -> Reals:
        """[entries, entries]: the covariance of what single directions do, given the variance of each kind."""
        weights = variances[: len(self.maps)] * self._scales[: len(self.maps)]
        return np.asarray(sum(w * m @ m.T for w, m in zip(weights, self.maps.values(), strict=True)))

    def centred(self, rows: Reals) -> Reals:
        """Rows as they enter the features."""
        return rows - self._centre

    def grams(self, one: Reals, other: Reals) -> Reals:
        """[kinds, n, m]: covariances of n with m rows under each kind at variance 1."""
        one, other = self.centred(one), self.centred(other)
        linear = [(one @ features) @ (other @ features).T for features in self.maps.values()]
        return np.stack([*linear, *self._pair_grams(one, other)]) * self._scales[:, None, None]

    def pair_gram(self, one: Reals, other: Reals, variances: Reals) -> Reals:
        """[n, m]: covariances of centred rows by pairs of directions, given the variance of each kind."""
        weights = (variances * self._scales)[len(self.maps) :]
        return np.asarray(
            sum(w * gram for w, gram in zip(weights, self._pair_grams(one, other), strict=True))
        )

    def _pair_grams(self, one: Reals, other: Reals) -> list[Reals]:
        if not self.pairs:
            return []
        shape = (-1, self.layers, self.width)
        first, second = one.reshape(shape).transpose(1, 0, 2), other.reshape(shape).transpose(1, 2, 0)
        products = first @ second  # [layers, n, m]
        grams = []
        near = np.einsum("lnm,lnm->nm", products[:-1], products[1:])
        squares = np.einsum("lnm,lnm->nm", products, products)
        if "near" in self.pairs:
            grams.append(near)
        if "far" in self.pairs:
            grams.append((products.sum(0) ** 2 - squares) / 2 - near)
        if "within" in self.pairs:
            grams.append((squares - one**2 @ (other**2).T) / 2)
        return grams

    def pair_variance(self, rows: Reals, variances: Reals) -> Reals:
        """[n]: the diagonal of :meth:`pair_gram` of rows with themselves."""
        if not self.pairs:
            return np.zeros(len(rows))
        squares = rows**2
        products = squares.reshape(-1, self.layers, self.width).sum(2)
        near = (products[:, :-1] * products[:, 1:]).sum(1)
        parts = {
            "near": near,
            "far": (products.sum(1) ** 2 - (products**2).sum(1)) / 2 - near,
            "within": ((products**2).sum(1) - (squares**2).sum(1)) / 2,
        }
        weights = (variances * self._scales)[len(self.maps) :]
        return np.asarray(sum(w * parts[kind] for w, kind in zip(weights, self.pairs, strict=True)))


@dataclass(frozen=True)
class Variances:
    """What kinds of effects there are, learned from losses.

    Attributes:
        kinds: float64, the variance of each of ``Effects.kinds`` between random genotypes, in ``unit`` squared.
        noise: the variance of what no effect explains, in ``unit`` squared.
        unit: standard deviation of the losses that this was learned from (nats).
    """

    kinds: Reals
    noise: float
    unit: float

    @classmethod
    def learn(cls, effects: Effects, rows: Reals, losses: Reals) -> Variances:
        """The most probable variances given scored genotypes [n, entries] and their losses [n], n >= 1."""
        unit = float(losses.std()) or 1.0
        kinds, noise = _most_probable(
            effects.kinds, effects.grams(rows, rows), (losses - losses.mean()) / unit
        )
        return cls(kinds, noise, unit)


class GenotypeModel:
    """What is known of all genotypes after some were scored.

    Args:
        effects: their features.
        variances: of the kinds of effects.
        rows: float64 [n, entries], the scored genotypes, n >= 1.
        losses: float64 [n], nats.
        pending: float64 [m, entries], genotypes that are being scored: they narrow the deviations, not the means.
    """

    def __init__(
        self, effects: Effects, variances: Variances, rows: Reals, losses: Reals, pending: Reals | None = None
    ) -> None:
        self.effects, self.variances, self.noise = effects, variances.kinds, variances.noise
        self.mean, self.unit = float(losses.mean()), variances.unit
        target = (losses - self.mean) / self.unit
        self._rows = effects.centred(rows)
        self._linear = effects.linear(self.variances)
        self._weights = np.linalg.solve(self._covariance(self._rows), target)
        self._known = self._rows
        if pending is not None and len(pending):
            self._known = np.concatenate([self._rows, effects.centred(pending)])

    def _gram(self, one: Reals, other: Reals) -> Reals:
        pairs = self.effects.pair_gram(one, other, self.variances) if self.effects.pairs else 0.0
        return one @ self._linear @ other.T + pairs + _CONSTANT

    def _covariance(self, rows: Reals) -> Reals:
        return self._gram(rows, rows) + self.noise * np.eye(len(rows))

    @cached_property
    def _whitener(self) -> Reals:
        """[n, n]: inverse of the lower Cholesky factor of the covariance of everything known."""
        return np.asarray(np.linalg.inv(np.linalg.cholesky(self._covariance(self._known))))

    @cached_property
    def effects_of_one(self) -> Reals:
        """[layers, width]: what each direction adds to the expected loss (nats) beside the mean, pairs left out."""
        weights = self._linear @ (self._rows.T @ self._weights)
        return np.asarray(weights * self.unit).reshape(self.effects.layers, self.effects.width)

    def predict(self, rows: Reals) -> tuple[Reals, Reals]:
        """Mean and standard deviation (nats) of the loss of genotypes, noise left out; rows [m, entries]."""
        centred = self.effects.centred(rows)
        cross = self._gram(centred, self._known)
        mean = cross[:, : len(self._rows)] @ self._weights
        own = np.einsum("ij,ij->i", centred @ self._linear, centred) + _CONSTANT
        own += self.effects.pair_variance(centred, self.variances)
        explained = ((cross @ self._whitener.T) ** 2).sum(1)
        deviation = np.sqrt(np.maximum(own - explained, 1e-12))
        return self.mean + self.unit * mean, self.unit * deviation


def _most_probable(kinds: Sequence[str], grams: Reals, target: Reals) -> tuple[Reals, float]:
    """The most probable variance of each kind and of the noise, in variances of the losses."""
    centre = np.log([_PRIOR[kind] for kind in (*kinds, "noise")])
    size = len(target)
    matrix = np.zeros((size + 1, size + 1))
    flat = grams.reshape(len(kinds), -1)
    diagonal = np.arange(size)

    def cost(logs: Reals) -> float:
        values = np.exp(logs)
        matrix[:size, :size] = (values[:-1] @ flat).reshape(size, size) + _CONSTANT
        matrix[diagonal, diagonal] += values[-1] + _LEAST
        matrix[size, :size] = target
        matrix[size, size] = 1e12  # the factor's last row is then the whitened target
        try:
            factor = np.linalg.cholesky(matrix)
        except np.linalg.LinAlgError:
            return math.inf
        likelihood = np.log(np.diag(factor)[:size]).sum() + (factor[size, :size] ** 2).sum() / 2
        return float(likelihood + (((logs - centre) / _SPREAD) ** 2).sum() / 2)

    best = centre.copy()
    lowest = cost(best)
    for step in _STEPS:
        for _ in range(2):
            before = lowest
            for index in range(len(best)):
                for change in (step, -step):
                    trial = best.copy()
                    trial[index] += change
                    value = cost(trial)
                    if value < lowest:
                        best, lowest = trial, value
                        break
            if lowest == before:
                break
    return np.exp(best[:-1]), float(np.exp(best[-1])) + _LEAST
