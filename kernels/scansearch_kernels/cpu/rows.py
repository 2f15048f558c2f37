"""Rows between tensors and scratch: whole vectors where they fit, single channels at a ragged end."""

from typing import Any

import numpy as np
from numba import njit

from scansearch_kernels.cpu import layout as field
from scansearch_kernels.cpu.vector_math import lane_count, softplus
from scansearch_kernels.cpu.vectors import (
    invariant,
    load,
    offset,
    pointer,
    prefetch,
    prefetch_to_write,
    spread,
    store,
    vload,
    vstore,
)

INT32, INT64, INT8 = np.int32(0), np.int64(0), np.int8(0)
MARKED = np.int8(1)
TILE = field.TILE


@njit(forceinline=True)
def row_at(p: Any, order: int, direction: int, step: int) -> Any:
    """Index in a direction's order at a step; the step itself where there is no order."""
    if invariant(p, order) == 0:
        return step
    return np.int64(
        invariant(pointer(invariant(p, order), INT32), direction * invariant(p, field.STEPS) + step)
    )


@njit(forceinline=True)
def load_row(row: Any, count: int, scratch: Any, one: Any) -> Any:
    """A vector of a row, zero from `count` lanes on; `scratch` holds one vector."""
    if count >= lane_count(one):
        return vload(row, 0)
    _load_ragged(row, count, scratch, one)
    return vload(scratch, 0)


@njit
def _load_ragged(row: Any, count: int, scratch: Any, one: Any) -> None:
    for lane in range(lane_count(one)):
        store(scratch, lane, load(row, lane) if lane < count else one - one)


@njit(forceinline=True)
def store_row(row: Any, count: int, scratch: Any, vector: Any, one: Any) -> None:
    """Store the first `count` lanes of a vector."""
    if count >= lane_count(one):
        vstore(row, 0, vector)
    else:
        vstore(scratch, 0, vector)
        _store_ragged(row, count, scratch)


@njit
def _store_ragged(row: Any, count: int, scratch: Any) -> None:
    for lane in range(count):
        store(row, lane, load(scratch, lane))


@njit
def zero_row(row: Any, count: int, one: Any) -> None:
    """Clear the first `count` numbers of a row."""
    for lane in range(count):
        store(row, lane, one - one)


@njit
def zero_unmarked(marks: Any, rows: int, base: Any, stride: int, count: int, one: Any) -> None:
    """Clear `count` numbers of every row that was not visited."""
    for row in range(rows):
        if load(marks, row) != MARKED:
            zero_row(offset(base, row * stride), count, one)


@njit
def clear_marks(marks: Any, rows: int) -> None:
    """Start a new list of visited rows."""
    for row in range(rows):
        store(marks, row, INT8)


@njit(forceinline=True)
def fill(scratch: Any, vectors: int, one: Any) -> None:
    """Zero a stretch of scratch."""
    value = spread(one - one)
    for index in range(vectors):
        vstore(scratch, index * lane_count(one), value)


@njit(forceinline=True)
def tensor_row(p: Any, which: int, batch: int, direction: int, row: int, one: Any) -> Any:
    """Pointer to a row of a [batch, directions, rows, .] tensor whose address and strides start at field `which`."""
    index = (
        batch * invariant(p, which + 1) + direction * invariant(p, which + 2) + row * invariant(p, which + 3)
    )
    return offset(pointer(invariant(p, which), one), index)


@njit(forceinline=True)
def load_delta(p: Any, b: int, k: int, row: int, first: int, count: int, scratch: Any, one: Any) -> Any:
    """delta of one step before softplus, for the tile of channels from `first`; row -1 leaves only the bias."""
    padded = invariant(p, field.PADDED)
    raw = spread(one - one)
    if row >= 0:
        source = tensor_row(p, field.DELTA, b, k, row, one)
        rank = invariant(p, field.RANK)
        if rank == 0:
            raw = load_row(offset(source, first), count, scratch, one)
        else:
            weight = offset(pointer(invariant(p, field.WEIGHT), one), k * rank * padded + first)
            for r in range(rank):
                raw = raw + vload(weight, r * padded) * load(source, r)
    if invariant(p, field.BIAS) != 0:
        raw = raw + vload(pointer(invariant(p, field.BIAS), one), k * padded + first)
    return raw


@njit(forceinline=True)
def positive(p: Any, raw: Any, one: Any) -> Any:
    """delta itself: through softplus or as it is."""
    if invariant(p, field.SOFTPLUS) != 0:
        return softplus(raw, one)
    return raw


@njit(forceinline=True)
def prefetch_row(row: Any, one: Any) -> None:
    """Ask for the cache lines of a tile's share of a row."""
    for v in range(TILE):
        prefetch(row, v * lane_count(one))


@njit(forceinline=True)
def prefetch_target(row: Any, one: Any) -> None:
    """Ask for the cache lines of a tile's share of a row, to write to them."""
    for v in range(TILE):
        prefetch_to_write(row, v * lane_count(one))
