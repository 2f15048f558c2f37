"""Configuration and genotype -> data, device and model, ready to train."""

from __future__ import annotations

from scansearch import engine
from scansearch.data import ImageData, load_data
from scansearch.errors import InputError
from scansearch.records.genotype import Genotype
from scansearch.training.config import TrainConfig
from scansearch.training.task import TrainTask


def assemble_training(config: TrainConfig, genotype: Genotype) -> TrainTask:
    """The task that ``config`` describes, at its first step; its own ``config`` has every gap filled in.

    Raises:
        InputError: the configuration does not fit the genotype, the data or this machine.
    """
    accelerator = engine.make_accelerator(config.device, config.mixed_precision)
    config, data = with_data(config, genotype)
    return TrainTask(config, genotype, data, accelerator)


def with_data(config: TrainConfig, genotype: Genotype) -> tuple[TrainConfig, ImageData]:
    """``config`` with the data, image size and augmentation that it left open filled in, and the data.

    Raises:
        InputError: the data cannot be used.
    """
    spec = config.data or genotype.provenance.data
    if spec is None:
        raise InputError("the genotype does not say what it was searched on: give --data")
    searched = genotype.provenance.treatment
    size = config.image_size or (searched.image_size if searched else genotype.model.get("img_size", 224))
    augment = config.augment
    if augment is None and searched is not None and spec == genotype.provenance.data:
        augment = searched.augment
    data = load_data(spec, image_size=size, augment=augment, max_broken=config.max_broken)
    height, width = data.image_size
    update = {
        "data": spec,
        "image_size": height if height == width else (height, width),
        "augment": data.augment,
    }
    return config.model_copy(update=update), data
