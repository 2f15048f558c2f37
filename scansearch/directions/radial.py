"""Scan directions around the middle of the grid: rings and sectors.

Distances and angles are those of a token's centre seen from the middle of the grid.
"""

from __future__ import annotations

from math import isqrt

import numpy as np
from numpy.typing import NDArray

from scansearch.directions.registry import register_direction

Indices = NDArray[np.integer]
_MOST_SECTORS = 2**31  # with more, every angle of any grid has a sector of its own


def _polar(height: int, width: int) -> tuple[Indices, NDArray[np.float64]]:
    """Four times the squared distance of each token, int64, and its angle: clockwise from the top, in turns (0 to 1).

    Tokens on one ray have exactly the same angle, since it is computed from the shortest whole step along the ray.
    """
    row, column = np.indices((height, width)).reshape(2, -1)
    down, right = 2 * row - (height - 1), 2 * column - (width - 1)
    step = np.maximum(np.gcd(down, right), 1)
    angle = np.arctan2(right // step, -(down // step)) / (2 * np.pi)
    return down**2 + right**2, angle % 1.0


@register_direction(
    "ring",
    summary="circular rings one token wide, from the middle outwards, each clockwise from the top",
    source="defined here; after PRISMamba, arXiv 2602.04170",
)
def _rings(height: int, width: int) -> Indices:
    squared, angle = _polar(height, width)
    ring = np.array([isqrt(value) // 2 for value in squared.tolist()])
    return np.lexsort((squared, angle, ring))


@register_direction(
    "sector<S>",
    summary="S equal sectors, clockwise from the top, each from the middle outwards",
    source="defined here; the radial counterpart of ring",
    minimum=2,
)
def _sectors(height: int, width: int, sectors: int) -> Indices:
    squared, angle = _polar(height, width)
    # A ray between two sectors belongs to the second, however its angle was rounded.
    sector = (angle * min(sectors, _MOST_SECTORS) + 1e-9).astype(np.int64)
    return np.lexsort((angle, squared, sector))
