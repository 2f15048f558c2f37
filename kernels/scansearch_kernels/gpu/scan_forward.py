"""The selective scan forward on the GPU (Triton): one warp walks one direction of 64 channels.

A program keeps the state [states, channels] in registers, channels across the lanes, and walks its order
token by token, reading rows by index: nothing is permuted beforehand. Low-rank delta is projected 16 steps
at a time into a small scratch of the program's own. Where batch x directions x channels is too little work
for the card, the sequence is split into segments: the first pass finds each segment's end state and total
delta, the second chains them, the third is the ordinary forward from known states.
"""

# Device code is Triton's dialect of Python: tuples grow by `+`, conditions on constants stand alone.
# ruff: noqa: RUF005, SIM102
# mypy: disable-error-code="no-untyped-def, assignment"

import triton.language as tl

from scansearch_kernels.gpu.device_math import (
    STEPS,
    fetched,
    gathered,
    project,
    reached,
    rows_of,
    sigmoid,
    softplus,
    stacked,
    staged,
    visited,
)
from scansearch_kernels.gpu.launch import kernel


@kernel
def scan_forward(
    u, delta, weight, A, B, C, D, z, bias, read, write, lengths,
    y, checkpoints, scratch, stage, starts, ends, totals,
    u_batch, u_direction, u_row, delta_batch, delta_direction, delta_row,
    B_batch, B_direction, B_row, C_batch, C_direction, C_row, z_batch, z_row,
    directions, dim, rank, steps, positions, blocks, segments, segment_blocks,
    COMPUTE: tl.constexpr, STATES: tl.constexpr, STATES_PAD: tl.constexpr, LOW_RANK: tl.constexpr, SPLIT: tl.constexpr,
    TILE: tl.constexpr, EVEN: tl.constexpr, BLOCK: tl.constexpr, SOFTPLUS: tl.constexpr,
    HAS_BIAS: tl.constexpr, HAS_D: tl.constexpr, HAS_Z: tl.constexpr, HAS_READ: tl.constexpr,
    HAS_WRITE: tl.constexpr, CHECKPOINT: tl.constexpr, FROM_STARTS: tl.constexpr, SUMMARY: tl.constexpr,
    GROUP: tl.constexpr,
):  # fmt: skip
    """Outputs y and, every BLOCK steps, the state; or (SUMMARY) only end state and total delta.

    One program per (batch, segment, direction, channel tile), the last the fastest.
    """
    tiles = tl.cdiv(dim, TILE)
    program = tl.program_id(0).to(tl.int64)
    tile = program % tiles
    direction = (program // tiles) % directions
    segment = (program // tiles // directions) % segments
    batch = program // tiles // directions // segments
    columns = tile * TILE + tl.arange(0, TILE)
    live = columns < dim
    states = tl.arange(0, STATES_PAD)
    state_live = states < STATES
    square = states[:, None] * dim + columns[None, :]
    square_live = state_live[:, None] & live[None, :]

    stop = tl.load(lengths + direction)
    first = segment.to(tl.int32) * segment_blocks * BLOCK
    last = tl.minimum(first + segment_blocks * BLOCK, stop)
    decay = tl.load(A + direction * STATES * dim + square, mask=square_live, other=0.0).to(COMPUTE)
    u += batch * u_batch + direction * u_direction
    delta += batch * delta_batch + direction * delta_direction
    weight += (direction * tiles + tile) * TILE * (tl.cdiv(rank, 16) * 16 * SPLIT)
    B += batch * B_batch + direction * B_direction
    C += batch * C_batch + direction * C_direction
    z += batch * z_batch
    y += (batch * directions + direction) * positions * dim
    read += direction * steps
    write += direction * steps
    scratch += program * STEPS * TILE
    B_stage = stage + program * 2 * STEPS * STATES_PAD
    C_stage = B_stage + STEPS * STATES_PAD
    if HAS_BIAS:
        shift = tl.load(bias + direction * dim + columns, mask=live, other=0.0).to(COMPUTE)
    if HAS_D:
        skip = tl.load(D + direction * dim + columns, mask=live, other=0.0).to(COMPUTE)
    chain = (batch * segments + segment) * directions + direction
    if FROM_STARTS:
        state = tl.load(starts + chain * STATES * dim + square, mask=square_live, other=0.0)
    else:
        state = tl.zeros([STATES_PAD, TILE], dtype=COMPUTE)
    total = tl.zeros([TILE], dtype=COMPUTE)

    # rows of u and z are asked for one group of steps before they are needed, their indices two
    sixteen = tl.arange(0, STEPS)
    lanes = tl.arange(0, TILE)[None, :]
    group = tl.arange(0, GROUP)
    rows = visited(read, first + group, last, HAS_READ)
    next_rows = visited(read, first + GROUP + group, last, HAS_READ)
    u_rows = fetched(u, rows, u_row, columns, live, EVEN)
    places = rows
    next_places = next_rows
    if HAS_WRITE and not SUMMARY:
        places = visited(write, first + group, last, True)
        next_places = visited(write, first + GROUP + group, last, True)
    z_rows = u_rows
    if HAS_Z and not SUMMARY:
        z_rows = fetched(z, places, z_row, columns, live, EVEN)

    for start in range(first, last, STEPS):
        if CHECKPOINT:
            if start % BLOCK == 0:
                block = (batch * directions + direction) * blocks + start // BLOCK
                tl.store(checkpoints + block * STATES * dim + square, state, mask=square_live)
        block_rows = visited(read, start + sixteen, last, HAS_READ)
        tl.debug_barrier()  # what the steps before left in memory has been read
        if LOW_RANK:
            project(delta, delta_row, weight, rank, block_rows, scratch, TILE, SPLIT, COMPUTE)
        staged(B, B_row, block_rows, B_stage, STATES, STATES_PAD, COMPUTE)
        if not SUMMARY:
            staged(C, C_row, block_rows, C_stage, STATES, STATES_PAD, COMPUTE)
        tl.debug_barrier()
        if LOW_RANK:
            delta_ahead = tl.load(scratch + group[:, None] * TILE + lanes)
        for step in range(start, tl.minimum(start + STEPS, last), GROUP):
            times = step + group
            u_tile = u_rows.to(COMPUTE)
            z_tile = z_rows.to(COMPUTE)
            here = rows
            here_places = places
            rows = next_rows
            u_rows = fetched(u, rows, u_row, columns, live, EVEN)
            next_rows = visited(read, times + 2 * GROUP, last, HAS_READ)
            if HAS_WRITE and not SUMMARY:
                places = next_places
                next_places = visited(write, times + 2 * GROUP, last, True)
            else:
                places = rows
            if HAS_Z and not SUMMARY:
                z_rows = fetched(z, places, z_row, columns, live, EVEN)
            here_stage = (step - start) * STATES_PAD + states
            if LOW_RANK:
                delta_tile = delta_ahead
                following = tl.minimum(times - start + GROUP, STEPS - 1)
                delta_ahead = tl.load(scratch + following[:, None] * TILE + lanes)
            else:
                delta_tile = gathered(delta, here, delta_row, columns, live, EVEN, COMPUTE)
            if HAS_BIAS:
                delta_tile += shift[None, :]
            if SOFTPLUS:
                delta_tile = softplus(delta_tile)
            delta_tile = tl.where((times < last)[:, None], delta_tile, 0.0)
            delta_rows = rows_of(delta_tile)
            inflow_rows = rows_of(delta_tile * u_tile)
            if SUMMARY:
                for i in tl.static_range(GROUP):
                    state = tl.exp2(delta_rows[i][None, :] * decay) * state
                    state += inflow_rows[i][None, :] * tl.load(B_stage + here_stage + i * STATES_PAD)[:, None]
                    total += delta_rows[i]
            else:
                y_rows = ()
                for i in tl.static_range(GROUP):
                    state = tl.exp2(delta_rows[i][None, :] * decay) * state
                    state += inflow_rows[i][None, :] * tl.load(B_stage + here_stage + i * STATES_PAD)[:, None]
                    C_values = tl.load(C_stage + here_stage + i * STATES_PAD)
                    y_rows = y_rows + (tl.sum(state * C_values[:, None], axis=0),)
                y_tile = stacked(y_rows, GROUP, TILE)
                if HAS_D:
                    y_tile += skip[None, :] * u_tile
                if HAS_Z:
                    y_tile *= z_tile * sigmoid(z_tile)
                place_live = reached(here_places, live, EVEN)
                tl.store(y + here_places[:, None] * dim + columns[None, :], y_tile, mask=place_live)
    if SUMMARY:
        tl.store(ends + chain * STATES * dim + square, state, mask=square_live)
        tl.store(totals + chain * dim + columns, total, mask=live)


@kernel
def chain_segments(
    A, ends, totals, starts, directions, dim, segments,
    COMPUTE: tl.constexpr, STATES: tl.constexpr, STATES_PAD: tl.constexpr, TILE: tl.constexpr,
    REVERSE: tl.constexpr,
):  # fmt: skip
    """starts[s] = exp(A totals[s-1]) starts[s-1] + ends[s-1] from 0 on; REVERSE: the same from s+1.

    One program per (batch, direction, channel tile).
    """
    tiles = tl.cdiv(dim, TILE)
    program = tl.program_id(0).to(tl.int64)
    columns = (program % tiles) * TILE + tl.arange(0, TILE)
    direction = (program // tiles) % directions
    batch = program // tiles // directions
    live = columns < dim
    states = tl.arange(0, STATES_PAD)
    square = states[:, None] * dim + columns[None, :]
    square_live = (states < STATES)[:, None] & live[None, :]
    decay = tl.load(A + direction * STATES * dim + square, mask=square_live, other=0.0).to(COMPUTE)
    carry = tl.zeros([STATES_PAD, TILE], dtype=COMPUTE)
    for count in range(0, segments):
        segment = segments - 1 - count if REVERSE else count
        chain = (batch * segments + segment) * directions + direction
        tl.store(starts + chain * STATES * dim + square, carry, mask=square_live)
        total = tl.load(totals + chain * dim + columns, mask=live, other=0.0)
        end = tl.load(ends + chain * STATES * dim + square, mask=square_live, other=0.0)
        carry = tl.exp2(total[None, :] * decay) * carry + end
