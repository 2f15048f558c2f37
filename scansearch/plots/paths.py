"""The path of one scan in axes: what the pictures of directions, genotypes and images share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, ListedColormap

from scansearch.directions import ScanDirection, parse_direction
from scansearch.display.sketch import START, window_side
from scansearch.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_TOKENS = 128  # along a side: more cannot be told apart
# Dark to light, without the lightest end, which white paper would swallow.
PATH_COLOURS: LinearSegmentedColormap = LinearSegmentedColormap.from_list(
    "path", ListedColormap(mpl.colormaps["viridis"](np.linspace(0, 0.92, 256))).colors
)


def check_grid(height: int, width: int) -> tuple[int, int]:
    """``height`` and ``width`` of a grid that can be drawn.

    Raises:
        InputError: an empty grid, or more than 128 tokens along a side.
    """
    if not (1 <= height <= MOST_TOKENS and 1 <= width <= MOST_TOKENS):
        raise InputError(
            f"a grid of {height}x{width} tokens cannot be drawn (allowed: 1 to {MOST_TOKENS} a side)"
        )
    return height, width


def draw_path(
    axes: Axes,
    name: str,
    height: int,
    width: int,
    *,
    corner: tuple[float, float] = (0.0, 0.0),
    cell: float = 1.0,
    linewidth: float = 1.5,
    ring: float = 6.0,
    halo: float = 0.0,
) -> LineCollection:
    """Draw the scan ``name`` of a grid: dark to light in scan order, jumps thin, a ring around the start.

    Args:
        corner: where the top left corner of the grid lies in ``axes``; ``cell`` is the side of a token there.
        linewidth, ring: of the steps to a neighbour and of the start, in points.
        halo: points of white on both sides of the path, for a picture below it.

    Returns:
        the path, one segment a step.
    """
    order = parse_direction(name).order(height, width, "skip")
    row, column = np.divmod(order, width)
    points = np.column_stack([corner[0] + (column + 0.5) * cell, corner[1] + (row + 0.5) * cell])
    near = (np.abs(np.diff(row)) <= 1) & (np.abs(np.diff(column)) <= 1)
    segments = list(np.stack([points[:-1], points[1:]], axis=1))
    widths = np.where(near, linewidth, 0.35 * linewidth)
    colours = PATH_COLOURS(np.linspace(0, 1, max(len(segments), 1)))[: len(segments)]
    colours[~near, 3] = 0.75
    if halo:
        white = LineCollection(
            segments, colors="white", linewidths=widths + 2 * halo, alpha=0.55, capstyle="round", zorder=2.5
        )
        axes.add_collection(white, autolim=False)
    path = LineCollection(
        segments,
        colors=colours,
        linewidths=widths,
        capstyle="round",
        zorder=3,
    )
    axes.add_collection(path, autolim=False)
    axes.plot(
        *points[0],
        "o",
        color=START,
        markersize=ring,
        markerfacecolor="white",
        markeredgewidth=0.25 * ring,
        zorder=4,
    )
    return path


def window_borders(direction: ScanDirection, height: int, width: int) -> tuple[Sequence[int], Sequence[int]]:
    """Rows and columns at which a window of ``direction`` begins, without the border of the grid."""
    side = window_side(direction)
    return ((), ()) if side is None else (range(side, height, side), range(side, width, side))
