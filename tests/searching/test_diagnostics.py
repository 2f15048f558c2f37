"""The diagnosis warns of what should worry a user, and of nothing else."""

from __future__ import annotations

import math

import pytest

from scansearch.records.genotype import Genotype
from scansearch.records.preferences import Preferences
from scansearch.searching.diagnostics import diagnose

NAMES = ("h", "v", "w2", "w7")
GOOD = {"loss": 0.5, "accuracy": 90.0}


def _diagnose(history, chosen=("h", "v"), subnetwork=GOOD, selection="magnitude"):
    preferences = Preferences(
        space="s", variant="v", selection=selection, candidates=(NAMES,), scores=(history[-1],)
    )
    genotype = Genotype(family="local_vim", layers=(chosen,))
    epochs = [{"probabilities": [row]} for row in history]
    return diagnose(preferences, genotype, epochs, supernet=GOOD, subnetwork=subnetwork)


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
    assert "layer 0: the choice is within the noise" in warning


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
