"""What a new scan direction must pass, for its author.

Register the direction, then check it in a test of your own::

    from scansearch.testing import check_direction

    def test_rowpairs():
        check_direction("rowpairs")
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from scansearch.directions import FLIP, Padding, ScanDirection, parse_direction

__all__ = ["GRIDS", "check_direction"]

# (height, width) in tokens: single tokens, single rows and columns, odd, wide, tall, larger than any usual window.
GRIDS = (
    (1, 1), (1, 2), (2, 1), (1, 7), (7, 1), (1, 65), (65, 1), (2, 2), (2, 3), (3, 2), (5, 5), (3, 8),
    (8, 3), (8, 8), (13, 17), (14, 14), (31, 32),
)  # fmt: skip


def check_direction(name: str, *, grids: Sequence[tuple[int, int]] = GRIDS) -> None:
    """Check the direction called ``name`` and its reversal on many grids.

    On each grid its function returns a list of integers, the same at every call, that holds every token index
    0 .. height x width - 1 exactly once and, besides, only -1 (a zero row). The orders that models use are that list
    as int32, read-only: whole under the padding ``zero``, without the -1 under ``skip``, backwards for ``_flip``.
    The family also says in words what it is and where it comes from.

    Args:
        name: a registered name, for example ``rowpairs`` or ``w5``; with or without ``_flip``. For a family with a
            parameter check several members, the smallest among them.
        grids: pairs (height, width) in tokens.

    Raises:
        AssertionError: one line with the direction, the grid, and what is wrong there.
        InputError: no direction has this name.
    """
    family = parse_direction(name).family
    for word in ("summary", "source"):
        if not getattr(family, word).strip():
            raise AssertionError(f"direction {family.pattern!r} has no {word}: give it to register_direction")
    base = name.removesuffix(FLIP)
    for height, width in grids:
        where = f"direction {base!r} on a grid of {height}x{width} tokens"
        rows = _rows(parse_direction(base), height, width, where)
        _check_orders(parse_direction(base), rows, height, width, where)
        where = f"direction {base + FLIP!r} on a grid of {height}x{width} tokens"
        _check_orders(parse_direction(base + FLIP), rows[::-1], height, width, where)


def _rows(direction: ScanDirection, height: int, width: int, where: str) -> NDArray[np.integer]:
    """What the family's function returns, checked."""
    arguments = () if direction.parameter is None else (direction.parameter,)
    try:
        rows, again = (np.array(direction.family.build(height, width, *arguments)) for _ in range(2))
    except Exception as error:
        raise AssertionError(f"{where}: its function raises {type(error).__name__}: {error}") from error
    if not np.array_equal(rows, again):
        raise AssertionError(f"{where}: its function returns another order when it is called again")
    if rows.ndim != 1 or not np.issubdtype(rows.dtype, np.integer):
        raise AssertionError(
            f"{where}: its function returns {rows.dtype} of shape {list(rows.shape)}, not a list of integers"
        )
    tokens = height * width
    for outside in rows[(rows < -1) | (rows >= tokens)]:
        raise AssertionError(f"{where}: {outside} is neither a token (0 to {tokens - 1}) nor -1")
    visits = np.bincount(rows[rows >= 0], minlength=tokens)
    for token in np.flatnonzero(visits != 1):
        times = "never" if visits[token] == 0 else f"{visits[token]} times"
        raise AssertionError(f"{where}: token {token} is visited {times}, not once")
    return rows


def _check_orders(
    direction: ScanDirection, rows: NDArray[np.integer], height: int, width: int, where: str
) -> None:
    """The orders that models get are those of ``rows``."""
    paddings: dict[Padding, NDArray[np.integer]] = {"zero": rows, "skip": rows[rows >= 0]}
    for padding, expected in paddings.items():
        order = direction.order(height, width, padding)
        if order.dtype != np.int32 or order.flags.writeable:
            raise AssertionError(f"{where}: its order is not a read-only int32 array")
        if not np.array_equal(order, expected):
            raise AssertionError(
                f"{where}: its order under padding {padding!r} is not what its function returns"
            )
