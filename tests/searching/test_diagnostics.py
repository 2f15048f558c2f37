"""The diagnosis warns of what should worry a user, and of nothing else."""

from __future__ import annotations

import math

import pytest
import torch

from scansearch.data.order_free import OrderFreeBar
from scansearch.records.genotype import Genotype
from scansearch.records.preferences import Preferences
from scansearch.searching.diagnostics import diagnose, random_walk

NAMES = ("h", "v", "w2", "w7")
GOOD = {"loss": 0.5, "accuracy": 90.0}


def _diagnose(history, chosen=("h", "v"), subnetwork=GOOD, selection="magnitude", names=NAMES, **options):
    preferences = Preferences(
        space="s", variant="v", selection=selection, candidates=(names,), scores=(history[-1],)
    )
    genotype = Genotype(family="local_vim", layers=(chosen,))
    epochs = [{"probabilities": [row]} for row in history]
    return diagnose(preferences, genotype, epochs, supernet=GOOD, subnetwork=subnetwork, **options)


def test_a_clear_and_steady_choice_is_not_warned_about():
    diagnosis = _diagnose([(0.4, 0.4, 0.1, 0.1)] * 3)
    assert diagnosis.warnings == ()
    assert diagnosis.layers[0].margin == pytest.approx(0.3)
    assert diagnosis.layers[0].noise == pytest.approx(0.0)


def test_entropy_is_one_when_undecided_and_zero_when_one_hot():
    assert _diagnose([(0.25,) * 4] * 3).layers[0].entropy == pytest.approx(1.0)
    assert _diagnose([(1.0, 0.0, 0.0, 0.0)] * 3).layers[0].entropy == pytest.approx(0.0)
    half = _diagnose([(0.5, 0.5, 0.0, 0.0)] * 3).layers[0].entropy
    assert half == pytest.approx(math.log(2) / math.log(4))


def test_a_margin_within_the_noise_of_the_last_epochs_is_told():
    moving = [(0.30, 0.22, 0.24, 0.24), (0.30, 0.26, 0.24, 0.20), (0.30, 0.25, 0.24, 0.21)]
    (warning,) = _diagnose(moving).warnings
    assert "layer 0: v was chosen before w2 within the noise of the last epochs (margin 0.0100" in warning


def test_a_tie_of_a_scan_and_its_reverse_is_no_reason_to_warn():
    moving = [(0.30, 0.22, 0.24, 0.24), (0.30, 0.26, 0.24, 0.20), (0.30, 0.25, 0.24, 0.21)]
    assert _diagnose(moving, names=("h", "v", "v_flip", "w7")).warnings == ()


def test_a_supernet_that_learned_nothing_from_order_is_told_once():
    bar = OrderFreeBar(accuracy=88.0, images=400)
    (warning,) = _diagnose([(0.001, 0.997, 0.001, 0.001)] * 3, order_free=bar).warnings
    assert "reaches 90.0 % of the validation images" in warning
    assert "values in no order 88.0 %" in warning
    steady = [(0.4, 0.4, 0.1, 0.1)] * 3
    assert _diagnose(steady, order_free=OrderFreeBar(accuracy=80.0, images=400)).warnings == ()
    # the same bar from a few images says less
    assert len(_diagnose(steady, order_free=OrderFreeBar(accuracy=80.0, images=20)).warnings) == 1
    assert len(_diagnose(steady, order_free=OrderFreeBar(accuracy=100.0, images=20)).warnings) == 1


def test_preferences_that_differ_no_more_than_a_random_walk_are_told():
    steady = [(0.3, 0.3, 0.2, 0.2)] * 3  # the logarithms have deviation 0.234
    assert _diagnose(steady, walk=0.2).warnings == ()
    (warning,) = _diagnose(steady, walk=0.25).warnings
    assert "layer 0: the preferences differ no more than chance makes them differ (0.94 of" in warning
    assert _diagnose(steady, walk=0.25).layers[0].spread == pytest.approx(0.2341 / 0.25, rel=1e-3)


def test_adam_on_noise_moves_as_far_as_is_said():
    torch.manual_seed(0)
    alphas = torch.nn.Parameter(torch.zeros(2000))
    adam = torch.optim.Adam([alphas], lr=0.02, betas=(0.5, 0.999))
    for _ in range(400):
        alphas.grad = torch.randn(2000)
        adam.step()
    assert float(alphas.detach().std()) == pytest.approx(random_walk(0.02, 400), rel=0.05)


def test_collapse_is_told_and_names_the_direction():
    (warning,) = _diagnose([(0.001, 0.997, 0.001, 0.001)] * 3).warnings
    assert "collapsed on v" in warning


def test_a_large_discretisation_gap_is_told():
    diagnosis = _diagnose([(0.4, 0.4, 0.1, 0.1)] * 3, subnetwork={"loss": 2.0, "accuracy": 40.0})
    assert diagnosis.gaps == {"loss": -1.5, "accuracy": 50.0}
    assert "50.0 points" in diagnosis.warnings[0]


def test_noise_is_unknown_after_two_epochs_and_for_other_selections():
    young = _diagnose([(0.4, 0.4, 0.1, 0.1)] * 2)
    assert young.layers[0].noise is None
    assert "too few epochs to tell the margins from noise" in young.warnings[0]
    assert _diagnose([(0.4, 0.4, 0.1, 0.1)] * 3, selection="perturbation").layers[0].noise is None


def test_choosing_every_candidate_leaves_no_margin():
    assert _diagnose([(0.4, 0.4, 0.1, 0.1)] * 3, chosen=NAMES).layers[0].margin is None
