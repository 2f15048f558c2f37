"""The phases of one chunk of steps in the backward of the scan, in the order in which they run.

`load_chunk` fills the scratch arrays, `recur_chunk` goes forward and in reverse through the recurrence, and the other
phases add what it left to the gradients.
"""

from typing import Any, NamedTuple

from numba import njit

from scansearch_kernels.cpu import layout as field
from scansearch_kernels.cpu.backward_scratch import clear_chunk, even, of_vector
from scansearch_kernels.cpu.channel_sums import add_totals, low_rank
from scansearch_kernels.cpu.rows import (
    MARKED,
    fill,
    load_row,
    positive,
    prefetch_row,
    prefetch_target,
    store_row,
    tensor_row,
)
from scansearch_kernels.cpu.scan_states import recompute_one, recompute_two, reverse_one, reverse_two
from scansearch_kernels.cpu.tile import (
    note_input_rows,
    parameter,
    prefetch_inputs,
    raw_delta,
    read_row,
    saved_states,
    skip_weight,
    tile_row,
    written_row,
)
from scansearch_kernels.cpu.vector_math import base_log, lane_count, sigmoid
from scansearch_kernels.cpu.vectors import (
    address,
    invariant,
    load,
    offset,
    plain_nan,
    prefetch,
    spread,
    store,
    vload,
    vstore,
)

CHUNK, TILE = field.CHUNK, field.TILE


class Gates(NamedTuple):
    """The gates of the outputs of a tile of channels, silu(z): [positions, vectors, lanes]."""

    used: Any  # whether the call has a z; without one the pointers are not used
    values: Any
    gradients: Any  # summed over directions


class Gradients(NamedTuple):
    """Where the gradients of a tile along one direction go."""

    u: Any  # [rows, channels]
    delta: Any  # [rows, channels], where delta is not of low rank
    B: Any  # [rows, states], the share of a group of tiles
    C: Any  # [rows, states], likewise
    low: Any  # [rows, rank], likewise: of low-rank delta
    A: Any  # [states, padded channels], the share of a slot of the batch
    skip: Any  # [padded channels], likewise
    bias: Any  # [padded channels], likewise
    weight: Any  # [rank, padded channels], likewise
    marks: Any  # [rows], int8: which rows of u and delta have been written


@njit
def load_chunk(tile: Any, start: int, steps: int, scratch: Any, gates: Any, gradients: Any) -> None:
    """delta, u and dy of a chunk, what follows from them, and where its rows of B and C are."""
    dim, low = invariant(tile.p, field.DIM), invariant(tile.p, field.RANK) != 0
    for t in range(steps):
        row, position = read_row(tile, start + t), written_row(tile, start + t)
        note_input_rows(tile, t, row, scratch.inputs)
        if row >= 0:
            prefetch_target(offset(gradients.u, row * dim), tile.one)
            if not low:
                prefetch_target(offset(gradients.delta, row * dim), tile.one)
        u_row, dy_row = tile_row(tile, field.U, max(row, 0)), tile_row(tile, field.DY, max(position, 0))
        for v in range(tile.vectors):
            _load_step(tile, v, t, row, position, u_row, dy_row, scratch, gates)


@njit(forceinline=True)
def _load_step(
    tile: Any, v: int, t: int, row: int, position: int, u_row: Any, dy_row: Any, scratch: Any, gates: Any
) -> None:
    """One step of one vector of channels."""
    chunk, lanes, one = scratch.chunk, lane_count(tile.one), tile.one
    left = tile.channels - v * lanes
    raw = raw_delta(tile, row, v, scratch.ragged)
    delta = plain_nan(positive(tile.p, raw, one))
    slope, u, dy = spread(one), spread(one - one), spread(one - one)
    if invariant(tile.p, field.SOFTPLUS) != 0:
        slope = sigmoid(raw, one)
    if row >= 0:
        u = load_row(offset(u_row, v * lanes), left, scratch.ragged, one)
    if position >= 0:
        dy = load_row(offset(dy_row, v * lanes), left, scratch.ragged, one)
    index = (v * CHUNK + t) * lanes
    vstore(chunk.deltas, index, delta)
    vstore(chunk.u, index, u)
    vstore(chunk.inflows, index, delta * u)
    vstore(chunk.slopes, index, slope)
    vstore(chunk.dy, index, dy)
    vstore(chunk.results, index, skip_weight(tile, v) * u)
    if gates.used and position >= 0:
        dy = dy * vload(gates.values, (position * tile.vectors + v) * lanes)
    vstore(chunk.outer, index, dy)


@njit
def recur_chunk(tile: Any, number: int, steps: int, scratch: Any, gated: bool, grows: Any) -> None:
    """The recurrence of chunk `number` again from its saved states, then in reverse; two states at a time."""
    lanes, one = lane_count(tile.one), tile.one
    states, padded = invariant(tile.p, field.STATES), invariant(tile.p, field.PADDED)
    start = number * CHUNK
    runs = tile.vectors * (even(states) // 2)
    pace = (CHUNK + runs - 1) // runs  # rows of the chunk before to ask for in each run of a recurrence
    ahead = start - CHUNK
    A, saved, before = (
        parameter(tile, field.A, states),
        saved_states(tile, number),
        saved_states(tile, max(number - 1, 0)),
    )
    clear_chunk(scratch, states, one)
    for v in range(tile.vectors):
        for n in range(0, even(states), 2):
            if number > 0:
                for m in range(n, min(n + 2, states)):
                    prefetch(before, m * padded + v * lanes)
                for step in range(ahead, min(ahead + pace, start)):
                    _prefetch_step(tile, step)
                ahead += pace
            index = n * padded + v * lanes
            if n + 1 < states:
                _two_states(tile, v, n, steps, offset(A, index), offset(saved, index), scratch, gated, grows)
            else:
                _one_state(tile, v, n, steps, offset(A, index), offset(saved, index), scratch, gated, grows)


@njit(forceinline=True)
def _two_states(
    tile: Any, v: int, n: int, steps: int, A: Any, saved: Any, scratch: Any, gated: bool, grows: Any
) -> None:
    """States n and n + 1 of one vector of channels."""
    lanes, one = lane_count(tile.one), tile.one
    states, padded = invariant(tile.p, field.STATES), invariant(tile.p, field.PADDED)
    left = tile.channels - v * lanes
    chunk, tape, addresses = of_vector(scratch.chunk, v, one), scratch.tape, scratch.inputs.addresses
    products, index = offset(tape, 4 * CHUNK * lanes), (v * even(states) + n) * lanes
    A0, h0 = plain_nan(vload(A, 0)), vload(saved, 0)
    A1, h1 = plain_nan(vload(A, padded)), vload(saved, padded)
    recompute_two(chunk, tape, A0, A1, h0, h1, addresses, n, steps, gated, grows, one)
    add_totals(products, offset(scratch.c_sums, n * CHUNK), 2, left, one)
    carry, dA = offset(scratch.carry, index), offset(scratch.decay_sums, index)
    reverse_two(chunk, tape, A0, A1, carry, dA, addresses, n, steps, one)
    add_totals(products, offset(scratch.b_sums, n * CHUNK), 2, left, one)


@njit(forceinline=True)
def _one_state(
    tile: Any, v: int, n: int, steps: int, A: Any, saved: Any, scratch: Any, gated: bool, grows: Any
) -> None:
    """The last of an odd number of states."""
    lanes, one, states = lane_count(tile.one), tile.one, invariant(tile.p, field.STATES)
    left = tile.channels - v * lanes
    chunk, tape, addresses = of_vector(scratch.chunk, v, one), scratch.tape, scratch.inputs.addresses
    products, index = offset(tape, 4 * CHUNK * lanes), (v * even(states) + n) * lanes
    A0 = plain_nan(vload(A, 0))
    recompute_one(chunk, tape, A0, vload(saved, 0), addresses, n, steps, gated, grows, one)
    add_totals(products, offset(scratch.c_sums, n * CHUNK), 1, left, one)
    carry, dA = offset(scratch.carry, index), offset(scratch.decay_sums, index)
    reverse_one(chunk, tape, A0, carry, dA, addresses, n, steps, one)
    add_totals(products, offset(scratch.b_sums, n * CHUNK), 1, left, one)


@njit(forceinline=True)
def _prefetch_step(tile: Any, step: int) -> None:
    """Ask for what another step will read."""
    prefetch_inputs(tile, read_row(tile, step))
    position = written_row(tile, step)
    if position >= 0:
        prefetch_row(tile_row(tile, field.DY, position), tile.one)


@njit
def add_b_and_c(tile: Any, start: int, steps: int, scratch: Any, gradients: Any) -> None:
    """Add a chunk's gradients of B and C to those of their rows."""
    states = invariant(tile.p, field.STATES)
    for t in range(steps):
        row = read_row(tile, start + t)
        if row >= 0:
            for n in range(states):
                _add(gradients.B, row * states + n, load(scratch.b_sums, n * CHUNK + t))
                _add(gradients.C, row * states + n, load(scratch.c_sums, n * CHUNK + t))


@njit
def scatter_chunk(tile: Any, start: int, steps: int, scratch: Any, gates: Any, gradients: Any) -> None:
    """Gradients of a chunk's u, delta, gates, D and bias, to where they belong."""
    for t in range(steps):
        row, position = read_row(tile, start + t), written_row(tile, start + t)
        if row >= 0:
            store(gradients.marks, row, MARKED)
        for v in range(tile.vectors):
            _scatter_step(tile, v, t, row, scratch, gradients)
            if gates.used and position >= 0:
                lanes, chunk = lane_count(tile.one), scratch.chunk
                index = (v * CHUNK + t) * lanes
                gradient = vload(chunk.dy, index) * vload(chunk.results, index)
                _vadd(gates.gradients, (position * tile.vectors + v) * lanes, gradient)


@njit(forceinline=True)
def _scatter_step(tile: Any, v: int, t: int, row: int, scratch: Any, gradients: Any) -> None:
    """One step of one vector of channels."""
    p, chunk, lanes, one = tile.p, scratch.chunk, lane_count(tile.one), tile.one
    index, channel, left = (v * CHUNK + t) * lanes, v * lanes, tile.channels - v * lanes
    target = row * invariant(p, field.DIM) + channel
    natural = one / base_log(one)  # brings A back from the base of `power`
    u, outer, flow = vload(chunk.u, index), vload(chunk.outer, index), vload(chunk.into_flow, index)
    change = (vload(chunk.into_decay, index) * natural + flow * u) * vload(chunk.slopes, index)
    if invariant(p, field.BIAS) != 0:
        _vadd(gradients.bias, channel, change)
    # a row of zeros has no low-rank delta
    vstore(chunk.slopes, index, change if row >= 0 else spread(one - one))
    du = flow * vload(chunk.deltas, index)
    if invariant(p, field.SKIP) != 0:
        _vadd(gradients.skip, channel, outer * u)
        du = du + outer * skip_weight(tile, v)
    if row >= 0:
        if invariant(p, field.SHARED) != 0:
            du = du + load_row(offset(gradients.u, target), left, scratch.ragged, one)
        store_row(offset(gradients.u, target), left, scratch.ragged, du, one)
        if invariant(p, field.RANK) == 0:
            store_row(offset(gradients.delta, target), left, scratch.ragged, change, one)


@njit
def add_low_rank(tile: Any, start: int, steps: int, scratch: Any, gradients: Any) -> None:
    """Gradients of low-rank delta and its weights, from those of delta before softplus."""
    rank, padded = invariant(tile.p, field.RANK), invariant(tile.p, field.PADDED)
    lanes, one = lane_count(tile.one), tile.one
    addresses, weight, sums = scratch.inputs.addresses, parameter(tile, field.WEIGHT, rank), scratch.b_sums
    for t in range(steps):
        row = read_row(tile, start + t)
        store(addresses, t, address(scratch.inputs.zeros))
        if row >= 0:
            store(addresses, t, address(tensor_row(tile.p, field.DELTA, tile.b, tile.k, row, one)))
    for r in range(rank):
        fill(sums, CHUNK // lanes, one)
        for v in range(tile.vectors):
            change, index = offset(scratch.chunk.slopes, v * CHUNK * lanes), r * padded + v * lanes
            low_rank(
                change, offset(weight, index), offset(gradients.weight, index), addresses, r,
                scratch.tape, sums, steps, tile.channels - v * lanes, one,
            )  # fmt: skip
        for t in range(steps):
            row = read_row(tile, start + t)
            if row >= 0:
                _add(gradients.low, row * rank + r, load(sums, t))


@njit
def add_a(tile: Any, scratch: Any, gradients: Any) -> None:
    """Add a direction's gradients of A, which all its chunks have summed, to those of the slot."""
    states, padded, lanes = (
        invariant(tile.p, field.STATES),
        invariant(tile.p, field.PADDED),
        lane_count(tile.one),
    )
    for v in range(tile.vectors):
        for n in range(states):
            _vadd(
                gradients.A, n * padded + v * lanes, vload(scratch.decay_sums, (v * even(states) + n) * lanes)
            )


@njit(forceinline=True)
def _add(target: Any, index: int, value: Any) -> None:
    store(target, index, load(target, index) + value)


@njit(forceinline=True)
def _vadd(target: Any, index: int, vector: Any) -> None:
    vstore(target, index, vload(target, index) + vector)
