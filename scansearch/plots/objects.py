"""Pictures with their objects: boxes, masks and classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from scansearch.plots.masks import class_colours
from scansearch.plots.words import shortened

_OPACITY = 0.5
_MOST_NAMED = 24  # classes in the legend


class ShownObjects(NamedTuple):
    """What is shown on one picture: boxes [n, 4] (left, top, right, bottom in pixels), a class for each, and masks
    [n, height, width], not zero on the object.
    """

    boxes: np.ndarray
    labels: Sequence[int]
    masks: np.ndarray


def objects_overlay(image: np.ndarray, objects: ShownObjects, colours: np.ndarray) -> np.ndarray:
    """``image`` [height, width, channels] in 0..1, in grey under the colours of its objects."""
    grey = image[..., : 3 if image.shape[2] == 3 else 1].mean(axis=2, keepdims=True)
    painted = np.repeat(grey, 3, axis=2)
    for mask, label in zip(objects.masks, objects.labels, strict=True):
        inside = mask > 0
        painted[inside] = (1 - _OPACITY) * painted[inside] + _OPACITY * colours[label]
    return painted


def objects_figure(
    images: Sequence[np.ndarray], rows: Mapping[str, Sequence[ShownObjects]], classes: Sequence[str]
) -> Figure:
    """Pictures in a row, and below them the same with the objects of each of ``rows``."""
    colours = class_colours(len(classes) + 1)[1:]  # the first is that of a background
    height, width = images[0].shape[:2]
    tall = min(2.5, 1.3 * height / width)
    figure = Figure(
        figsize=(1.3 * len(images) + 0.3, (tall + 0.1) * (1 + len(rows)) + 0.5), layout="constrained"
    )
    grid = figure.subplots(1 + len(rows), len(images), squeeze=False)
    for column, image in enumerate(images):
        plain = image if image.shape[2] == 3 else np.repeat(image[..., :1], 3, axis=2)
        grid[0][column].imshow(plain, vmin=0, vmax=1)
        for row, objects in enumerate(rows.values(), start=1):
            axes, shown = grid[row][column], objects[column]
            axes.imshow(objects_overlay(image, shown, colours), vmin=0, vmax=1)
            for box, label in zip(shown.boxes, shown.labels, strict=True):
                left, top, right, bottom = (float(edge) - 0.5 for edge in box)
                axes.add_patch(
                    Rectangle(
                        (left, top), right - left, bottom - top, fill=False, edgecolor=tuple(colours[label])
                    )
                )
    for row, name in enumerate(["picture", *rows]):
        grid[row][0].set_ylabel(name, fontsize=8)
    for axes in grid.flat:
        axes.set_xticks([])
        axes.set_yticks([])
    present = sorted({int(label) for objects in rows.values() for one in objects for label in one.labels})
    patches = [
        Patch(color=tuple(colours[label]), label=shortened(f" {classes[label]}", 24))
        for label in present[:_MOST_NAMED]
    ]
    if patches:
        legend = figure.legend(
            handles=patches, loc="outside lower center", ncols=min(8, len(patches)), fontsize=7, frameon=False
        )
        for text in legend.get_texts():
            text.set_parse_math(False)
    return figure
