"""The causal convolution with SiLU on the CPU (Numba), forward and backward.

An item of work is a batch entry (or a stretch of the batch) and a tile of channels. The rows of an order are
staged in scratch behind width - 1 zero rows, so that a window is a run of consecutive vectors.
"""

from typing import Any

from numba import njit

from scansearch_kernels.cpu import layout as field
from scansearch_kernels.cpu.rows import INT64, fill, load_row, row_at, store_row, tensor_row, zero_row
from scansearch_kernels.cpu.vector_math import lane_count, silu_and_slope
from scansearch_kernels.cpu.vectors import fetch_add, invariant, offset, pointer, spread, vload, vstore


@njit
def conv_forward(call: int, one: Any) -> None:
    """Take items of work until none is left. `one` is 1 in the precision of the call."""
    p = pointer(call, INT64)
    thread = fetch_add(offset(p, field.NEXT_THREAD))
    work = pointer(invariant(p, field.SCRATCH) + thread * invariant(p, field.SCRATCH_SIZE), one)
    tiles, directions = invariant(p, field.TILES), invariant(p, field.DIRECTIONS)
    dim, steps = invariant(p, field.DIM), invariant(p, field.STEPS)
    lanes = lane_count(one)
    staged = offset(work, lanes)
    while True:
        item = fetch_add(offset(p, field.NEXT_ITEM))
        if item >= invariant(p, field.ITEMS):
            return
        b, k, tile = item // (tiles * directions), item // tiles % directions, item % tiles
        first = tile * lanes
        count = min(lanes, dim - first)
        end = _stage(p, b, k, first, count, staged, work, one)
        y = offset(pointer(invariant(p, field.Y), one), (b * directions + k) * steps * dim + first)
        for t in range(end):
            result = silu_and_slope(_window(p, k, first, offset(staged, t * lanes), one), one)[0]
            store_row(offset(y, t * dim), count, work, result, one)
        for t in range(end, steps):
            zero_row(offset(y, t * dim), count, one)


@njit
def conv_backward(call: int, one: Any) -> None:
    """Take items of work until none is left. `one` is 1 in the precision of the call."""
    p = pointer(call, INT64)
    thread = fetch_add(offset(p, field.NEXT_THREAD))
    work = pointer(invariant(p, field.SCRATCH) + thread * invariant(p, field.SCRATCH_SIZE), one)
    batch, tiles, slots = (
        invariant(p, field.BATCH),
        invariant(p, field.TILES),
        invariant(p, field.SLOTS),
    )
    rows, dim, directions = (
        invariant(p, field.ROWS),
        invariant(p, field.DIM),
        invariant(p, field.DIRECTIONS),
    )
    lanes = lane_count(one)
    while True:
        item = fetch_add(offset(p, field.NEXT_ITEM))
        if item >= invariant(p, field.ITEMS):
            return
        slot, tile = item // tiles, item % tiles
        first = tile * lanes
        count = min(lanes, dim - first)
        for b in range(slot * batch // slots, (slot + 1) * batch // slots):
            dx = offset(pointer(invariant(p, field.DU), one), b * rows * dim + first)
            for row in range(rows):
                zero_row(offset(dx, row * dim), count, one)
            for k in range(directions):
                _backward_along(p, b, k, slot, first, count, dx, work, one)


@njit
def _backward_along(
    p: Any, b: int, k: int, slot: int, first: int, count: int, dx: Any, work: Any, one: Any
) -> None:
    """Gradients of one order: adds to dx, and to the parameters' gradients of the slot."""
    lanes = lane_count(one)
    width, padded, dim = (
        invariant(p, field.WIDTH),
        invariant(p, field.PADDED),
        invariant(p, field.DIM),
    )
    staged = offset(work, lanes)
    inner = offset(staged, (invariant(p, field.STEPS) + width - 1) * lanes)  # gradient before the SiLU
    end = _stage(p, b, k, first, count, staged, work, one)
    partial = slot * invariant(p, field.DIRECTIONS) + k
    dweight = offset(pointer(invariant(p, field.DWEIGHT), one), partial * width * padded + first)
    weight = offset(pointer(invariant(p, field.WEIGHT), one), k * width * padded + first)
    dbias = spread(one - one)
    for t in range(end):
        slope = silu_and_slope(_window(p, k, first, offset(staged, t * lanes), one), one)[1]
        dy = load_row(offset(tensor_row(p, field.DY, b, k, t, one), first), count, work, one)
        vstore(inner, t * lanes, slope * dy)
        dbias = dbias + slope * dy
    fill(offset(inner, end * lanes), width - 1, one)
    for tap in range(width):
        gathered = vload(dweight, tap * padded)
        for t in range(end):
            gathered = gathered + vload(inner, t * lanes) * vload(staged, (t + tap) * lanes)
        vstore(dweight, tap * padded, gathered)
    for t in range(end):
        row = row_at(p, field.READ, k, t)
        if row >= 0:
            target = offset(dx, row * dim)
            back = load_row(target, count, work, one)
            for tap in range(width):
                back = back + vload(weight, tap * padded) * vload(inner, (t + width - 1 - tap) * lanes)
            store_row(target, count, work, back, one)
    if invariant(p, field.BIAS) != 0:
        target = offset(pointer(invariant(p, field.DBIAS), one), partial * padded + first)
        vstore(target, 0, vload(target, 0) + dbias)


@njit
def _stage(p: Any, b: int, k: int, first: int, count: int, staged: Any, work: Any, one: Any) -> int:
    """Bring the rows of one order into scratch, behind width - 1 zero rows; return the number of steps."""
    lanes = lane_count(one)
    lead = invariant(p, field.WIDTH) - 1
    end = invariant(pointer(invariant(p, field.LENGTHS), INT64), k)
    fill(staged, lead, one)
    for t in range(end):
        row = row_at(p, field.READ, k, t)
        x = spread(one - one)
        if row >= 0:
            x = load_row(offset(tensor_row(p, field.U, b, k, row, one), first), count, work, one)
        vstore(staged, (lead + t) * lanes, x)
    return end


@njit(forceinline=True)
def _window(p: Any, k: int, first: int, rows: Any, one: Any) -> Any:
    """Bias and weighted sum of `width` consecutive rows."""
    padded, width = invariant(p, field.PADDED), invariant(p, field.WIDTH)
    weight = offset(pointer(invariant(p, field.WEIGHT), one), k * width * padded + first)
    result = spread(one - one)
    if invariant(p, field.BIAS) != 0:
        result = vload(pointer(invariant(p, field.BIAS), one), k * padded + first)
    for tap in range(width):
        result = result + vload(weight, tap * padded) * vload(rows, tap * lane_count(one))
    return result
