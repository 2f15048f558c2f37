"""What the directions of each layer cost, as a heat map."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from scansearch.errors import InputError
from scansearch.plots.words import shortened
from scansearch.records.costs import Costs
from scansearch.text import choices, human, span

_UNITS = {"flops": "FLOPs an image", "params": "parameters", "latency_ms": "ms an image"}


def costs_figure(costs: Costs, measure: str = "flops") -> Figure:
    """Heat map of layers x directions; layers in a row that cost the same share one row of the picture.

    Args:
        measure: ``flops``, ``params`` or, where it was measured, ``latency_ms``.

    Raises:
        InputError: a measure that the costs do not have.
    """
    if measure not in costs.measures:
        raise InputError(f"unknown measure {measure!r} {choices(measure, costs.measures)}")
    names = list(dict.fromkeys(name for layer in costs.candidates for name in layer))
    groups = costs.equal_layers()
    table = costs.tables()[measure].table
    values = np.full((len(groups), len(names)), np.nan)
    for row, layers in enumerate(groups):
        for name, value in zip(costs.candidates[layers[0]], table[layers[0]], strict=True):
            values[row, names.index(name)] = value
    wide = float(np.clip(5.6 / len(names), 0.42, 0.8))
    high = float(np.clip(7.0 / len(groups), 0.16, 0.42))
    figure = Figure(figsize=(2.0 + wide * len(names), 1.5 + high * len(groups)), layout="constrained")
    axes = figure.add_subplot()
    low, top = float(np.nanmin(values)), float(np.nanmax(values))
    image = axes.imshow(values, cmap="viridis", aspect="auto", vmin=low, vmax=top)
    axes.set_xticks(range(len(names)), [shortened(name, 14) for name in names], rotation=90)
    for label in axes.get_xticklabels():
        label.set_parse_math(False)
    axes.set_yticks(range(len(groups)), [span(layers) for layers in groups])
    axes.tick_params(labelsize=8)
    axes.set_ylabel("layers")
    points = min(7.5, wide * 72 / 5.4, high * 72 / 1.5)
    for row, column in zip(*np.nonzero(np.isfinite(values)), strict=True):
        text = f"{values[row, column]:.3f}" if measure == "latency_ms" else human(values[row, column])
        colour = "white" if values[row, column] < (low + top) / 2 else "black"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=points)
    if top > low:
        figure.colorbar(image, ax=axes, fraction=0.1, aspect=25).set_label(_UNITS[measure], fontsize=9)
    height, width = costs.image_size
    origin = "" if costs.space is None else f"{costs.space}/{costs.variant}, "
    heading = f"{origin}{height}x{width} pixels: {_UNITS[measure]} of each direction"
    figure.suptitle(shortened(heading, 90), fontsize=9, parse_math=False)
    return figure
