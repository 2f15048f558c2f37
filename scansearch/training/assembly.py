"""Configuration and genotype -> data, device and model, ready to train."""

from __future__ import annotations

from typing import Any

from scansearch import engine
from scansearch.data import ImageData, load_data
from scansearch.data.arrays import fitting
from scansearch.errors import InputError
from scansearch.records.genotype import Genotype
from scansearch.training.config import TrainConfig
from scansearch.training.task import TrainTask


def assemble_training(config: TrainConfig, genotype: Genotype, images: ImageData | None = None) -> TrainTask:
    """The task that ``config`` describes, at its first step; its own ``config`` has every gap filled in.

    ``images`` take the place of ``config.data``.

    Raises:
        InputError: the configuration does not fit the genotype, the data or this machine.
    """
    accelerator = engine.make_accelerator(config.device, config.mixed_precision)
    config, data = with_data(config, genotype, images)
    return TrainTask(config, genotype, data, accelerator)


def with_data(
    config: TrainConfig, genotype: Genotype, images: ImageData | None = None
) -> tuple[TrainConfig, ImageData]:
    """``config`` with the data and image size that it left open filled in, and the data.

    Raises:
        InputError: the data cannot be used.
    """
    options: dict[str, Any] = {
        "augment": config.augment,
        "channels": config.channels,
        "max_broken": config.max_broken,
    }
    if images is not None:
        spec, data = images.spec, fitting(images, image_size=config.image_size, **options)
    else:
        named = config.data or genotype.provenance.data
        if named is None:
            raise InputError("the genotype does not say what it was searched on: give --data")
        size = config.image_size or genotype.model.get("img_size", 224)
        spec, data = named, load_data(named, image_size=size, **options)
    height, width = data.image_size
    side = height if height == width else config.image_size
    return config.model_copy(update={"data": spec, "image_size": side}), data
