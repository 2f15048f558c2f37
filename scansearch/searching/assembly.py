"""Configuration and space -> data, device, costs and supernet, ready to search."""

from __future__ import annotations

from typing import Any

from scansearch import engine
from scansearch.costing.decoders import task_costs
from scansearch.data import ImageData
from scansearch.data.arrays import fitting
from scansearch.errors import InputError
from scansearch.records.equal_scans import merge_equal_scans
from scansearch.records.space import SearchSpace
from scansearch.searching.config import SearchConfig
from scansearch.searching.task import SearchTask
from scansearch.tasks import find_task


def scanned_size(config: SearchConfig, space: SearchSpace, data: ImageData) -> tuple[int, int]:
    """Height and width in pixels of what the backbone sees: a decoder's model pads images to whole patches."""
    height, width = data.image_size
    patch = 1 if config.task == "classify" else space.variant(config.variant).backbone.patch_size
    return height + -height % patch, width + -width % patch


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
        if config.task != "classify":
            raise InputError(
                f"images that the program holds have one class each: task {config.task} needs a specification"
            )
        data = fitting(images, image_size=config.image_size, **options)
    else:
        size = config.image_size or space.variant(config.variant).image_size
        data = find_task(config.task).load(config.data, image_size=size, **options)
    if merge:
        space = merge_equal_scans(space, config.variant, scanned_size(config, space, data))
    if config.selection == "evolution" and config.k > (
        smallest := min(map(len, space.layer_candidates(config.variant)))
    ):
        raise InputError(
            f"k is {config.k}, but a layer of {space.name!r} has {smallest} different scans of images of "
            f"{data.image_size[0]}x{data.image_size[1]} pixels, and selection 'evolution' needs k"
        )
    costs = task_costs(
        space,
        config.variant,
        task=config.task,
        head=config.head,
        image_size=data.image_size,
        classes=len(data.classes),
        in_chans=data.channels,
    )
    config = config.model_copy(update={"augment": data.augment})
    return SearchTask(config, space, data, accelerator, costs=costs)
