"""Scan paths of directions."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from scansearch.directions import parse_direction


def directions_figure(names: Sequence[str], height: int = 8, width: int = 8) -> Figure:
    """The path of each direction over a grid of tokens: dark to light in scan order, a ring marks the start."""
    columns = min(len(names), 5)
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(2.1 * columns, 2.35 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    colours = mpl.colormaps["viridis"]
    for axes in panels.flat:
        axes.set_axis_off()
    for axes, name in zip(panels.flat, names, strict=False):
        row, column = np.divmod(parse_direction(name).order(height, width, "skip"), width)
        for step in range(len(row) - 1):
            near = abs(row[step + 1] - row[step]) <= 1 and abs(column[step + 1] - column[step]) <= 1
            axes.plot(
                column[step : step + 2],
                row[step : step + 2],
                color=colours(0.92 * step / len(row)),
                linewidth=1.8 if near else 0.6,
                linestyle="-" if near else (0, (3, 2)),
            )
        axes.plot(column, row, ".", color="#444444", markersize=2.5)
        axes.plot(
            column[0], row[0], "o", color="#ff5a36", markersize=8, markerfacecolor="none", markeredgewidth=1.8
        )
        axes.set_title(name, fontsize=10, family="monospace")
        axes.set_xlim(-0.7, width - 0.3)
        axes.set_ylim(height - 0.3, -0.7)
        axes.set_aspect("equal")
    return figure
