"""The forecast counts what a step really keeps, and refuses what cannot fit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from scansearch.costing.memory import Forecast, check_memory, forecast, saved_bytes
from scansearch.errors import InputError
from scansearch.searching.supernet import Supernet


def test_saved_bytes_of_a_known_network():
    # Two linear layers around a ReLU keep their inputs [n, 8] and [n, 16]; the ReLU keeps its output, which is the
    # second of them.
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    for n in (1, 10):
        assert saved_bytes(model, torch.zeros(n, 8)) == 4 * n * (8 + 16)


def test_saved_bytes_grow_with_the_images(tiny_space):
    supernet = Supernet.of_space(tiny_space, num_classes=4, in_chans=1)
    one, two, four = (saved_bytes(supernet, torch.zeros(n, 1, 8, 8)) for n in (1, 2, 4))
    assert two > 1.2 * one
    assert four - one == pytest.approx(3 * (two - one), rel=0.05)


def test_forecast_adds_parameters_and_activations():
    model = nn.Linear(8, 4)
    figures = forecast(model, (8,), 10, device=torch.device("cpu"))
    assert figures.parameters == 36
    assert figures.step_bytes == 16 * 36 + int(4 * 8 * 10 * 1.4)
    assert figures.available_bytes > 2**20


def test_what_fits_passes_and_what_does_not_is_refused_with_advice():
    check_memory(Forecast(parameters=10, step_bytes=1000, available_bytes=1000), 4)
    with pytest.raises(InputError, match=r"about 2 images at a time fit: a smaller --batch-size"):
        check_memory(Forecast(parameters=10, step_bytes=160 + 400, available_bytes=160 + 250), 4)
    with pytest.raises(InputError, match="not even one image fits"):
        check_memory(Forecast(parameters=10, step_bytes=160 + 400, available_bytes=100), 4)
