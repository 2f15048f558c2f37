"""Configuration and genotype -> data, device and model, ready to train."""

from __future__ import annotations

from typing import Any

from scansearch import engine
from scansearch.data import ImageData
from scansearch.data.arrays import fitting
from scansearch.data.decoding import CHANNELS
from scansearch.errors import InputError
from scansearch.records.genotype import Genotype
from scansearch.records.provenance import Provenance
from scansearch.records.timm_model import TimmModel, TrainedModel
from scansearch.tasks import find_task
from scansearch.training.config import TrainConfig
from scansearch.training.initial import read_initial
from scansearch.training.task import TrainTask


def assemble_training(
    config: TrainConfig,
    genotype: TrainedModel,
    images: ImageData | None = None,
    *,
    read_weights: bool = True,
) -> TrainTask:
    """The task that ``config`` describes, at its first step; its own ``config`` has every gap filled in.

    ``images`` take the place of ``config.data``. Without ``read_weights`` the weights are fresh whatever
    ``config.weights`` says, for a task that goes on from a checkpoint.

    Raises:
        InputError: the configuration does not fit the genotype, the weights, the data or this machine.
    """
    if isinstance(genotype, TimmModel):
        _check_baseline(config, genotype)
    weights = read_initial(config.weights) if config.weights is not None and read_weights else None
    accelerator = engine.make_accelerator(config.device, config.mixed_precision)
    config, data = with_data(config, genotype, images)
    return TrainTask(config, genotype, data, accelerator, weights)


def _check_baseline(config: TrainConfig, model: TimmModel) -> None:
    if config.task != "classify":
        raise InputError(f"{model.title} is a baseline of task classify, not {config.task}")
    if config.weights is not None:
        raise InputError(f"weights {config.weights!r}: {model.title} is trained from scratch only")


def with_data(
    config: TrainConfig, genotype: TrainedModel, images: ImageData | None = None
) -> tuple[TrainConfig, ImageData]:
    """``config`` with the data, image size and augmentation that it left open filled in, and the data.

    Raises:
        InputError: the data cannot be used.
    """
    searched = genotype.provenance if isinstance(genotype, Genotype) else Provenance()
    spec = config.data or searched.data
    if images is not None:
        if config.task != "classify":
            raise InputError(
                f"images that the program holds have one class each: task {config.task} needs a specification"
            )
        spec = images.spec
        data = fitting(
            images,
            image_size=config.image_size,
            augment=config.augment,
            channels=config.channels,
            max_broken=config.max_broken,
        )
    else:
        if spec is None:
            what = "the genotype" if isinstance(genotype, Genotype) else genotype.title
            raise InputError(f"{what} does not say what it was searched on: give --data")
        data = _load(spec, config, searched, _own_size(genotype))
    height, width = data.image_size
    update = {
        "data": spec,
        "image_size": height if height == width else (height, width),
        "augment": data.augment,
    }
    return config.model_copy(update=update), data


def _own_size(model: TrainedModel) -> Any:
    """Side, or height and width, in pixels that the model is made for."""
    return model.model.get("img_size", 224) if isinstance(model, Genotype) else model.image_size


def _load(spec: str, config: TrainConfig, provenance: Provenance, own_size: Any) -> ImageData:
    """The data ``spec``; what ``config`` leaves open is as in the search, where that was on the same data."""
    searched = provenance.treatment
    size = config.image_size or (searched.image_size if searched else own_size)
    augment = config.augment
    channels: int | None = config.channels
    if searched is not None and spec == provenance.data:
        augment = searched.augment if augment is None else augment
        known = len(searched.mean or ())
        channels = known if channels is None and known in CHANNELS else channels
    load = find_task(config.task).load
    return load(spec, image_size=size, augment=augment, max_broken=config.max_broken, channels=channels)
