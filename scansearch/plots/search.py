"""Every picture, as functions that return a matplotlib Figure and draw on no screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from scansearch.plots.training import epoch_numbers
from scansearch.records.genotype import Genotype
from scansearch.records.preferences import Preferences

# One colour per candidate, flips in the lighter shade of their pair.
_COLOURS = mpl.colormaps["tab20"].colors  # type: ignore[attr-defined]


def preferences_figure(
    preferences: Preferences, genotype: Genotype | None = None, *, title: str | None = None
) -> Figure:
    """Heat map of layers x candidate directions; the directions of ``genotype`` are framed.

    Layers may have different candidates; a direction that a layer lacks is left blank.
    """
    names = list(dict.fromkeys(name for layer in preferences.candidates for name in layer))
    values = np.full((preferences.layers, len(names)), np.nan)
    for row, (candidates, scores) in enumerate(zip(preferences.candidates, preferences.scores, strict=True)):
        for name, score in zip(candidates, scores, strict=True):
            values[row, names.index(name)] = score

    figure = Figure(figsize=(1.8 + 0.72 * len(names), 1.7 + 0.42 * preferences.layers), layout="constrained")
    axes = figure.add_subplot()
    finite = values[np.isfinite(values)]
    image = axes.imshow(
        values, cmap="viridis", aspect="auto", vmin=float(finite.min()), vmax=float(finite.max())
    )
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_yticks(range(preferences.layers), [str(layer) for layer in range(preferences.layers)])
    axes.set_ylabel("layer")
    middle = (finite.min() + finite.max()) / 2
    digits = 2 if np.abs(finite).max() >= 0.1 else 3
    if values.size <= 200:
        for row, column in zip(*np.nonzero(np.isfinite(values)), strict=True):
            colour = "white" if values[row, column] < middle else "black"
            axes.text(
                column,
                row,
                f"{values[row, column]:.{digits}f}",
                ha="center",
                va="center",
                color=colour,
                fontsize=8,
            )
    if genotype is not None:
        for row, layer in enumerate(genotype.layers):
            for name in layer:
                corner = (names.index(name) - 0.46, row - 0.44)
                axes.add_patch(Rectangle(corner, 0.92, 0.88, fill=False, edgecolor="#ff5a36", linewidth=2.2))
    label = (
        "gate probability"
        if preferences.selection == "magnitude"
        else "rise of the validation loss when removed"
    )
    figure.colorbar(image, ax=axes, label=label)
    heading = title or f"{preferences.space}/{preferences.variant}: preference of each layer"
    axes.set_title(heading + (" (framed: chosen)" if genotype is not None else ""), fontsize=10)
    return figure


def trajectories_figure(epochs: Sequence[Mapping[str, Any]], candidates: Sequence[Sequence[str]]) -> Figure:
    """How the gate probabilities moved: one panel per layer, one line per candidate, over the epochs.

    ``epochs`` are the ``epoch`` records of a run's metrics.
    """
    layers = len(candidates)
    columns = min(layers, 4)
    rows = -(-layers // columns)
    figure = Figure(figsize=(3.1 * columns + 1.4, 2.5 * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    names = list(dict.fromkeys(name for layer in candidates for name in layer))
    x = epoch_numbers(epochs)
    for layer, axes in enumerate(panels.flat):
        if layer >= layers:
            axes.set_axis_off()
            continue
        for index, name in enumerate(candidates[layer]):
            y = [record["probabilities"][layer][index] for record in epochs]
            axes.plot(x, y, label=name, color=_COLOURS[names.index(name) % len(_COLOURS)], linewidth=1.6)
        axes.set_title(f"layer {layer}", fontsize=9)
        axes.grid(alpha=0.3)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in panels[-1]:
        axes.set_xlabel("epoch")
    for row in panels:
        row[0].set_ylabel("gate probability")
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize=8, frameon=False)
    return figure
