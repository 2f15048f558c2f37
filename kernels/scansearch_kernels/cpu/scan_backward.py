"""Backward of the selective scan on the CPU (Numba).

One item of work is a stretch of the batch (a slot) and a group of channel tiles. Within it the directions follow
each other, so that the gradients of z and of a shared u add up without races; gradients of parameters are summed
per slot, those of B, C and low-rank delta per group. How work is cut depends on the shapes only, so the result
does not depend on the number of threads.

Each chunk of steps starts from the state that the forward saved. For one state index at a time, the decays and
states of the chunk are computed again, then the steps are walked in reverse.
"""

from typing import Any

from numba import njit

from scansearch_kernels.cpu import layout as field
from scansearch_kernels.cpu.backward_chunk import (
    Gates,
    Gradients,
    add_a,
    add_b_and_c,
    add_low_rank,
    load_chunk,
    recur_chunk,
    scatter_chunk,
)
from scansearch_kernels.cpu.backward_scratch import clear, lay_out
from scansearch_kernels.cpu.rows import (
    INT8,
    INT64,
    clear_marks,
    fill,
    load_row,
    store_row,
    tensor_row,
    zero_row,
    zero_unmarked,
)
from scansearch_kernels.cpu.tile import Tile, load_gates
from scansearch_kernels.cpu.vector_math import lane_count, silu_and_slope
from scansearch_kernels.cpu.vectors import fetch_add, invariant, offset, pointer, vload

CHUNK, TILE = field.CHUNK, field.TILE


@njit
def scan_backward(call: int, grows: Any, one: Any) -> None:
    """Take items of work until none is left. `one` is 1 in the precision of the call; for `grows` see `power`."""
    p = pointer(call, INT64)
    thread = fetch_add(offset(p, field.NEXT_THREAD))
    scratch = invariant(p, field.SCRATCH) + thread * invariant(p, field.SCRATCH_SIZE)
    slots, groups = invariant(p, field.SLOTS), invariant(p, field.GROUPS)
    batch, tiles = invariant(p, field.BATCH), invariant(p, field.TILES)
    while True:
        item = fetch_add(offset(p, field.NEXT_ITEM))
        if item >= invariant(p, field.ITEMS):
            return
        slot, group = item // groups, item % groups
        for b in range(slot * batch // slots, (slot + 1) * batch // slots):
            _clear_reduced(p, b, group, one)
            for tile in range(group * tiles // groups, (group + 1) * tiles // groups):
                _one_tile(p, b, slot, group, tile, scratch, grows, one)


@njit
def _clear_reduced(p: Any, b: int, group: int, one: Any) -> None:
    """Zero what a group adds to for one batch entry: its share of the gradients of B, C and low-rank delta."""
    directions, rows = invariant(p, field.DIRECTIONS), invariant(p, field.ROWS)
    row = (group * invariant(p, field.BATCH) + b) * directions * rows
    for which, width in (
        (field.DB, invariant(p, field.STATES)),
        (field.DC, invariant(p, field.STATES)),
        (field.DDELTA, invariant(p, field.RANK)),
    ):
        zero_row(offset(pointer(invariant(p, which), one), row * width), directions * rows * width, one)


@njit
def _one_tile(p: Any, b: int, slot: int, group: int, number: int, memory: int, grows: Any, one: Any) -> None:
    """All directions of one batch entry and one tile of channels; `memory` is the address of the thread's scratch."""
    lanes, directions = lane_count(one), invariant(p, field.DIRECTIONS)
    dim, length, rows = (
        invariant(p, field.DIM),
        invariant(p, field.LENGTH),
        invariant(p, field.ROWS),
    )
    first = number * TILE * lanes
    count = min(TILE * lanes, dim - first)
    vectors = (count + lanes - 1) // lanes
    marks = pointer(memory, INT8)
    work = pointer(memory + invariant(p, field.MARKS_SIZE), one)
    gates = Gates(invariant(p, field.Z) != 0, work, offset(work, length * TILE * lanes))
    if gates.used:
        work = offset(gates.gradients, length * TILE * lanes)
        fill(gates.gradients, length * vectors, one)
        load_gates(p, b, first, count, gates.values, work, one)
    scratch = lay_out(work, invariant(p, field.STATES), invariant(p, field.RANK), one)
    shared = invariant(p, field.SHARED) != 0
    if shared:
        du = offset(pointer(invariant(p, field.DU), one), b * rows * dim + first)
        for row in range(rows):
            zero_row(offset(du, row * dim), count, one)
    for k in range(directions):
        tile = Tile(p, b, k, first, count, vectors, one)
        gradients = _gradients(tile, slot, group, marks)
        clear_marks(marks, rows)
        _one_direction(tile, scratch, gates, gradients, grows)
        if not shared:
            zero_unmarked(marks, rows, gradients.u, dim, count, one)
        if invariant(p, field.RANK) == 0:
            zero_unmarked(marks, rows, gradients.delta, dim, count, one)
    if gates.used:
        _store_dz(p, b, first, count, gates, work, one)


@njit(forceinline=True)
def _gradients(tile: Any, slot: int, group: int, marks: Any) -> Any:
    """Pointers to the gradients of a tile along one direction."""
    p, k, first, one = tile.p, tile.k, tile.first, tile.one
    directions, rows, dim = (
        invariant(p, field.DIRECTIONS),
        invariant(p, field.ROWS),
        invariant(p, field.DIM),
    )
    states, rank, padded = (
        invariant(p, field.STATES),
        invariant(p, field.RANK),
        invariant(p, field.PADDED),
    )
    own = (tile.b * directions + k) * rows
    of_u = tile.b * rows if invariant(p, field.SHARED) != 0 else own
    of_group = ((group * invariant(p, field.BATCH) + tile.b) * directions + k) * rows
    of_slot = (slot * directions + k) * padded
    return Gradients(
        u=offset(pointer(invariant(p, field.DU), one), of_u * dim + first),
        delta=offset(pointer(invariant(p, field.DDELTA), one), own * dim + first),
        B=offset(pointer(invariant(p, field.DB), one), of_group * states),
        C=offset(pointer(invariant(p, field.DC), one), of_group * states),
        low=offset(pointer(invariant(p, field.DDELTA), one), of_group * rank),
        A=offset(pointer(invariant(p, field.DA), one), of_slot * states + first),
        skip=offset(pointer(invariant(p, field.DSKIP), one), of_slot + first),
        bias=offset(pointer(invariant(p, field.DBIAS), one), of_slot + first),
        weight=offset(pointer(invariant(p, field.DWEIGHT), one), of_slot * rank + first),
        marks=marks,
    )


@njit
def _one_direction(tile: Any, scratch: Any, gates: Any, gradients: Any, grows: Any) -> None:
    """The chunks of one order, last to first."""
    rank = invariant(tile.p, field.RANK)
    end = invariant(pointer(invariant(tile.p, field.LENGTHS), INT64), tile.k)
    clear(scratch, invariant(tile.p, field.STATES), rank, tile.one)
    for number in range((end + CHUNK - 1) // CHUNK - 1, -1, -1):
        start = number * CHUNK
        steps = min(CHUNK, end - start)
        load_chunk(tile, start, steps, scratch, gates, gradients)
        recur_chunk(tile, number, steps, scratch, gates.used, grows)
        add_b_and_c(tile, start, steps, scratch, gradients)
        scatter_chunk(tile, start, steps, scratch, gates, gradients)
        if rank > 0:
            add_low_rank(tile, start, steps, scratch, gradients)
    add_a(tile, scratch, gradients)


@njit
def _store_dz(p: Any, b: int, first: int, count: int, gates: Any, ragged: Any, one: Any) -> None:
    """The gradient of z of a tile of channels, from that of its gates."""
    dim, length, lanes = (
        invariant(p, field.DIM),
        invariant(p, field.LENGTH),
        lane_count(one),
    )
    vectors = (count + lanes - 1) // lanes
    dz = offset(pointer(invariant(p, field.DZ), one), b * length * dim + first)
    for position in range(length):
        z = offset(tensor_row(p, field.Z, b, 0, position, one), first)
        for v in range(vectors):
            left = count - v * lanes
            row = load_row(offset(z, v * lanes), left, ragged, one)
            slope = silu_and_slope(row, one)[1] * vload(gates.gradients, (position * vectors + v) * lanes)
            store_row(offset(dz, position * dim + v * lanes), left, ragged, slope, one)
