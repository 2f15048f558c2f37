"""Variance components: intervals that cover what they should, and gains that simulated choices really have."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from scansearch.analysis.variance import Noise, balanced_noise, expected_maximum, f_quantile
from scansearch.errors import InputError


def tables(between, seeds, *, count, genotypes=8, trainings=2, seed=0):
    """Made losses [count, genotypes, trainings]."""
    generator = np.random.default_rng(seed)
    means = between * generator.standard_normal((count, genotypes, 1))
    return means + seeds * generator.standard_normal((count, genotypes, trainings))


@pytest.mark.parametrize(("between", "icc"), [(0.5, 0.2), (1.0, 0.5), (3.0, 0.9)])
def test_the_interval_covers_the_true_share_in_nine_of_ten_tables(between, icc):
    found = [balanced_noise(table).icc_interval for table in tables(between, 1.0, count=400)]
    covered = np.mean([low <= icc <= high for low, high in found])
    assert 0.86 < covered < 0.94  # a deviation is 0.015


def test_noise_alone_is_told_from_none_in_one_of_twenty_tables():
    lows = [balanced_noise(table).icc_interval[0] for table in tables(0.0, 1.0, count=400)]
    assert 0.02 < np.mean(np.array(lows) > 0) < 0.08
    generator = np.random.default_rng(1)
    skewed = generator.exponential(size=(400, 8, 2))
    lows = [balanced_noise(table).icc_interval[0] for table in skewed]
    assert np.mean(np.array(lows) > 0) < 0.08


def test_components_are_those_that_the_numbers_were_made_with():
    (table,) = tables(2.0, 0.5, count=1, genotypes=2000, trainings=3)
    found = balanced_noise(table)
    assert found.between == pytest.approx(2.0, rel=0.05)
    assert found.seeds == pytest.approx(0.5, rel=0.05)
    assert found.icc == pytest.approx(16 / 17, abs=0.01)
    low, high = found.icc_interval
    assert 16 / 17 - 0.02 < low < found.icc < high < 16 / 17 + 0.02
    assert found.genotypes == 2000


def test_what_does_not_vary_has_an_answer_too():
    assert balanced_noise([[1.0, 1.0], [1.0, 1.0]]) == Noise(0.0, 0.0, 0.0, (0.0, 1.0), 2)
    alike = balanced_noise([[1.0, 1.0], [3.0, 3.0]])
    assert (alike.icc, alike.icc_interval, alike.seeds) == (1.0, (1.0, 1.0), 0.0)


@pytest.mark.parametrize("groups", [[], [[1.0, 2.0]], [[1.0], [2.0]], [[1.0, 2.0], [1.0, 2.0, 3.0]]])
def test_what_has_no_interval_is_refused(groups):
    with pytest.raises(InputError, match="each trained equally often, twice or more"):
        balanced_noise(groups)


@pytest.mark.parametrize("freedom", [(7, 8), (8, 7), (1, 2), (31, 300)])
@pytest.mark.parametrize("probability", [0.05, 0.5, 0.95])
def test_quantiles_are_those_of_the_f_distribution(freedom, probability):
    expected = stats.f.ppf(probability, *freedom)
    assert f_quantile(probability, *freedom) == pytest.approx(expected, rel=1e-3)


def test_the_expected_maximum_is_that_of_the_tables():
    # Tippett 1925; of two it is one over the root of pi.
    for count, expected in [(1, 0.0), (2, np.pi**-0.5), (8, 1.42360), (32, 2.06967)]:
        assert expected_maximum(count) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("between", "seeds"), [(1.0, 0.3), (1.0, 2.0)])
@pytest.mark.parametrize("count", [8, 32])
def test_the_gain_is_that_of_choosing_by_one_training(between, seeds, count):
    generator = np.random.default_rng(0)
    true = between * generator.standard_normal((20_000, count))
    seen = true + seeds * generator.standard_normal((20_000, count))
    chosen = np.take_along_axis(true, seen.argmin(1, keepdims=True), axis=1)
    noise = Noise(between, seeds, between**2 / (between**2 + seeds**2), (0.0, 1.0), count)
    assert noise.gain(count) == pytest.approx(-chosen.mean(), rel=0.03)
