"""Scan paths of directions, on an empty grid and over an image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from scansearch.directions import check_directions, parse_direction
from scansearch.display.sketch import sketch_side
from scansearch.errors import InputError
from scansearch.plots.paths import check_grid, draw_path, window_borders
from scansearch.plots.words import shortened
from scansearch.records.genotype import Genotype


def directions_figure(names: Sequence[str], height: int = 8, width: int = 8) -> Figure:
    """The path of each direction over a grid of tokens: dark to light in scan order, a ring marks the start."""
    check_grid(height, width)
    columns = min(len(names), 5)
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(2.1 * columns, 2.35 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes in panels.flat:
        axes.set_axis_off()
    for axes, name in zip(panels.flat, names, strict=False):
        row, column = np.divmod(np.arange(height * width), width)
        axes.plot(column, row, ".", color="#444444", markersize=2.5)
        draw_path(axes, name, height, width, corner=(-0.5, -0.5), linewidth=1.8, ring=8)
        axes.set_title(shortened(name, 16), fontsize=10, family="monospace", parse_math=False)
        axes.set_xlim(-0.7, width - 0.3)
        axes.set_ylim(height - 0.3, -0.7)
        axes.set_aspect("equal")
    return figure


def scan_paths_figure(
    directions: Genotype | Sequence[str],
    image: np.ndarray | None = None,
    *,
    layer: int = 0,
    grid: tuple[int, int] | None = None,
    columns: int = 4,
) -> Figure:
    """The paths of scans over an image: dark to light in scan order, a ring marks the start, thin lines are jumps.

    Thin lines are the borders of the tokens, strong black ones those of the windows of ``w<K>``.

    Args:
        directions: names, or a genotype, of which the directions of one ``layer`` (from 0) are drawn.
        image: [height, width] or [height, width, channels] with 1, 3 or 4 channels, as bytes or as shares of 1;
            what does not have the proportions of the grid is cut around its middle. None: nothing below the paths.
        grid: rows and columns of tokens; None for those of the genotype's layer, or for a square one that shows
            two windows of every direction.
        columns: how many pictures stand beside each other.

    Raises:
        InputError: an unknown direction, a layer that the genotype lacks, a grid of more than 128 tokens a side, or
            an image of another shape.
    """
    if isinstance(directions, Genotype):
        if not 0 <= layer < len(directions.layers):
            raise InputError(
                f"the genotype has no layer {layer} (allowed: 0 to {len(directions.layers) - 1})"
            )
        names = directions.layers[layer]
        grid = grid or directions.grids()[layer]
    else:
        names = check_directions(directions, where="directions")
    side = max(map(sketch_side, names))
    height, width = check_grid(*(grid or (side, side)))
    pixels = None if image is None else _middle(_checked(image), height, width)

    across = max(1, min(columns, len(names)))
    rows = -(-len(names) // across)
    panel = 1.72 if across > 2 else 3.3 if across == 1 else 2.4
    figure = Figure(figsize=(panel * across, (panel * height / width + 0.28) * rows), layout="constrained")
    panels = figure.subplots(rows, across, squeeze=False)
    cell = panel * 72 / width * 0.92  # points
    for axes in panels.flat:
        axes.set_axis_off()
    for axes, name in zip(panels.flat, names, strict=False):
        if pixels is not None:
            # Paler than it is, so that the path stands out.
            axes.imshow(pixels * 0.6 + 0.4, extent=(0, width, height, 0), aspect="auto", zorder=0)
        _lines(axes, range(height + 1), range(width + 1), height, width, "#777777", min(0.4, cell / 20))
        for colour, extra in (("#ffffff", 2.4), ("#000000", 1.0)):
            borders = window_borders(parse_direction(name), height, width)
            _lines(axes, *borders, height, width, colour, min(1.0, cell / 8) * extra, zorder=2)
        draw_path(
            axes,
            name,
            height,
            width,
            linewidth=float(np.clip(cell / 6, 0.35, 1.8)),
            ring=float(np.clip(0.7 * cell, 3.5, 9)),
            halo=0.0 if pixels is None else float(np.clip(cell / 16, 0.2, 0.8)),
        )
        axes.set_title(
            shortened(name, int(panel * 72 / 5.2)), fontsize=8, family="monospace", parse_math=False
        )
        axes.set_xlim(-0.02 * width, 1.02 * width)
        axes.set_ylim(1.02 * height, -0.02 * height)
        axes.set_aspect("equal")
    return figure


def _lines(  # type: ignore[no-untyped-def]
    axes,
    rows: Sequence[int],
    columns: Sequence[int],
    height: int,
    width: int,
    colour: str,
    linewidth: float,
    zorder: float = 1,
) -> None:
    segments = [[(0, row), (width, row)] for row in rows]
    segments += [[(column, 0), (column, height)] for column in columns]
    if segments:
        alpha = 0.6 if zorder == 1 else 1.0
        lines = LineCollection(segments, colors=colour, linewidths=linewidth, alpha=alpha, zorder=zorder)
        axes.add_collection(lines, autolim=False)


def _checked(image: np.ndarray) -> np.ndarray:
    """Red, green and blue as shares of 1, [height, width, 3]; opacity is laid on white."""
    pixels = np.asarray(image)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or 0 in pixels.shape:
        raise InputError(
            f"an image of shape {np.shape(image)} cannot be drawn (allowed: height, width and 1, 3 or 4 channels)"
        )
    shares = pixels / 255 if pixels.dtype == np.uint8 else pixels.astype(float)
    if not np.isfinite(shares).all() or shares.min() < 0 or shares.max() > 1:
        raise InputError("the values of an image must be bytes, or shares of 1")
    if shares.shape[2] == 4:
        shares = shares[..., :3] * shares[..., 3:] + 1 - shares[..., 3:]
    return np.broadcast_to(shares, (*shares.shape[:2], 3))


def _middle(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """The largest part of the middle with the proportions of ``height`` x ``width``."""
    rows, columns = pixels.shape[:2]
    kept_rows = max(1, min(rows, round(columns * height / width)))
    kept_columns = max(1, min(columns, round(rows * width / height)))
    top, left = (rows - kept_rows) // 2, (columns - kept_columns) // 2
    return pixels[top : top + kept_rows, left : left + kept_columns]
