"""Further scan directions: boustrophedon, stripes, diagonals, curves, strided and random orders.

Each returns a permutation of the row-major token indices of the grid. ``w<K>v`` alone keeps the -1 rows of
ragged windows, like ``w<K>``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scansearch.directions.registry import register_direction

Indices = NDArray[np.integer]


def _grid(height: int, width: int) -> Indices:
    return np.arange(height * width).reshape(height, width)


@register_direction(
    "snake",
    summary="rows, every second one from right to left",
    source="PlainMamba, arXiv 2403.17695; ZigMa, arXiv 2403.13802",
)
def _snake(height: int, width: int) -> Indices:
    grid = _grid(height, width)
    grid[1::2] = grid[1::2, ::-1].copy()
    return grid.ravel()


@register_direction(
    "vsnake",
    summary="columns, every second one from bottom to top",
    source="PlainMamba, arXiv 2403.17695; ZigMa, arXiv 2403.13802",
)
def _column_snake(height: int, width: int) -> Indices:
    columns = _grid(height, width).T.copy()
    columns[1::2] = columns[1::2, ::-1].copy()
    return columns.ravel()


@register_direction(
    "rsnake",
    summary="rows, from the top right corner: every second one from left to right",
    source="ZigMa, arXiv 2403.13802, which starts at each corner",
)
def _right_snake(height: int, width: int) -> Indices:
    row, column = np.divmod(_snake(height, width), width)
    return row * width + width - 1 - column


@register_direction(
    "rvsnake",
    summary="columns, from the bottom left corner: every second one from top to bottom",
    source="ZigMa, arXiv 2403.13802, which starts at each corner",
)
def _bottom_snake(height: int, width: int) -> Indices:
    row, column = np.divmod(_column_snake(height, width), width)
    return (height - 1 - row) * width + column


@register_direction(
    "stripe<K>",
    summary="stripes of K rows, each by columns up and down in turn, every second stripe from right to left",
    source="after MaIR's nested S-shaped scan, arXiv 2412.20066",
    minimum=2,
)
def _stripes(height: int, width: int, size: int) -> Indices:
    grid, pieces = _grid(height, width), []
    for number, top in enumerate(range(0, height, size)):
        columns = grid[top : top + size].T[:: -1 if number % 2 else 1].copy()
        columns[1::2] = columns[1::2, ::-1].copy()
        pieces.append(columns.ravel())
    return np.concatenate(pieces)


@register_direction(
    "stripe<K>v",
    summary="stripes of K columns, each by rows left and right in turn, every second stripe from bottom to top",
    source="after MaIR's nested S-shaped scan, arXiv 2412.20066",
    minimum=2,
)
def _column_stripes(height: int, width: int, size: int) -> Indices:
    row, column = np.divmod(_stripes(width, height, size), height)  # of the transposed grid
    return column * width + row


@register_direction(
    "diag",
    summary="diagonals from the top left corner, each from its top down",
    source="RS-Mamba, arXiv 2404.02668",
)
def _diagonals(height: int, width: int) -> Indices:
    row, column = np.indices((height, width)).reshape(2, -1)
    return np.lexsort((row, row + column))


@register_direction(
    "antidiag",
    summary="diagonals from the top right corner, each from its top down",
    source="RS-Mamba, arXiv 2404.02668",
)
def _antidiagonals(height: int, width: int) -> Indices:
    row, column = np.indices((height, width)).reshape(2, -1)
    return np.lexsort((row, row - column))


@register_direction(
    "zorder",
    summary="by the interleaved bits of row and column (Morton)",
    source="Morton 1966, A computer oriented geodetic data base",
)
def _zorder(height: int, width: int) -> Indices:
    row, column = np.indices((height, width)).reshape(2, -1)
    code = np.zeros(height * width, dtype=np.int64)
    for bit in range(max(height, width).bit_length()):
        code |= (row >> bit & 1) << (2 * bit + 1) | (column >> bit & 1) << (2 * bit)
    return np.argsort(code)


@register_direction(
    "spiral",
    summary="rings from the outside in, clockwise from the top left",
    source="defined here",
)
def _spiral(height: int, width: int) -> Indices:
    grid, pieces = _grid(height, width), []
    while grid.size:
        pieces.append(grid[0])
        grid = grid[1:].T[::-1]  # a quarter turn brings the right column to the top
    return np.concatenate(pieces)


@register_direction(
    "atrous<S>",
    summary="the S x S phases of a grid of stride S one after the other, raster inside each",
    source="after EfficientVMamba, arXiv 2403.09977",
    minimum=2,
)
def _atrous(height: int, width: int, stride: int) -> Indices:
    grid = _grid(height, width)
    stride = min(stride, max(height, width))  # from there on every phase is a single token
    return np.concatenate([grid[i::stride, j::stride].ravel() for i in range(stride) for j in range(stride)])


@register_direction(
    "random<SEED>",
    summary="a fixed shuffle of the grid: a control, not a proposal",
    source="ZigMa's code (random), arXiv 2403.13802; Shuffle Mamba, arXiv 2409.01728",
)
def _random(height: int, width: int, seed: int) -> Indices:
    # SplitMix64 (Steele et al. 2014) instead of numpy's generator, whose stream may change with its version.
    state = np.arange(1, height * width + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = _mix(state + _mix(np.array([seed % 2**64], dtype=np.uint64)))
    return np.argsort(mixed, kind="stable")


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@register_direction(
    "hilbert",
    summary="generalised Hilbert curve: every step goes to a neighbour, on any rectangle",
    source="Hilbert 1891; ZigMa, arXiv 2403.13802; Voxel Mamba, arXiv 2406.10700; rectangles after Cerveny's gilbert",
)
def _hilbert(height: int, width: int) -> Indices:
    """Boxes are cut until they are one token thick; a box is walked along ``main``, bending to ``side``.

    A path over all tokens from one end of a side to the other needs an even side when the token count is even
    (colour the grid as a chessboard), so the first box runs along an even side where there is one.
    """
    along_width = width % 2 == 0 if (width - height) % 2 else width >= height
    right, down = 1 + 0j, 1j
    boxes = [(0j, width, right, height, down) if along_width else (0j, height, down, width, right)]
    pieces = []
    while boxes:
        corner, length, main, depth, side = boxes.pop()
        if depth == 1 or length == 1:
            pieces.append(corner + (main * np.arange(length) if depth == 1 else side * np.arange(depth)))
            continue
        half, middle = _even_half(length), _even_half(depth)
        if 2 * length > 3 * depth:  # long: two boxes in a row
            parts = [
                (corner, half, main, depth, side),
                (corner + half * main, length - half, main, depth, side),
            ]
        else:  # out along the side, across, and back
            far = corner + (length - 1) * main + (middle - 1) * side
            parts = [
                (corner, middle, side, half, main),
                (corner + middle * side, length, main, depth - middle, side),
                (far, middle, -side, length - half, -main),
            ]
        boxes.extend(reversed(parts))
    path = np.concatenate(pieces)
    return path.imag.astype(np.int64) * width + path.real.astype(np.int64)


def _even_half(length: int) -> int:
    """Half of ``length``, made even where that leaves something over, so that parts end on the right colour."""
    half = length // 2
    return half + 1 if half % 2 and length > 2 else half
