"""Forward of the selective scan on the CPU (Numba).

One item of work is a batch entry, a stretch of directions and a tile of channels (a few vectors). It walks the
steps in chunks: first delta, delta * u and D * u of the whole chunk, then the recurrence for one vector of channels
after the other with the state in the nearest cache, then the rows of y.
"""

from typing import Any

from numba import njit

from scansearch_kernels.cpu import layout as field
from scansearch_kernels.cpu.rows import (
    INT8,
    INT64,
    MARKED,
    clear_marks,
    fill,
    load_delta,
    load_row,
    positive,
    prefetch_row,
    prefetch_target,
    row_at,
    store_row,
    tensor_row,
    zero_unmarked,
)
from scansearch_kernels.cpu.scan_states import forward_four, forward_one
from scansearch_kernels.cpu.vector_math import lane_count, silu_and_slope
from scansearch_kernels.cpu.vectors import (
    address,
    fetch_add,
    invariant,
    offset,
    plain_nan,
    pointer,
    prefetch,
    prefetch_to_write,
    spread,
    store,
    vload,
    vstore,
)

CHUNK, TILE = field.CHUNK, field.TILE


@njit
def scan_forward(call: int, grows: Any, one: Any) -> None:
    """Take items of work until none is left. `one` is 1 in the precision of the call; for `grows` see `power`."""
    p = pointer(call, INT64)
    thread = fetch_add(offset(p, field.NEXT_THREAD))
    scratch = invariant(p, field.SCRATCH) + thread * invariant(p, field.SCRATCH_SIZE)
    split, tiles = invariant(p, field.SPLIT), invariant(p, field.TILES)
    directions = invariant(p, field.DIRECTIONS)
    while True:
        item = fetch_add(offset(p, field.NEXT_ITEM))
        if item >= invariant(p, field.ITEMS):
            return
        b, rest = item // (split * tiles), item % (split * tiles)
        part, tile = rest // tiles, rest % tiles
        _one_tile(
            p, b, part * directions // split, (part + 1) * directions // split, tile, scratch, grows, one
        )


@njit
def _one_tile(
    p: Any, b: int, first_k: int, last_k: int, tile: int, scratch: int, grows: Any, one: Any
) -> None:
    """Several directions of one batch entry and one tile of channels."""
    lanes = lane_count(one)
    first = tile * TILE * lanes
    dim = invariant(p, field.DIM)
    count = min(TILE * lanes, dim - first)
    vectors = (count + lanes - 1) // lanes
    length, states = invariant(p, field.LENGTH), invariant(p, field.STATES)
    marks = pointer(scratch, INT8)
    work = pointer(scratch + invariant(p, field.MARKS_SIZE), one)
    few = states + states % 2 + 4 * CHUNK  # what is no whole vector
    gates = offset(work, (1 + 3 * field.STRIDE + 2 * states * TILE + (few + lanes - 1) // lanes) * lanes)
    if invariant(p, field.Z) != 0:
        for position in range(length):
            z = offset(tensor_row(p, field.Z, b, 0, position, one), first)
            for v in range(vectors):
                row = load_row(offset(z, v * lanes), count - v * lanes, work, one)
                vstore(gates, (position * vectors + v) * lanes, silu_and_slope(row, one)[0])
    for k in range(first_k, last_k):
        clear_marks(marks, length)
        image = offset(
            pointer(invariant(p, field.Y), one),
            (b * invariant(p, field.DIRECTIONS) + k) * length * dim + first,
        )
        _one_direction(p, b, k, first, count, image, marks, gates, work, grows, one)
        zero_unmarked(marks, length, image, dim, count, one)


@njit
def _one_direction(
    p: Any,
    b: int,
    k: int,
    first: int,
    count: int,
    image: Any,
    marks: Any,
    gates: Any,
    work: Any,
    grows: Any,
    one: Any,
) -> None:
    """The recurrence along one order."""
    lanes = lane_count(one)
    vectors = (count + lanes - 1) // lanes
    states, padded, dim = (
        invariant(p, field.STATES),
        invariant(p, field.PADDED),
        invariant(p, field.DIM),
    )
    # scratch: a ragged row; per step of a chunk and vector; per vector and state
    deltas = offset(work, lanes)
    inflows = offset(deltas, field.STRIDE * lanes)
    results = offset(inflows, field.STRIDE * lanes)
    state = offset(results, field.STRIDE * lanes)
    decays = offset(state, TILE * states * lanes)
    nothing = offset(decays, TILE * states * lanes)
    addresses = pointer(address(offset(nothing, states + states % 2)), INT64)  # of B and C at each step
    gated = invariant(p, field.Z) != 0
    A = offset(pointer(invariant(p, field.A), one), k * states * padded + first)
    skips = offset(pointer(invariant(p, field.SKIP), one), k * padded + first)
    for v in range(vectors):
        for n in range(states):
            vstore(decays, (v * states + n) * lanes, plain_nan(vload(A, n * padded + v * lanes)))
            store(nothing, n, one - one)
    fill(state, vectors * states, one)
    chunks = (invariant(p, field.STEPS) + CHUNK - 1) // CHUNK
    saved = offset(pointer(invariant(p, field.SAVED), one), first)
    saved = offset(saved, (b * invariant(p, field.DIRECTIONS) + k) * chunks * states * padded)
    end = invariant(pointer(invariant(p, field.LENGTHS), INT64), k)
    runs = vectors * (states // 4 + states % 4)
    pace = (CHUNK + runs - 1) // runs  # rows of the next chunk to ask for in each run of a recurrence
    for start in range(0, end, CHUNK):
        steps = min(CHUNK, end - start)
        if invariant(p, field.KEEP) != 0:
            for n in range(states):
                for v in range(vectors):
                    vstore(saved, n * padded + v * lanes, vload(state, (v * states + n) * lanes))
            saved = offset(saved, states * padded)

        for t in range(steps):
            row = row_at(p, field.READ, k, start + t)
            source = offset(tensor_row(p, field.U, b, k, max(row, 0), one), first)
            position = row_at(p, field.WRITE, k, start + t)
            if position >= 0:
                prefetch_target(offset(image, position * dim), one)
            store(addresses, t, address(nothing))
            store(addresses, CHUNK + t, address(nothing))
            if row >= 0:
                store(addresses, t, address(tensor_row(p, field.B, b, k, row, one)))
                store(addresses, CHUNK + t, address(tensor_row(p, field.C, b, k, row, one)))
            for v in range(vectors):
                left = count - v * lanes
                delta = positive(p, load_delta(p, b, k, row, first + v * lanes, left, work, one), one)
                u = spread(one - one)
                if row >= 0:
                    u = load_row(offset(source, v * lanes), left, work, one)
                place = (v * CHUNK + t) * lanes
                vstore(deltas, place, delta)  # a NaN of any bits: the inflow is NaN, whatever the decay is
                vstore(inflows, place, delta * u)
                skip = spread(one - one)
                if invariant(p, field.SKIP) != 0:
                    skip = vload(skips, v * lanes)
                vstore(results, place, skip * u)

        ahead = start + CHUNK
        for v in range(vectors):
            here = v * CHUNK * lanes
            n = 0
            while n < states:
                for later in range(ahead, min(ahead + pace, end)):
                    _ask_for(p, b, k, later, first, one)
                ahead += pace
                if invariant(p, field.KEEP) != 0:
                    for m in range(n, min(n + 4, states)):
                        prefetch_to_write(saved, m * padded + v * lanes)
                spot = (v * states + n) * lanes
                if n + 4 <= states:
                    forward_four(
                        offset(deltas, here), offset(inflows, here), offset(results, here),
                        offset(decays, spot), offset(state, spot), addresses, n, steps, grows, one,
                    )  # fmt: skip
                    n += 4
                else:
                    forward_one(
                        offset(deltas, here), offset(inflows, here), offset(results, here),
                        offset(decays, spot), offset(state, spot), addresses, n, steps, grows, one,
                    )  # fmt: skip
                    n += 1

        for t in range(steps):
            position = row_at(p, field.WRITE, k, start + t)
            if position >= 0:
                store(marks, position, MARKED)
                target = offset(image, position * dim)
                for v in range(vectors):
                    result = vload(results, (v * CHUNK + t) * lanes)
                    if gated:
                        result = result * vload(gates, (position * vectors + v) * lanes)
                    store_row(offset(target, v * lanes), count - v * lanes, work, result, one)


@njit(forceinline=True)
def _ask_for(p: Any, b: int, k: int, step: int, first: int, one: Any) -> None:
    """Prefetch what a later step reads."""
    row = row_at(p, field.READ, k, step)
    if row >= 0:
        prefetch(tensor_row(p, field.B, b, k, row, one), 0)
        prefetch(tensor_row(p, field.C, b, k, row, one), 0)
        prefetch_row(offset(tensor_row(p, field.U, b, k, row, one), first), one)
        if invariant(p, field.RANK) == 0:
            prefetch_row(offset(tensor_row(p, field.DELTA, b, k, row, one), first), one)
