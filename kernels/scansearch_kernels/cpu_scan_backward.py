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
    zero_row,
    zero_unmarked,
)
from scansearch_kernels.vectors import (
    address,
    at,
    base_log,
    fixed,
    get,
    grab,
    lane_count,
    off,
    power,
    put,
    sigmoid,
    silu_and_slope,
    spread,
    total,
    vload,
    vstore,
)

CHUNK = field.CHUNK


@njit
def scan_backward(call: int, one: Any) -> None:
    """Take items of work until none is left. `one` is 1 in the precision of the call."""
    p = at(call, INT64)
    thread = grab(off(p, field.NEXT_THREAD))
    scratch = fixed(p, field.SCRATCH) + thread * fixed(p, field.SCRATCH_SIZE)
    slots, groups = fixed(p, field.SLOTS), fixed(p, field.GROUPS)
    batch, tiles = fixed(p, field.BATCH), fixed(p, field.TILES)
    while True:
        item = grab(off(p, field.NEXT_ITEM))
        if item >= fixed(p, field.ITEMS):
            return
        slot, group = item // groups, item % groups
        for b in range(slot * batch // slots, (slot + 1) * batch // slots):
            _clear_reduced(p, b, group, one)
            for tile in range(group * tiles // groups, (group + 1) * tiles // groups):
                _one_tile(p, b, slot, group, tile, scratch, one)


@njit
def _clear_reduced(p: Any, b: int, group: int, one: Any) -> None:
    """Zero what a group adds to for one batch entry: its share of the gradients of B, C and low-rank delta."""
    directions, rows = fixed(p, field.DIRECTIONS), fixed(p, field.ROWS)
    row = (group * fixed(p, field.BATCH) + b) * directions * rows
    for which, width in (
        (field.DB, fixed(p, field.STATES)),
        (field.DC, fixed(p, field.STATES)),
        (field.DDELTA, fixed(p, field.RANK)),
    ):
        zero_row(off(at(fixed(p, which), one), row * width), directions * rows * width, one)


@njit
def _one_tile(p: Any, b: int, slot: int, group: int, tile: int, scratch: int, one: Any) -> None:
    """All directions of one batch entry and one tile of channels."""
    lanes = lane_count(one)
    first = tile * lanes
    dim, length, rows = fixed(p, field.DIM), fixed(p, field.LENGTH), fixed(p, field.ROWS)
    directions = fixed(p, field.DIRECTIONS)
    count = min(lanes, dim - first)
    marks = at(scratch, INT8)
    work = at(scratch + fixed(p, field.MARKS_SIZE), one)
    gates = work
    gate_gradients = off(gates, length * lanes)
    gated = fixed(p, field.Z) != 0
    if gated:
        work = off(gate_gradients, length * lanes)
        fill(gate_gradients, length, one)
        for position in range(length):
            z = load_row(off(tensor_row(p, field.Z, b, 0, position, one), first), count, work, one)
            vstore(gates, position * lanes, silu_and_slope(z, one)[0])
    shared = fixed(p, field.SHARED) != 0
    du = off(at(fixed(p, field.DU), one), first)
    ddelta = off(at(fixed(p, field.DDELTA), one), first)
    if shared:
        du = off(du, b * rows * dim)
        for row in range(rows):
            zero_row(off(du, row * dim), count, one)
    for k in range(directions):
        clear_marks(marks, rows)
        here = (b * directions + k) * rows * dim
        du_k = du if shared else off(du, here)
        _one_direction(
            p,
            b,
            k,
            slot,
            group,
            first,
            count,
            du_k,
            off(ddelta, here),
            marks,
            gates,
            gate_gradients,
            work,
            one,
        )
        if not shared:
            zero_unmarked(marks, rows, du_k, dim, count, one)
        if fixed(p, field.RANK) == 0:
            zero_unmarked(marks, rows, off(ddelta, here), dim, count, one)
    if gated:
        dz = off(at(fixed(p, field.DZ), one), b * length * dim + first)
        for position in range(length):
            z = load_row(off(tensor_row(p, field.Z, b, 0, position, one), first), count, work, one)
            slope = silu_and_slope(z, one)[1] * vload(gate_gradients, position * lanes)
            store_row(off(dz, position * dim), count, work, slope, one)


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
    directions, states, padded = fixed(p, field.DIRECTIONS), fixed(p, field.STATES), fixed(p, field.PADDED)
    dim, rank, rows = fixed(p, field.DIM), fixed(p, field.RANK), fixed(p, field.ROWS)
    # scratch, in vectors: one for ragged rows, then per step, then per state
    deltas = off(work, lanes)
    inputs = off(deltas, CHUNK * lanes)
    inflows = off(inputs, CHUNK * lanes)
    slopes = off(inflows, CHUNK * lanes)
    outer = off(slopes, CHUNK * lanes)  # gradient of the output before its gate
    raw = off(outer, CHUNK * lanes)  # gradient of the output
    results = off(raw, CHUNK * lanes)
    into_flow = off(results, CHUNK * lanes)  # sum over states of g B
    into_decay = off(into_flow, CHUNK * lanes)  # sum over states of w A
    decay = off(into_decay, CHUNK * lanes)
    before = off(decay, CHUNK * lanes)
    carry = off(before, CHUNK * lanes)
    nothing = off(carry, states * lanes)
    bin_ = off(nothing, states)
    addresses = at(address(off(bin_, states)), INT64)  # of B, C and their gradients at each step
    gated = fixed(p, field.Z) != 0

    zero = spread(one - one)
    A = off(at(fixed(p, field.A), one), k * states * padded + first)
    partial = slot * directions + k
    dA = off(at(fixed(p, field.DA), one), partial * states * padded + first)
    skip, dskip = zero, zero
    if fixed(p, field.SKIP) != 0:
        skip = vload(at(fixed(p, field.SKIP), one), k * padded + first)
    dbias = zero
    weight = off(at(fixed(p, field.WEIGHT), one), k * rank * padded + first)
    dweight = off(at(fixed(p, field.DWEIGHT), one), partial * rank * padded + first)
    share = (group * fixed(p, field.BATCH) + b) * directions + k
    dB = off(at(fixed(p, field.DB), one), share * rows * states)
    dC = off(at(fixed(p, field.DC), one), share * rows * states)
    dlow = off(at(fixed(p, field.DDELTA), one), share * rows * rank)
    fill(carry, states, one)
    for n in range(states):
        put(nothing, n, one - one)
    end = fixed(at(fixed(p, field.LENGTHS), INT64), k)
    chunks = (fixed(p, field.STEPS) + CHUNK - 1) // CHUNK
    saved = off(at(fixed(p, field.SAVED), one), (b * directions + k) * chunks * states * padded + first)
    natural = one / base_log(one)  # brings A back from the base of `power`

    for chunk in range((end + CHUNK - 1) // CHUNK - 1, -1, -1):
        start = chunk * CHUNK
        steps = min(CHUNK, end - start)
        for t in range(steps):
            row = row_at(p, field.READ, k, start + t)
            unpositive = load_delta(p, b, k, row, first, count, work, one)
            delta = positive(p, unpositive, one)
            slope = spread(one)
            if fixed(p, field.SOFTPLUS) != 0:
                slope = sigmoid(unpositive, one)
            u = zero
            if row >= 0:
                u = load_row(off(tensor_row(p, field.U, b, k, row, one), first), count, work, one)
                put(addresses, t, address(tensor_row(p, field.B, b, k, row, one)))
                put(addresses, CHUNK + t, address(tensor_row(p, field.C, b, k, row, one)))
                put(addresses, 2 * CHUNK + t, address(off(dB, row * states)))
                put(addresses, 3 * CHUNK + t, address(off(dC, row * states)))
            else:
                put(addresses, t, address(nothing))
                put(addresses, CHUNK + t, address(nothing))
                put(addresses, 2 * CHUNK + t, address(bin_))
                put(addresses, 3 * CHUNK + t, address(bin_))
            position = row_at(p, field.WRITE, k, start + t)
            dy = zero
            dinner = zero
            if position >= 0:
                dy = load_row(off(tensor_row(p, field.DY, b, k, position, one), first), count, work, one)
                dinner = dy
                if gated:
                    dinner = dy * vload(gates, position * lanes)
            if start + t >= CHUNK:
                earlier = row_at(p, field.READ, k, start + t - CHUNK)
                if earlier >= 0:
                    prefetch_row(off(tensor_row(p, field.U, b, k, earlier, one), first), one)
                    if rank == 0:
                        prefetch_row(off(tensor_row(p, field.DELTA, b, k, earlier, one), first), one)
                earlier = row_at(p, field.WRITE, k, start + t - CHUNK)
                if earlier >= 0:
                    prefetch_row(off(tensor_row(p, field.DY, b, k, earlier, one), first), one)
            vstore(deltas, t * lanes, delta)
            vstore(inputs, t * lanes, u)
            vstore(inflows, t * lanes, delta * u)
            vstore(slopes, t * lanes, slope)
            vstore(outer, t * lanes, dinner)
            vstore(raw, t * lanes, dy)
            vstore(results, t * lanes, skip * u)
        fill(into_flow, 2 * CHUNK, one)

        for n in range(states):
            A_n = vload(A, n * padded)
            h = vload(saved, (chunk * states + n) * padded)
            for t in range(steps):
                a = power(vload(deltas, t * lanes) * A_n)
                vstore(decay, t * lanes, a)
                vstore(before, t * lanes, h)
                h = a * h + vload(inflows, t * lanes) * get(at(get(addresses, t), one), n)
                place = at(get(addresses, 3 * CHUNK + t), one)
                put(place, n, get(place, n) + total(vload(outer, t * lanes) * h))
                if gated:
                    C_n = get(at(get(addresses, CHUNK + t), one), n)
                    vstore(results, t * lanes, vload(results, t * lanes) + h * C_n)
            q = vload(carry, n * lanes)
            dA_n = zero
            for t in range(steps - 1, -1, -1):
                g = q + vload(outer, t * lanes) * get(at(get(addresses, CHUNK + t), one), n)
                B_n = get(at(get(addresses, t), one), n)
                vstore(into_flow, t * lanes, vload(into_flow, t * lanes) + g * B_n)
                place = at(get(addresses, 2 * CHUNK + t), one)
                put(place, n, get(place, n) + total(g * vload(inflows, t * lanes)))
                q = g * vload(decay, t * lanes)
                w = q * vload(before, t * lanes)
                vstore(into_decay, t * lanes, vload(into_decay, t * lanes) + w * A_n)
                dA_n = dA_n + w * vload(deltas, t * lanes)
            vstore(carry, n * lanes, q)
            vstore(dA, n * padded, vload(dA, n * padded) + dA_n)

        for t in range(steps):
            row = row_at(p, field.READ, k, start + t)
            u, dinner = vload(inputs, t * lanes), vload(outer, t * lanes)
            flow = vload(into_flow, t * lanes)
            change = (vload(into_decay, t * lanes) * natural + flow * u) * vload(slopes, t * lanes)
            dbias = dbias + change
            dskip = dskip + dinner * u
            if row >= 0:
                put(marks, row, MARKED)
                back = flow * vload(deltas, t * lanes) + dinner * skip
                target = off(du, row * dim)
                if fixed(p, field.SHARED) != 0:
                    back = back + load_row(target, count, work, one)
                store_row(target, count, work, back, one)
                if rank == 0:
                    store_row(off(ddelta, row * dim), count, work, change, one)
                else:
                    low = tensor_row(p, field.DELTA, b, k, row, one)
                    for r in range(rank):
                        place = off(dlow, row * rank + r)
                        put(place, 0, get(place, 0) + total(change * vload(weight, r * padded)))
                        gathered = vload(dweight, r * padded) + change * get(low, r)
                        vstore(dweight, r * padded, gathered)
            position = row_at(p, field.WRITE, k, start + t)
            if gated and position >= 0:
                gathered = vload(gate_gradients, position * lanes)
                gathered = gathered + vload(raw, t * lanes) * vload(results, t * lanes)
                vstore(gate_gradients, position * lanes, gathered)
    if fixed(p, field.SKIP) != 0:
        place = off(at(fixed(p, field.DSKIP), one), partial * padded + first)
        vstore(place, 0, vload(place, 0) + dskip)
    if fixed(p, field.BIAS) != 0:
        place = off(at(fixed(p, field.DBIAS), one), partial * padded + first)
        vstore(place, 0, vload(place, 0) + dbias)
