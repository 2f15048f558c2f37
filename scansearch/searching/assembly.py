"""Configuration and space -> data, device, costs and supernet, ready to search."""

from __future__ import annotations

from typing import Any

from scansearch import engine
from scansearch.costing.flops import space_costs
from scansearch.data import ImageData, load_data
from scansearch.data.arrays import fitting
from scansearch.errors import InputError
from scansearch.records.space import SearchSpace
from scansearch.searching.config import SearchConfig
from scansearch.searching.task import SearchTask


def assemble_search(config: SearchConfig, space: SearchSpace, images: ImageData | None = None) -> SearchTask:
    """The task that ``config`` describes, at its first step; its own ``config`` names the augmentation.

    ``images`` take the place of ``config.data``.

    Raises:
        InputError: the configuration does not fit the space, the data or this machine.
    """
    smallest = min(len(names) for names in space.layer_candidates(config.variant))
    if config.k > smallest:
        raise InputError(
            f"k is {config.k}, but a layer of {space.name!r} has {smallest} candidates (allowed: 1 to {smallest})"
        )
    accelerator = engine.make_accelerator(config.device, config.mixed_precision)
    options: dict[str, Any] = {
        "augment": config.augment,
        "channels": config.channels,
        "max_broken": config.max_broken,
    }
    if images is not None:
        data = fitting(images, image_size=config.image_size, **options)
    else:
        size = config.image_size or space.variant(config.variant).image_size
        data = load_data(config.data, image_size=size, **options)
    costs = space_costs(
        space,
        config.variant,
        image_size=data.image_size,
        num_classes=len(data.classes),
        in_chans=data.channels,
    )
    config = config.model_copy(update={"augment": data.augment})
    return SearchTask(config, space, data, accelerator, costs=costs)
