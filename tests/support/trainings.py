"""Trainings of a tiny model on made images, for the tests of training."""

from __future__ import annotations

from typing import Any

import torch
from support.planted import made_data
from support.tiny import TINY_SPACE

from scansearch import engine
from scansearch.data import ImageData
from scansearch.engine.devices import make_accelerator
from scansearch.files.strict import validate
from scansearch.records.genotype import Genotype
from scansearch.records.space import SearchSpace
from scansearch.training.config import train_config
from scansearch.training.task import TrainTask


def tiny_genotype() -> Genotype:
    """Two layers on grids of 4x4."""
    space = validate(TINY_SPACE, SearchSpace, source="tiny space")
    return Genotype.of_space(space, [["h", "w2"], ["v", "v_flip"]])


def make_task(*, data: ImageData | None = None, **options: Any) -> TrainTask:
    """A training task on made images; ``options`` are fields of TrainConfig."""
    settings = {"model": "tiny", "data": "bars", "epochs": 3, "batch_size": 16, "device": "cpu"} | options
    config = train_config(**settings)
    accelerator = make_accelerator("cpu", config.mixed_precision)
    return TrainTask(config, tiny_genotype(), data or made_data(), accelerator)


def drive(task: TrainTask, **options: Any) -> list[engine.Event]:
    """Run the task to its end; all its events."""
    return list(engine.drive(task, seed=task.config.seed, **options))


def weights(task: TrainTask) -> torch.Tensor:
    """All weights in one vector."""
    return torch.cat([p.detach().flatten().float() for p in task.model.parameters()])
