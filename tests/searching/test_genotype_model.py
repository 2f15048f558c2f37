"""The model of the loss says what Bayesian linear regression on written-out features says, and learns what there is."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from scansearch.searching.genotype_model import Effects, GenotypeModel, Variances

NAMES = ("h", "h_flip", "v", "w2")
SPACES = {
    "one": (((NAMES,) * 3), [(1, 1)] * 3, None),
    "two": (((NAMES,) * 3), [(2, 2)] * 3, None),
    "one to three": (
        (NAMES, NAMES[1:], NAMES),
        [(1, 3)] * 3,
        [[1.0, 2.0, 0.0, -1.0], [0.5, 0.0, 1.0], [0.0] * 4],
    ),
}


def rows_of(effects, sizes, count, seed):
    generator = np.random.default_rng(seed)
    rows = np.zeros((count, effects.layers, effects.width))
    for row in rows:
        for layer, (names, (low, high)) in enumerate(zip(effects.candidates, sizes, strict=True)):
            row[layer, generator.permutation(len(names))[: generator.integers(low, high + 1)]] = 1
    return np.unique(rows.reshape(count, -1), axis=0)


def features(effects, sizes, scores, rows):
    """Kind -> [n, features], written out one by one; rows are centred by the mean share of each layer."""
    entries = [(layer, name) for layer, names in enumerate(effects.candidates) for name in names]
    share = [
        (low + high) / 2 / len(names) for names, (low, high) in zip(effects.candidates, sizes, strict=True)
    ]
    columns = {
        (layer, name): rows[:, layer * effects.width + effects.candidates[layer].index(name)] - share[layer]
        for layer, name in entries
    }

    def summed(key):
        keys = list(dict.fromkeys(map(key, entries)))
        return np.stack([sum(columns[e] for e in entries if key(e) == k) for k in keys], 1)

    found = {
        "layer": summed(lambda e: e),
        "reversal": summed(lambda e: (e[0], e[1].removesuffix("_flip"))),
        "shared": summed(lambda e: e[1]),
        "near": [columns[a] * columns[b] for a, b in itertools.combinations(entries, 2) if b[0] == a[0] + 1],
        "far": [columns[a] * columns[b] for a, b in itertools.combinations(entries, 2) if b[0] > a[0] + 1],
        "within": [columns[a] * columns[b] for a, b in itertools.combinations(entries, 2) if b[0] == a[0]],
        "number": summed(lambda e: 0),
    }
    if scores is not None:
        flat = [value for row in scores for value in row]
        found["scores"] = sum(columns[e] * value for e, value in zip(entries, flat, strict=True))[:, None]
    return {kind: np.stack(part, 1) if isinstance(part, list) else part for kind, part in found.items()}


@pytest.mark.parametrize("space", SPACES)
def test_it_is_bayesian_linear_regression_on_written_out_features(space) -> None:
    candidates, sizes, scores = SPACES[space]
    effects = Effects(candidates, sizes, scores)
    rows, others = rows_of(effects, sizes, 20, 1), rows_of(effects, sizes, 15, 2)
    losses = np.random.default_rng(3).normal(2.0, 0.5, len(rows))
    variances = Variances(np.linspace(0.1, 0.4, len(effects.kinds)), 0.05, 0.5)
    mean, deviation = GenotypeModel(effects, variances, rows, losses).predict(others)

    told, asked = (features(effects, sizes, scores, part) for part in (rows, others))
    # The unit of a kind's variance: that of the gram over many random genotypes, read off one pair of rows.
    scales = []
    for kind, gram in zip(effects.kinds, effects.grams(rows, rows), strict=True):
        plain = told[kind] @ told[kind].T
        np.testing.assert_allclose(gram, plain * (gram[0, 0] / plain[0, 0]), atol=1e-9)
        scales.append(gram[0, 0] / plain[0, 0])
    weights = [np.sqrt(v * s) for v, s in zip(variances.kinds, scales, strict=True)]
    design, query = (
        np.column_stack(
            [np.ones(len(part["layer"])), *(w * part[k] for w, k in zip(weights, effects.kinds, strict=True))]
        )
        for part in (told, asked)
    )
    precision = np.eye(design.shape[1]) + design.T @ design / variances.noise
    target = (losses - losses.mean()) / variances.unit
    expected = query @ np.linalg.solve(precision, design.T @ target / variances.noise)
    spread = np.sqrt(np.einsum("ij,ji->i", query, np.linalg.solve(precision, query.T)))
    np.testing.assert_allclose(mean, losses.mean() + variances.unit * expected, atol=1e-8)
    np.testing.assert_allclose(deviation, variances.unit * spread, atol=1e-6)


def made(pairs, seed=0):
    candidates, sizes, _ = SPACES["one"]
    effects = Effects(candidates, sizes)
    rows = rows_of(effects, sizes, 200, seed)
    generator = np.random.default_rng(5)
    single, pair = generator.normal(size=12), generator.normal(size=(12, 12))
    pair[:, :4] = pair[8:] = 0  # between the first and the second layer only
    losses = rows @ single + pairs * np.einsum("ni,ij,nj->n", rows, pair, rows)
    return effects, rows, losses, single.reshape(3, 4)


def test_an_additive_loss_is_learned_from_some_genotypes() -> None:
    effects, rows, losses, single = made(0.0)
    some = np.random.default_rng(0).permutation(len(rows))[:24]
    model = GenotypeModel(
        effects, Variances.learn(effects, rows[some], losses[some]), rows[some], losses[some]
    )
    np.testing.assert_allclose(model.predict(rows)[0], losses, atol=0.05)
    centred = single - single.mean(1, keepdims=True)
    effect = model.effects_of_one
    np.testing.assert_allclose(effect - effect.mean(1, keepdims=True), centred, atol=0.05)


def test_variances_tell_pairs_and_noise() -> None:
    found = {}
    for name, pairs, noise in (("single", 0.0, 0.0), ("pairs", 1.5, 0.0), ("noise", 0.0, 1.0)):
        effects, rows, losses, _ = made(pairs)
        losses = losses + noise * np.random.default_rng(1).normal(size=len(losses))
        variances = Variances.learn(effects, rows, losses)
        found[name] = dict(zip(effects.kinds, variances.kinds, strict=True)) | {"noise": variances.noise}
    assert found["pairs"]["near"] > 10 * found["single"]["near"]
    assert found["pairs"]["near"] > 2 * found["pairs"]["far"]
    assert found["noise"]["noise"] > 10 * max(found["single"]["noise"], found["pairs"]["noise"])


def test_what_is_being_scored_narrows_deviations_and_moves_no_mean() -> None:
    effects, rows, losses, _ = made(1.0)
    variances = Variances.learn(effects, rows[:10], losses[:10])
    alone = GenotypeModel(effects, variances, rows[:10], losses[:10])
    beside = GenotypeModel(effects, variances, rows[:10], losses[:10], rows[10:12])
    np.testing.assert_allclose(beside.predict(rows)[0], alone.predict(rows)[0], atol=1e-9)
    ratio = beside.predict(rows)[1] / alone.predict(rows)[1]
    assert ratio.max() < 1 + 1e-9
    assert ratio[10:12].max() < 0.7


def test_rows_and_names_are_each_others_inverse() -> None:
    candidates, sizes, _ = SPACES["one to three"]
    effects = Effects(candidates, sizes)
    layers = (("h", "w2"), ("v",), ("h_flip", "v", "w2"))
    assert effects.names(effects.row(layers)) == layers
    assert effects.row(layers).sum() == 6


@pytest.mark.parametrize("count", [1, 2])
def test_one_loss_or_equal_ones_are_enough_for_a_model(count) -> None:
    effects, rows, _, _ = made(0.0)
    losses = np.full(count, 3.0)
    variances = Variances.learn(effects, rows[:count], losses)
    mean, deviation = GenotypeModel(effects, variances, rows[:count], losses).predict(rows)
    np.testing.assert_allclose(mean, 3.0)
    assert np.isfinite(deviation).all()
    assert deviation.min() > 0
