"""What every relaxation must do, and the closed form of each one's gradient."""

from __future__ import annotations

import pytest
import torch

from scansearch.searching.relaxations import Gdas, gumbel_noise
from scansearch.searching.strategies import RELAXATIONS

ALPHAS = [[0.3, -0.2, 1.1, 0.0, 0.4, -1.0, 0.2, 0.6], [2.0, -2.0, 0.5]]


def _alphas(requires_grad=False):
    return [torch.tensor(a, dtype=torch.float64, requires_grad=requires_grad) for a in ALPHAS]


def _gates(name, alphas, *, active=2, temperature=0.7, seed=5):
    generator = torch.Generator().manual_seed(seed)
    return RELAXATIONS.load(name)().gates(alphas, active=active, temperature=temperature, generator=generator)


@pytest.mark.parametrize("name", RELAXATIONS)
def test_gates_are_positive_sorted_and_reproducible(name):
    for layer, again, alpha in zip(_gates(name, _alphas()), _gates(name, _alphas()), _alphas(), strict=True):
        assert layer.values.shape == (len(layer.active),)
        assert list(layer.active) == sorted(set(layer.active))
        assert set(layer.active) <= set(range(len(alpha)))
        assert (layer.values > 0).all()
        assert layer.active == again.active
        assert torch.equal(layer.values, again.values)


@pytest.mark.parametrize(("name", "count"), [("gumbel_topk", 2), ("gdas", 1), ("uniform", 2)])
def test_sampled_relaxations_activate_exactly_as_many_as_they_say(name, count):
    for seed in range(50):
        for layer in _gates(name, _alphas(), seed=seed):
            assert len(layer.active) == count
            torch.testing.assert_close(
                layer.values.detach(), torch.full((count,), 1 / count, dtype=torch.float64)
            )


@pytest.mark.parametrize("name", RELAXATIONS)
def test_more_active_than_candidates_means_all(name):
    for layer, alpha in zip(_gates(name, _alphas(), active=20), _alphas(), strict=True):
        assert len(layer.active) == (1 if name == "gdas" else len(alpha))


@pytest.mark.parametrize("name", ["softmax", "sigmoid"])
def test_smooth_gates_have_the_gradient_that_finite_differences_see(name):
    def function(*alphas):
        return tuple(layer.values for layer in _gates(name, alphas))

    assert torch.autograd.gradcheck(function, tuple(_alphas(requires_grad=True)))


@pytest.mark.parametrize(("name", "active"), [("gumbel_topk", 3), ("gdas", 1)])
def test_straight_through_gradient_is_that_of_the_soft_probability(name, active):
    """d gate_i / d alpha_j = p_i (delta_ij - p_j) / T, with p over all candidates and the same noise."""
    temperature = 0.7
    alphas = _alphas(requires_grad=True)
    gates = _gates(name, alphas, active=active, temperature=temperature)
    generator = torch.Generator().manual_seed(5)
    for alpha, layer in zip(alphas, gates, strict=True):
        p = torch.softmax(
            (torch.log_softmax(alpha.detach(), 0) + gumbel_noise(len(alpha), generator)) / temperature, 0
        )
        for value, i in zip(layer.values, layer.active, strict=True):
            (gradient,) = torch.autograd.grad(value, alpha, retain_graph=True)
            expected = p[i] * ((torch.arange(len(alpha)) == i).double() - p) / temperature
            torch.testing.assert_close(gradient, expected)


def test_gumbel_top_k_samples_by_probability():
    alpha = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64))
    generator = torch.Generator().manual_seed(1)
    counts = torch.zeros(4)
    for _ in range(4000):
        (layer,) = Gdas().gates([alpha], active=1, temperature=1.0, generator=generator)
        counts[layer.active[0]] += 1
    # Four standard deviations of a share at 4000 draws are at most 0.032.
    torch.testing.assert_close(counts / 4000, torch.exp(alpha).float(), atol=0.032, rtol=0)


def test_temperature_moves_softmax_between_uniform_and_one_hot():
    hot = _gates("softmax", _alphas(), temperature=1e3)[0].values
    cold = _gates("softmax", _alphas(), temperature=1e-2)[0].values
    torch.testing.assert_close(hot, torch.full_like(hot, 1 / 8), atol=1e-3, rtol=0)
    assert cold[2] > 0.999


@pytest.mark.parametrize("name", RELAXATIONS)
def test_probabilities_rank_the_candidates_as_the_alphas_do(name):
    for p, alpha in zip(RELAXATIONS.load(name)().probabilities(_alphas()), _alphas(), strict=True):
        if RELAXATIONS.load(name)().learns_alphas:
            assert torch.argsort(p).tolist() == torch.argsort(alpha).tolist()
        else:
            assert p.unique().numel() == 1
