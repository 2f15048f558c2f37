"""Forward of the selective scan on the CPU (Numba).

One item of work is a batch entry, a stretch of directions and a tile of channels (a few vectors). It walks the
steps in chunks: first delta, delta * u and D * u of the whole chunk, then the recurrence for one vector of channels
after the other with the state in the nearest cache, then the rows of y.
"""

from typing import Any, NamedTuple

from numba import njit

from scansearch_kernels.cpu import layout as field
from scansearch_kernels.cpu.rows import (
    INT8,
    INT64,
    MARKED,
    clear_marks,
    fill,
    load_row,
    prefetch_target,
    store_row,
    zero_unmarked,
)
from scansearch_kernels.cpu.scan_states import forward_four, forward_one
from scansearch_kernels.cpu.tile import (
    InputRows,
    Tile,
    address_list,
    load_gates,
    note_input_rows,
    parameter,
    positive,
    prefetch_inputs,
    raw_delta,
    read_row,
    saved_states,
    skip_weight,
    tile_row,
    written_row,
)
from scansearch_kernels.cpu.vector_math import lane_count
from scansearch_kernels.cpu.vectors import (
    fetch_add,
    invariant,
    offset,
    plain_nan,
    pointer,
    prefetch_to_write,
    spread,
    store,
    vload,
    vstore,
)

CHUNK, TILE, STRIDE = field.CHUNK, field.TILE, field.STRIDE


class Scratch(NamedTuple):
    """Everything the phases of a chunk hand to each other."""

    ragged: Any  # one vector, for a row's ragged end
    deltas: Any  # [TILE, CHUNK, lanes]
    inflows: Any  # [TILE, CHUNK, lanes]: delta u
    results: Any  # [TILE, CHUNK, lanes]: the output before its gate
    state: Any  # [TILE, states, lanes]
    decays: Any  # [TILE, states, lanes]: A
    inputs: Any  # InputRows
    gates: Any  # [positions, vectors, lanes]: silu(z), where the call has a z


class Image(NamedTuple):
    """Where the output of a tile along one direction goes."""

    y: Any  # [positions, channels]
    marks: Any  # [positions], int8: which have been written


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
    p: Any, b: int, first_k: int, last_k: int, number: int, memory: int, grows: Any, one: Any
) -> None:
    """Several directions of one batch entry and one tile of channels; `memory` is the address of the scratch."""
    lanes = lane_count(one)
    first = number * TILE * lanes
    dim, length = invariant(p, field.DIM), invariant(p, field.LENGTH)
    count = min(TILE * lanes, dim - first)
    vectors = (count + lanes - 1) // lanes
    marks = pointer(memory, INT8)
    scratch = _lay_out(pointer(memory + invariant(p, field.MARKS_SIZE), one), invariant(p, field.STATES), one)
    if invariant(p, field.Z) != 0:
        load_gates(p, b, first, count, scratch.gates, scratch.ragged, one)
    for k in range(first_k, last_k):
        clear_marks(marks, length)
        row = (b * invariant(p, field.DIRECTIONS) + k) * length
        y = offset(pointer(invariant(p, field.Y), one), row * dim + first)
        _one_direction(Tile(p, b, k, first, count, vectors, one), scratch, Image(y, marks), grows)
        zero_unmarked(marks, length, y, dim, count, one)


@njit(forceinline=True)
def _lay_out(work: Any, states: int, one: Any) -> Any:
    """The arrays of scratch, one after the other from `work`."""
    lanes = lane_count(one)
    deltas = offset(work, lanes)
    inflows = offset(deltas, STRIDE * lanes)
    results = offset(inflows, STRIDE * lanes)
    state = offset(results, STRIDE * lanes)
    decays = offset(state, TILE * states * lanes)
    zeros = offset(decays, TILE * states * lanes)
    few = states + states % 2 + 4 * CHUNK  # what is no whole vector: zeros and addresses
    gates = offset(zeros, (few + lanes - 1) // lanes * lanes)
    inputs = InputRows(address_list(offset(zeros, states + states % 2)), zeros)
    return Scratch(work, deltas, inflows, results, state, decays, inputs, gates)


@njit
def _one_direction(tile: Any, scratch: Any, image: Any, grows: Any) -> None:
    """The chunks of one order."""
    end = invariant(pointer(invariant(tile.p, field.LENGTHS), INT64), tile.k)
    _start(tile, scratch)
    for start in range(0, end, CHUNK):
        steps = min(CHUNK, end - start)
        if invariant(tile.p, field.KEEP) != 0:
            _save_states(tile, start // CHUNK, scratch)
        _load_chunk(tile, start, steps, scratch, image)
        _recur_chunk(tile, start, steps, end, scratch, grows)
        _store_chunk(tile, start, steps, scratch, image)


@njit
def _start(tile: Any, scratch: Any) -> None:
    """A direction's A, a state of zero, and a row of zeros."""
    states, padded, lanes = (
        invariant(tile.p, field.STATES),
        invariant(tile.p, field.PADDED),
        lane_count(tile.one),
    )
    A = parameter(tile, field.A, states)
    for v in range(tile.vectors):
        for n in range(states):
            A_n = plain_nan(vload(A, n * padded + v * lanes))
            vstore(scratch.decays, (v * states + n) * lanes, A_n)
    fill(scratch.state, tile.vectors * states, tile.one)
    for n in range(states):
        store(scratch.inputs.zeros, n, tile.one - tile.one)


@njit(forceinline=True)
def _save_states(tile: Any, chunk: int, scratch: Any) -> None:
    """Keep the states before a chunk for the backward."""
    states, padded, lanes = (
        invariant(tile.p, field.STATES),
        invariant(tile.p, field.PADDED),
        lane_count(tile.one),
    )
    saved = saved_states(tile, chunk)
    for n in range(states):
        for v in range(tile.vectors):
            vstore(saved, n * padded + v * lanes, vload(scratch.state, (v * states + n) * lanes))


@njit
def _load_chunk(tile: Any, start: int, steps: int, scratch: Any, image: Any) -> None:
    """delta, delta u and D u of a chunk, and where its rows of B and C are."""
    lanes, one = lane_count(tile.one), tile.one
    for t in range(steps):
        row, position = read_row(tile, start + t), written_row(tile, start + t)
        u_row = tile_row(tile, field.U, max(row, 0))
        if position >= 0:
            prefetch_target(offset(image.y, position * invariant(tile.p, field.DIM)), one)
        note_input_rows(tile, t, row, scratch.inputs)
        for v in range(tile.vectors):
            delta = positive(tile, raw_delta(tile, row, v, scratch.ragged))
            u = spread(one - one)
            if row >= 0:
                u = load_row(offset(u_row, v * lanes), tile.channels - v * lanes, scratch.ragged, one)
            index = (v * CHUNK + t) * lanes
            vstore(
                scratch.deltas, index, delta
            )  # a NaN of any bits: the inflow is NaN, whatever the decay is
            vstore(scratch.inflows, index, delta * u)
            vstore(scratch.results, index, skip_weight(tile, v) * u)


@njit
def _recur_chunk(tile: Any, start: int, steps: int, end: int, scratch: Any, grows: Any) -> None:
    """The recurrence of a chunk: one vector of channels and up to four states at a time."""
    lanes, one = lane_count(tile.one), tile.one
    states, padded = invariant(tile.p, field.STATES), invariant(tile.p, field.PADDED)
    addresses, saved = scratch.inputs.addresses, saved_states(tile, start // CHUNK + 1)
    runs = tile.vectors * (states // 4 + states % 4)
    pace = (CHUNK + runs - 1) // runs  # rows of the next chunk to ask for in each run of a recurrence
    ahead = start + CHUNK
    for v in range(tile.vectors):
        here = v * CHUNK * lanes
        deltas, inflows, results = (
            offset(scratch.deltas, here),
            offset(scratch.inflows, here),
            offset(scratch.results, here),
        )
        n = 0
        while n < states:
            for step in range(ahead, min(ahead + pace, end)):
                prefetch_inputs(tile, read_row(tile, step))
            ahead += pace
            if invariant(tile.p, field.KEEP) != 0:
                for m in range(n, min(n + 4, states)):
                    prefetch_to_write(saved, m * padded + v * lanes)
            index = (v * states + n) * lanes
            decays, state = offset(scratch.decays, index), offset(scratch.state, index)
            if n + 4 <= states:
                forward_four(deltas, inflows, results, decays, state, addresses, n, steps, grows, one)
                n += 4
            else:
                forward_one(deltas, inflows, results, decays, state, addresses, n, steps, grows, one)
                n += 1


@njit
def _store_chunk(tile: Any, start: int, steps: int, scratch: Any, image: Any) -> None:
    """The rows of y of a chunk, gated."""
    lanes, one = lane_count(tile.one), tile.one
    for t in range(steps):
        position = written_row(tile, start + t)
        if position >= 0:
            store(image.marks, position, MARKED)
            target = offset(image.y, position * invariant(tile.p, field.DIM))
            for v in range(tile.vectors):
                result = vload(scratch.results, (v * CHUNK + t) * lanes)
                if invariant(tile.p, field.Z) != 0:
                    result = result * vload(scratch.gates, (position * tile.vectors + v) * lanes)
                store_row(offset(target, v * lanes), tile.channels - v * lanes, scratch.ragged, result, one)
