"""What the tests of searching share."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from support.planted import made_data

from scansearch.data import ImageData
from scansearch.engine.devices import make_accelerator
from scansearch.searching.config import SearchConfig, search_config
from scansearch.searching.task import SearchTask


@pytest.fixture
def make_task(tiny_space) -> Callable[..., SearchTask]:
    """A search task on made images; ``options`` are fields of SearchConfig."""

    def make(*, data: ImageData | None = None, costs=None, **options) -> SearchTask:
        settings = {"space": "tiny-test", "k": 2, "epochs": 2, "batch_size": 16, "device": "cpu"} | options
        config: SearchConfig = search_config(**settings)
        accelerator = make_accelerator("cpu", config.mixed_precision)
        return SearchTask(config, tiny_space, data or made_data(), accelerator, costs=costs)

    return make


@pytest.fixture
def one_batch() -> tuple[torch.Tensor, torch.Tensor]:
    data = made_data(16, seed=3)
    images, labels = zip(*(data.train.read(i) for i in range(16)), strict=True)
    return torch.stack(images), torch.tensor(labels)
