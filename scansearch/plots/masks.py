"""Pictures with the class of every pixel laid on them."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from scansearch.plots.words import shortened

_OPACITY = 0.6
_MOST_NAMED = 24  # classes in the legend
_IGNORED = 255
_STEP = 0.61803398875  # of hues: neighbours in the order of classes look different


def class_colours(classes: int) -> np.ndarray:
    """A colour for each class, float [classes, 3] in 0..1; the first is grey."""
    colours = [(0.35, 0.35, 0.35)]
    for index in range(1, classes):
        colours.append(colorsys.hsv_to_rgb(index * _STEP % 1, 0.75 + 0.25 * (index % 2), 0.95))
    return np.asarray(colours[:classes])


def overlay(image: np.ndarray, mask: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """``image`` [height, width, channels] in 0..1, in grey under the colours of ``mask`` [height, width].

    Ignored pixels stay grey.
    """
    grey = image[..., : 3 if image.shape[2] == 3 else 1].mean(axis=2, keepdims=True)
    painted = np.repeat(grey, 3, axis=2)
    known = mask != _IGNORED
    painted[known] = (1 - _OPACITY) * painted[known] + _OPACITY * colours[mask[known]]
    return painted


def masks_figure(
    images: Sequence[np.ndarray], rows: Mapping[str, np.ndarray], classes: Sequence[str]
) -> Figure:
    """Pictures in a row, and below them the same with the masks of each of ``rows``, uint8 [n, height, width]."""
    colours = class_colours(len(classes))
    height, width = images[0].shape[:2]
    tall = min(2.5, 1.3 * height / width)
    present = sorted({int(label) for masks in rows.values() for label in np.unique(masks)} - {_IGNORED})
    figure = Figure(
        figsize=(1.3 * len(images) + 0.3, (tall + 0.1) * (1 + len(rows)) + 0.5), layout="constrained"
    )
    grid = figure.subplots(1 + len(rows), len(images), squeeze=False)
    for column, image in enumerate(images):
        shown = image if image.shape[2] == 3 else np.repeat(image[..., :1], 3, axis=2)
        grid[0][column].imshow(shown, vmin=0, vmax=1)
        for row, masks in enumerate(rows.values(), start=1):
            grid[row][column].imshow(overlay(image, masks[column], colours), vmin=0, vmax=1)
    for row, name in enumerate(["picture", *rows]):
        grid[row][0].set_ylabel(name, fontsize=8)
    for axes in grid.flat:
        axes.set_xticks([])
        axes.set_yticks([])
    named = present[:_MOST_NAMED]
    patches = [
        Patch(color=tuple(colours[label]), label=shortened(f" {classes[label]}", 24)) for label in named
    ]
    if patches:
        legend = figure.legend(
            handles=patches, loc="outside lower center", ncols=min(8, len(named)), fontsize=7, frameon=False
        )
        for text in legend.get_texts():
            text.set_parse_math(False)
    return figure
