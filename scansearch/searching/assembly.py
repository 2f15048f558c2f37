"""Configuration and space -> data, device, costs and supernet, ready to search."""

from __future__ import annotations

from typing import Any

from scansearch import engine
from scansearch.costing.flops import space_costs
from scansearch.data import ImageData, load_data
from scansearch.data.arrays import fitting
from scansearch.errors import InputError
from scansearch.records.equal_scans import merge_equal_scans
from scansearch.records.space import SearchSpace
from scansearch.searching.config import SearchConfig
from scansearch.searching.task import SearchTask


def assemble_search(
    config: SearchConfig, space: SearchSpace, images: ImageData | None = None, *, merge: bool = False
) -> SearchTask:
    """The task that ``config`` describes, at its first step; its own ``config`` names the augmentation.

    ``images`` take the place of ``config.data``. With ``merge``, as in a new search, candidates that are one scan at
    the size of the images are one candidate of the task's ``space``.

    Raises:
        InputError: the configuration does not fit the space, the data or this machine.
    """
    smallest = min(space.names_per_layer(config.variant))
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
    if merge:
        space = merge_equal_scans(space, config.variant, data.image_size)
    if config.selection == "evolution" and config.k > (
        smallest := min(map(len, space.layer_candidates(config.variant)))
    ):
        raise InputError(
            f"k is {config.k}, but a layer of {space.name!r} has {smallest} different scans of images of "
            f"{data.image_size[0]}x{data.image_size[1]} pixels, and selection 'evolution' needs k"
        )
    costs = space_costs(
        space,
        config.variant,
        image_size=data.image_size,
        num_classes=len(data.classes),
        in_chans=data.channels,
    )
    config = config.model_copy(update={"augment": data.augment})
    return SearchTask(config, space, data, accelerator, costs=costs)
