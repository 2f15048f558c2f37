"""Rasters and windows: ``h``, ``v``, ``w<K>``, ``w<K>v``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scansearch.directions.registry import register_direction
from scansearch.errors import InputError

_LARGEST_ORDER = 2**26


@register_direction("h", summary="rows left to right, top to bottom", source="Vim, arXiv 2401.09417")
def _horizontal(height: int, width: int) -> NDArray[np.integer]:
    return np.arange(height * width)


@register_direction("v", summary="columns top to bottom, left to right", source="VMamba, arXiv 2401.10166")
def _vertical(height: int, width: int) -> NDArray[np.integer]:
    return np.arange(height * width).reshape(height, width).T.ravel()


@register_direction(
    "w<K>",
    summary="K x K windows in raster order, raster inside each",
    source="LocalMamba, arXiv 2403.09338",
    minimum=2,
)
def build_windows(height: int, width: int, size: int) -> NDArray[np.integer]:
    """Row-major indices of a ``height`` x ``width`` grid, window after window; -1 fills ragged windows."""
    rows, columns = -(-height // size), -(-width // size)
    if rows * columns * size * size > _LARGEST_ORDER:
        raise InputError(
            f"windows of {size}x{size} pad a grid of {height}x{width} tokens beyond {_LARGEST_ORDER} rows"
        )
    grid = np.full((rows * size, columns * size), -1)
    grid[:height, :width] = np.arange(height * width).reshape(height, width)
    return grid.reshape(rows, size, columns, size).transpose(0, 2, 1, 3).ravel()


@register_direction(
    "w<K>v",
    summary="K x K windows in column order, column order inside each",
    source="LocalMamba's code (column_first), arXiv 2403.09338",
    minimum=2,
)
def _column_windows(height: int, width: int, size: int) -> NDArray[np.integer]:
    windows = build_windows(width, height, size)  # of the transposed grid
    rows, columns = windows % height, windows // height
    return np.where(windows < 0, -1, rows * width + columns)
