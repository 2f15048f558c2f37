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
    zero_row,
    zero_unmarked,
)
from scansearch_kernels.cpu.scan_states import again_two, reverse_two
from scansearch_kernels.cpu.vector_math import base_log, lane_count, sigmoid, silu_and_slope
from scansearch_kernels.cpu.vectors import (
    address,
    fetch_add,
    invariant,
    load,
    offset,
    pointer,
    prefetch,
    spread,
    store,
    totals,
    vload,
    vstore,
)

CHUNK, TILE = field.CHUNK, field.TILE


@njit
def scan_backward(call: int, one: Any) -> None:
    """Take items of work until none is left. `one` is 1 in the precision of the call."""
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
                _one_tile(p, b, slot, group, tile, scratch, one)


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
def _one_tile(p: Any, b: int, slot: int, group: int, tile: int, scratch: int, one: Any) -> None:
    """All directions of one batch entry and one tile of channels."""
    lanes = lane_count(one)
    first = tile * TILE * lanes
    dim, length, rows = (
        invariant(p, field.DIM),
        invariant(p, field.LENGTH),
        invariant(p, field.ROWS),
    )
    directions = invariant(p, field.DIRECTIONS)
    count = min(TILE * lanes, dim - first)
    vectors = (count + lanes - 1) // lanes
    marks = pointer(scratch, INT8)
    work = pointer(scratch + invariant(p, field.MARKS_SIZE), one)
    gates = work
    gate_gradients = offset(gates, length * TILE * lanes)
    gated = invariant(p, field.Z) != 0
    if gated:
        work = offset(gate_gradients, length * TILE * lanes)
        fill(gate_gradients, length * vectors, one)
        for position in range(length):
            z = offset(tensor_row(p, field.Z, b, 0, position, one), first)
            for v in range(vectors):
                row = load_row(offset(z, v * lanes), count - v * lanes, work, one)
                vstore(gates, (position * vectors + v) * lanes, silu_and_slope(row, one)[0])
    shared = invariant(p, field.SHARED) != 0
    du = offset(pointer(invariant(p, field.DU), one), first)
    ddelta = offset(pointer(invariant(p, field.DDELTA), one), first)
    if shared:
        du = offset(du, b * rows * dim)
        for row in range(rows):
            zero_row(offset(du, row * dim), count, one)
    for k in range(directions):
        clear_marks(marks, rows)
        here = (b * directions + k) * rows * dim
        du_k = du if shared else offset(du, here)
        ddelta_k = offset(ddelta, here)
        _one_direction(
            p, b, k, slot, group, first, count, du_k, ddelta_k, marks, gates, gate_gradients, work, one
        )
        if not shared:
            zero_unmarked(marks, rows, du_k, dim, count, one)
        if invariant(p, field.RANK) == 0:
            zero_unmarked(marks, rows, ddelta_k, dim, count, one)
    if gated:
        dz = offset(pointer(invariant(p, field.DZ), one), b * length * dim + first)
        for position in range(length):
            z = offset(tensor_row(p, field.Z, b, 0, position, one), first)
            for v in range(vectors):
                left = count - v * lanes
                row = load_row(offset(z, v * lanes), left, work, one)
                slope = silu_and_slope(row, one)[1] * vload(gate_gradients, (position * vectors + v) * lanes)
                store_row(offset(dz, position * dim + v * lanes), left, work, slope, one)


@njit
def _one_direction(
    p: Any,
    b: int,
    k: int,
    slot: int,
    group: int,
    first: int,
    count: int,
    du: Any,
    ddelta: Any,
    marks: Any,
    gates: Any,
    gate_gradients: Any,
    work: Any,
    one: Any,
) -> None:
    """The chunks of one order, last to first."""
    lanes = lane_count(one)
    vectors = (count + lanes - 1) // lanes
    directions, states, padded = (
        invariant(p, field.DIRECTIONS),
        invariant(p, field.STATES),
        invariant(p, field.PADDED),
    )
    dim, rank, rows = (
        invariant(p, field.DIM),
        invariant(p, field.RANK),
        invariant(p, field.ROWS),
    )
    # scratch: a ragged row; per step of a chunk and vector; per vector and state
    per_step = field.STRIDE * lanes
    deltas = offset(work, lanes)
    inputs = offset(deltas, per_step)
    inflows = offset(inputs, per_step)
    slopes = offset(inflows, per_step)
    outer = offset(slopes, per_step)  # gradient of the output before its gate
    raw = offset(outer, per_step)  # gradient of the output
    results = offset(raw, per_step)
    into_flow = offset(results, per_step)  # sum over states of g B
    into_decay = offset(into_flow, per_step)  # sum over states of w A
    tape = offset(into_decay, per_step)  # six numbers per step of a pair of states
    even = states + states % 2
    carry = offset(tape, 6 * CHUNK * lanes)
    dA = offset(carry, TILE * even * lanes)
    sums = offset(dA, TILE * even * lanes)  # of one chunk: gradients of B, then of C, [states, steps]
    nothing = offset(sums, 2 * even * CHUNK)
    addresses = pointer(address(offset(nothing, even + rank + rank % 2)), INT64)  # of B and C at each step
    odd = offset(addresses, 2 * CHUNK)  # the same for the last of an odd number of states, paired with zeros
    pairs = pointer(address(offset(odd, 2 * CHUNK)), one)
    gated = invariant(p, field.Z) != 0

    zero = spread(one - one)
    A = offset(pointer(invariant(p, field.A), one), k * states * padded + first)
    partial = slot * directions + k
    skips = offset(pointer(invariant(p, field.SKIP), one), k * padded + first)
    dskips = offset(pointer(invariant(p, field.DSKIP), one), partial * padded + first)
    dbiases = offset(pointer(invariant(p, field.DBIAS), one), partial * padded + first)
    weight = offset(pointer(invariant(p, field.WEIGHT), one), k * rank * padded + first)
    dweight = offset(pointer(invariant(p, field.DWEIGHT), one), partial * rank * padded + first)
    share = (group * invariant(p, field.BATCH) + b) * directions + k
    dB = offset(pointer(invariant(p, field.DB), one), share * rows * states)
    dC = offset(pointer(invariant(p, field.DC), one), share * rows * states)
    dlow = offset(pointer(invariant(p, field.DDELTA), one), share * rows * rank)
    fill(tape, 6 * CHUNK + 2 * TILE * even, one)
    for n in range(even + rank):
        store(nothing, n, one - one)
    end = invariant(pointer(invariant(p, field.LENGTHS), INT64), k)
    chunks = (invariant(p, field.STEPS) + CHUNK - 1) // CHUNK
    saved = offset(
        pointer(invariant(p, field.SAVED), one), (b * directions + k) * chunks * states * padded + first
    )
    natural = one / base_log(one)  # brings A back from the base of `power`

    runs = vectors * (even // 2)
    pace = (CHUNK + runs - 1) // runs  # rows of the chunk before to ask for in each run of a recurrence

    for chunk in range((end + CHUNK - 1) // CHUNK - 1, -1, -1):
        start = chunk * CHUNK
        steps = min(CHUNK, end - start)
        for t in range(steps):
            row = row_at(p, field.READ, k, start + t)
            position = row_at(p, field.WRITE, k, start + t)
            source = offset(tensor_row(p, field.U, b, k, max(row, 0), one), first)
            dy_row = offset(tensor_row(p, field.DY, b, k, max(position, 0), one), first)
            store(addresses, t, address(nothing))
            store(addresses, CHUNK + t, address(nothing))
            if row >= 0:
                prefetch_target(offset(du, row * dim), one)
                if rank == 0:
                    prefetch_target(offset(ddelta, row * dim), one)
                store(addresses, t, address(tensor_row(p, field.B, b, k, row, one)))
                store(addresses, CHUNK + t, address(tensor_row(p, field.C, b, k, row, one)))
            if states != even:
                store(odd, t, address(offset(pairs, 4 * t)))
                store(odd, CHUNK + t, address(offset(pairs, 4 * t + 2)))
                store(pairs, 4 * t, load(pointer(load(addresses, t), one), states - 1))
                store(pairs, 4 * t + 1, one - one)
                store(pairs, 4 * t + 2, load(pointer(load(addresses, CHUNK + t), one), states - 1))
                store(pairs, 4 * t + 3, one - one)
            for v in range(vectors):
                left = count - v * lanes
                unpositive = load_delta(p, b, k, row, first + v * lanes, left, work, one)
                delta = positive(p, unpositive, one)
                slope, u, dy, skip = spread(one), zero, zero, zero
                if invariant(p, field.SOFTPLUS) != 0:
                    slope = sigmoid(unpositive, one)
                if row >= 0:
                    u = load_row(offset(source, v * lanes), left, work, one)
                if position >= 0:
                    dy = load_row(offset(dy_row, v * lanes), left, work, one)
                if invariant(p, field.SKIP) != 0:
                    skip = vload(skips, v * lanes)
                place = (v * CHUNK + t) * lanes
                vstore(deltas, place, delta)
                vstore(inputs, place, u)
                vstore(inflows, place, delta * u)
                vstore(slopes, place, slope)
                vstore(raw, place, dy)
                vstore(results, place, skip * u)
                if gated and position >= 0:
                    dy = dy * vload(gates, (position * vectors + v) * lanes)
                vstore(outer, place, dy)
        fill(into_flow, 2 * field.STRIDE, one)
        fill(sums, 2 * even * CHUNK // lanes, one)

        ahead = start - CHUNK
        for v in range(vectors):
            here = v * CHUNK * lanes
            for n in range(0, even, 2):
                if chunk > 0:
                    before = (chunk - 1) * states * padded
                    for m in range(n, min(n + 2, states)):
                        prefetch(saved, before + m * padded + v * lanes)
                    for earlier in range(ahead, min(ahead + pace, start)):
                        _ask_for(p, b, k, earlier, first, one)
                    ahead += pace
                spot = offset(A, n * padded + v * lanes)
                kept = offset(saved, (chunk * states + n) * padded + v * lanes)
                A0, h0 = vload(spot, 0), vload(kept, 0)
                A1, h1 = zero, zero
                where, column = odd, 0
                if n + 1 < states:
                    A1, h1 = vload(spot, padded), vload(kept, padded)
                    where, column = addresses, n
                again_two(
                    offset(deltas, here), offset(inflows, here), offset(outer, here), offset(results, here), tape,
                    A0, A1, h0, h1, where, column, steps, gated, one,
                )  # fmt: skip
                _add_totals(offset(tape, 4 * CHUNK * lanes), offset(sums, (even + n) * CHUNK), 2, one)
                spot = offset(carry, (v * even + n) * lanes)
                reverse_two(
                    offset(deltas, here), offset(inflows, here), offset(outer, here), offset(into_flow, here),
                    offset(into_decay, here), tape, A0, A1, spot, offset(spot, TILE * even * lanes),
                    where, column, steps, one,
                )  # fmt: skip
                _add_totals(offset(tape, 4 * CHUNK * lanes), offset(sums, n * CHUNK), 2, one)

        for t in range(steps):
            row = row_at(p, field.READ, k, start + t)
            if row >= 0:
                for n in range(states):
                    spot = offset(dB, row * states + n)
                    store(spot, 0, load(spot, 0) + load(sums, n * CHUNK + t))
                    spot = offset(dC, row * states + n)
                    store(spot, 0, load(spot, 0) + load(sums, (even + n) * CHUNK + t))
        for t in range(steps):
            row = row_at(p, field.READ, k, start + t)
            position = row_at(p, field.WRITE, k, start + t)
            store(addresses, t, address(nothing))
            if row >= 0:
                store(marks, row, MARKED)
                store(addresses, t, address(tensor_row(p, field.DELTA, b, k, row, one)))
            for v in range(vectors):
                left = count - v * lanes
                place = (v * CHUNK + t) * lanes
                u, dinner, flow = vload(inputs, place), vload(outer, place), vload(into_flow, place)
                change = (vload(into_decay, place) * natural + flow * u) * vload(slopes, place)
                if invariant(p, field.BIAS) != 0:
                    vstore(dbiases, v * lanes, vload(dbiases, v * lanes) + change)
                vstore(slopes, place, change)
                back = flow * vload(deltas, place)
                if invariant(p, field.SKIP) != 0:
                    vstore(dskips, v * lanes, vload(dskips, v * lanes) + dinner * u)
                    back = back + dinner * vload(skips, v * lanes)
                if row >= 0:
                    target = offset(du, row * dim + v * lanes)
                    if invariant(p, field.SHARED) != 0:
                        back = back + load_row(target, left, work, one)
                    store_row(target, left, work, back, one)
                    if rank == 0:
                        store_row(offset(ddelta, row * dim + v * lanes), left, work, change, one)
                if gated and position >= 0:
                    spot = offset(gate_gradients, (position * vectors + v) * lanes)
                    vstore(spot, 0, vload(spot, 0) + vload(raw, place) * vload(results, place))
        for r in range(rank):
            fill(sums, CHUNK // lanes, one)
            for v in range(vectors):
                _low_rank(
                    offset(slopes, v * CHUNK * lanes), offset(weight, r * padded + v * lanes),
                    offset(dweight, r * padded + v * lanes), addresses, r, tape, sums, steps, one,
                )  # fmt: skip
            for t in range(steps):
                row = row_at(p, field.READ, k, start + t)
                if row >= 0:
                    spot = offset(dlow, row * rank + r)
                    store(spot, 0, load(spot, 0) + load(sums, t))
    target = offset(pointer(invariant(p, field.DA), one), partial * states * padded + first)
    for v in range(vectors):
        for n in range(states):
            spot = offset(target, n * padded + v * lanes)
            vstore(spot, 0, vload(spot, 0) + vload(dA, (v * even + n) * lanes))


@njit(forceinline=True)
def _low_rank(
    changes: Any,
    weight: Any,
    dweight: Any,
    addresses: Any,
    r: int,
    tape: Any,
    sums: Any,
    steps: int,
    one: Any,
) -> None:
    """Pass the gradient of delta before softplus on to one rank: of its weights, and summed over the channels."""
    lanes = lane_count(one)
    factor, gathered = vload(weight, 0), vload(dweight, 0)
    for t in range(steps):
        change = vload(changes, t * lanes)
        gathered = gathered + change * load(pointer(load(addresses, t), one), r)
        vstore(tape, t * lanes, change * factor)
    vstore(dweight, 0, gathered)
    _add_totals(tape, sums, 1, one)


@njit(forceinline=True)
def _add_totals(products: Any, sums: Any, chunks: int, one: Any) -> None:
    """Sum products over the channels and add them to sums, step by step, for as many chunks of steps."""
    lanes = lane_count(one)
    for block in range(chunks * CHUNK // lanes):
        vstore(
            sums, block * lanes, vload(sums, block * lanes) + totals(offset(products, block * lanes * lanes))
        )


@njit(forceinline=True)
def _ask_for(p: Any, b: int, k: int, step: int, first: int, one: Any) -> None:
    """Prefetch what another step reads."""
    row = row_at(p, field.READ, k, step)
    position = row_at(p, field.WRITE, k, step)
    if row >= 0:
        prefetch(tensor_row(p, field.B, b, k, row, one), 0)
        prefetch(tensor_row(p, field.C, b, k, row, one), 0)
        prefetch_row(offset(tensor_row(p, field.U, b, k, row, one), first), one)
        if invariant(p, field.RANK) == 0:
            prefetch_row(offset(tensor_row(p, field.DELTA, b, k, row, one), first), one)
    if position >= 0:
        prefetch_row(offset(tensor_row(p, field.DY, b, k, position, one), first), one)
