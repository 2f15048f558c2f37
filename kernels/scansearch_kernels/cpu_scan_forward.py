"""Forward of the selective scan on the CPU (Numba).

One item of work is a batch entry, a stretch of directions and a tile of channels, as many as a vector has lanes.
It walks the steps in chunks: first delta, delta * u and u of the whole chunk, then the recurrence with the state
in the nearest cache.
"""

from typing import Any

from numba import njit

from scansearch_kernels import cpu_layout as field
from scansearch_kernels.cpu_rows import (
    INT8,
    INT64,
    MARKED,
    clear_marks,
    fill,
    load_delta,
    load_row,
    positive,
    prefetch_row,
    row_at,
    store_row,
    tensor_row,
    zero_unmarked,
)
from scansearch_kernels.vectors import (
    at,
    fixed,
    get,
    grab,
    lane_count,
    off,
    power,
    put,
    silu_and_slope,
    spread,
    vload,
    vstore,
)

CHUNK = field.CHUNK


@njit
def scan_forward(address: int, one: Any) -> None:
    """Take items of work until none is left. `one` is 1 in the precision of the call."""
    p = at(address, INT64)
    thread = grab(off(p, field.NEXT_THREAD))
    scratch = fixed(p, field.SCRATCH) + thread * fixed(p, field.SCRATCH_SIZE)
    split, tiles = fixed(p, field.SPLIT), fixed(p, field.TILES)
    directions = fixed(p, field.DIRECTIONS)
    while True:
        item = grab(off(p, field.NEXT_ITEM))
        if item >= fixed(p, field.ITEMS):
            return
        b, rest = item // (split * tiles), item % (split * tiles)
        part, tile = rest // tiles, rest % tiles
        _one_tile(p, b, part * directions // split, (part + 1) * directions // split, tile, scratch, one)


@njit
def _one_tile(p: Any, b: int, first_k: int, last_k: int, tile: int, scratch: int, one: Any) -> None:
    """Several directions of one batch entry and one tile of channels."""
    lanes = lane_count(one)
    first = tile * lanes
    count = min(lanes, fixed(p, field.DIM) - first)
    length, states = fixed(p, field.LENGTH), fixed(p, field.STATES)
    marks = at(scratch, INT8)
    work = at(scratch + fixed(p, field.MARKS_SIZE), one)
    gates = off(work, (1 + 3 * CHUNK + 2 * states) * lanes + states)
    if fixed(p, field.Z) != 0:
        for position in range(length):
            z = load_row(off(tensor_row(p, field.Z, b, 0, position, one), first), count, work, one)
            vstore(gates, position * lanes, silu_and_slope(z, one)[0])
    y = off(at(fixed(p, field.Y), one), first)
    for k in range(first_k, last_k):
        clear_marks(marks, length)
        image = off(y, (b * fixed(p, field.DIRECTIONS) + k) * length * fixed(p, field.DIM))
        _one_direction(p, b, k, first, count, image, marks, gates, work, one)
        zero_unmarked(marks, length, image, fixed(p, field.DIM), count, one)


@njit
def _one_direction(
    p: Any, b: int, k: int, first: int, count: int, image: Any, marks: Any, gates: Any, work: Any, one: Any
) -> None:
    """The recurrence along one order."""
    lanes = lane_count(one)
    states, padded, dim = fixed(p, field.STATES), fixed(p, field.PADDED), fixed(p, field.DIM)
    deltas = off(work, lanes)
    inflows = off(deltas, CHUNK * lanes)
    skips = off(inflows, CHUNK * lanes)
    state = off(skips, CHUNK * lanes)
    decays = off(state, states * lanes)
    nothing = off(decays, states * lanes)
    gated = fixed(p, field.Z) != 0
    keep = fixed(p, field.KEEP) != 0
    A = off(at(fixed(p, field.A), one), k * states * padded + first)
    skip = spread(one - one)
    if fixed(p, field.SKIP) != 0:
        skip = vload(at(fixed(p, field.SKIP), one), k * padded + first)
    fill(state, states, one)
    for n in range(states):
        vstore(decays, n * lanes, vload(A, n * padded))
        put(nothing, n, one - one)
    end = fixed(at(fixed(p, field.LENGTHS), INT64), k)
    saved = off(at(fixed(p, field.SAVED), one), first)
    chunks = (fixed(p, field.STEPS) + CHUNK - 1) // CHUNK
    saved = off(saved, (b * fixed(p, field.DIRECTIONS) + k) * chunks * states * padded)
    for start in range(0, end, CHUNK):
        steps = min(CHUNK, end - start)
        if keep:
            for n in range(states):
                vstore(saved, n * padded, vload(state, n * lanes))
            saved = off(saved, states * padded)
        for t in range(steps):
            row = row_at(p, field.READ, k, start + t)
            delta = positive(p, load_delta(p, b, k, row, first, count, work, one), one)
            u = spread(one - one)
            if row >= 0:
                u = load_row(off(tensor_row(p, field.U, b, k, row, one), first), count, work, one)
            vstore(deltas, t * lanes, delta)
            vstore(inflows, t * lanes, delta * u)
            vstore(skips, t * lanes, skip * u)
            if start + t + CHUNK < end:
                later = row_at(p, field.READ, k, start + t + CHUNK)
                if later >= 0:
                    prefetch_row(off(tensor_row(p, field.U, b, k, later, one), first), one)
                    if fixed(p, field.RANK) == 0:
                        prefetch_row(off(tensor_row(p, field.DELTA, b, k, later, one), first), one)
        for t in range(steps):
            row = row_at(p, field.READ, k, start + t)
            B, C = nothing, nothing
            if row >= 0:
                B = tensor_row(p, field.B, b, k, row, one)
                C = tensor_row(p, field.C, b, k, row, one)
            delta = vload(deltas, t * lanes)
            inflow = vload(inflows, t * lanes)
            result = vload(skips, t * lanes)
            for n in range(states):
                h = power(delta * vload(decays, n * lanes)) * vload(state, n * lanes) + inflow * get(B, n)
                vstore(state, n * lanes, h)
                result = result + h * get(C, n)
            position = row_at(p, field.WRITE, k, start + t)
            if position >= 0:
                put(marks, position, MARKED)
                if gated:
                    result = result * vload(gates, position * lanes)
                store_row(off(image, position * dim), count, work, result, one)
