"""The selective scan backward on the GPU (Triton): deterministic, states recomputed from sparse checkpoints.

A program walks one direction of one channel tile backwards, block by block. In a block it first repeats the
forward from the saved state, keeping the state before every chunk of eight steps in a scratch of its own;
then, chunk after chunk in reverse and state after state, it redoes the eight steps in registers and runs the
adjoint recurrence back through them. Sums over channels (B, C) are written per channel tile in walking order
and reduced by a second kernel; sums over directions and batch are left to torch. There are no atomics.
"""

# Device code is Triton's dialect of Python: tuples grow by `+`, conditions on constants stand alone.
# ruff: noqa: RUF005
# mypy: disable-error-code="no-untyped-def, assignment"

import triton.language as tl

from scansearch_kernels.gpu.device_math import (
    LN2,
    STEPS,
    channel_sums,
    eight_values,
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

GROUP = tl.constexpr(2)
CHUNK = tl.constexpr(8)  # steps whose states are in registers at once
TIMES = tl.constexpr(32)  # steps per program when gradients of B and C are reduced


@kernel
def scan_adjoint_summary(
    dy, delta, weight, A, C, z, bias, read, write, lengths, scratch, ends, totals,
    dy_batch, dy_direction, dy_row, delta_batch, delta_direction, delta_row, C_batch, C_direction, C_row,
    z_batch, z_row, directions, dim, rank, steps, segments, segment_blocks,
    COMPUTE: tl.constexpr, STATES: tl.constexpr, STATES_PAD: tl.constexpr, LOW_RANK: tl.constexpr, SPLIT: tl.constexpr,
    TILE: tl.constexpr, EVEN: tl.constexpr, BLOCK: tl.constexpr, SOFTPLUS: tl.constexpr,
    HAS_BIAS: tl.constexpr, HAS_Z: tl.constexpr, HAS_READ: tl.constexpr, HAS_WRITE: tl.constexpr,
):  # fmt: skip
    """What a segment alone sends back to the state before it, and its total delta."""
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
    dy += batch * dy_batch + direction * dy_direction
    delta += batch * delta_batch + direction * delta_direction
    weight += (direction * tiles + tile) * TILE * (tl.cdiv(rank, 16) * 16 * SPLIT)
    C += batch * C_batch + direction * C_direction
    z += batch * z_batch
    read += direction * steps
    write += direction * steps
    scratch += program * BLOCK * TILE
    if HAS_BIAS:
        shift = tl.load(bias + direction * dim + columns, mask=live, other=0.0).to(COMPUTE)
    carry = tl.zeros([STATES_PAD, TILE], dtype=COMPUTE)
    total = tl.zeros([TILE], dtype=COMPUTE)
    parts = tl.cdiv(tl.maximum(last - first, 0), STEPS)
    for count in range(0, parts):
        start = first + (parts - 1 - count) * STEPS
        if LOW_RANK:
            block_rows = visited(read, start + tl.arange(0, STEPS), last, HAS_READ)
            tl.debug_barrier()  # the rows of the steps before have been read
            project(delta, delta_row, weight, rank, block_rows, scratch, TILE, SPLIT, COMPUTE)
            tl.debug_barrier()
        for back in range(0, STEPS, GROUP):
            step = start + STEPS - GROUP - back
            times = step + tl.arange(0, GROUP)
            rows = visited(read, times, last, HAS_READ)
            places = visited(write, times, last, True) if HAS_WRITE else rows
            dy_tile = gathered(dy, places, dy_row, columns, live, EVEN, COMPUTE)
            if HAS_Z:
                z_tile = gathered(z, places, z_row, columns, live, EVEN, COMPUTE)
                dy_tile *= z_tile * sigmoid(z_tile)
            C_rows = rows_of(gathered(C, rows, C_row, states, state_live, STATES == STATES_PAD, COMPUTE))
            if LOW_RANK:
                delta_tile = tl.load(scratch + (times - start)[:, None] * TILE + tl.arange(0, TILE)[None, :])
            else:
                delta_tile = gathered(delta, rows, delta_row, columns, live, EVEN, COMPUTE)
            if HAS_BIAS:
                delta_tile += shift[None, :]
            if SOFTPLUS:
                delta_tile = softplus(delta_tile)
            delta_tile = tl.where((times < last)[:, None], delta_tile, 0.0)
            delta_rows = rows_of(delta_tile)
            dy_rows = rows_of(dy_tile)
            for i in tl.static_range(GROUP - 1, -1, -1):
                carry += dy_rows[i][None, :] * C_rows[i][:, None]
                carry *= tl.exp2(delta_rows[i][None, :] * decay)
                total += delta_rows[i]
    chain = (batch * segments + segment) * directions + direction
    tl.store(ends + chain * STATES * dim + square, carry, mask=square_live)
    tl.store(totals + chain * dim + columns, total, mask=live)


@kernel
def scan_backward(
    dy, u, delta, weight, A, B, C, D, z, bias, read, write, lengths,
    checkpoints, scratch, memory, stage, carries, du, ddelta, dz, dA, dBC, dD, dbias,
    dy_batch, dy_direction, dy_row, u_batch, u_direction, u_row, delta_batch, delta_direction, delta_row,
    B_batch, B_direction, B_row, C_batch, C_direction, C_row, z_batch, z_row,
    directions, dim, rank, steps, positions, rows_total, blocks, segments, segment_blocks,
    COMPUTE: tl.constexpr, STATES: tl.constexpr, STATES_PAD: tl.constexpr, LOW_RANK: tl.constexpr, SPLIT: tl.constexpr,
    TILE: tl.constexpr, EVEN: tl.constexpr, BLOCK: tl.constexpr, SOFTPLUS: tl.constexpr,
    HAS_BIAS: tl.constexpr, HAS_D: tl.constexpr, HAS_Z: tl.constexpr, HAS_READ: tl.constexpr,
    HAS_WRITE: tl.constexpr, UNROLL: tl.constexpr, AHEAD: tl.constexpr, AGAIN: tl.constexpr,
):  # fmt: skip
    """Gradients of one (batch, segment, direction, channel tile), the last the fastest.

    `carries` enters with the adjoint state behind the segment and `dA` with zeros; both are updated in place.
    dBC [2, tiles, batch, directions, states, steps], gradients of B and C, is per tile and in walking order.
    """
    tiles = tl.cdiv(dim, TILE)
    program = tl.program_id(0).to(tl.int64)
    tile = program % tiles
    direction = (program // tiles) % directions
    segment = (program // tiles // directions) % segments
    batch = program // tiles // directions // segments
    batches = tl.num_programs(0) // tiles // directions // segments
    local = tl.arange(0, TILE)
    sixteen = tl.arange(0, STEPS)
    group = tl.arange(0, AGAIN)
    columns = tile * TILE + local
    live = columns < dim
    states = tl.arange(0, STATES_PAD)
    state_live = states < STATES
    square = states[:, None] * dim + columns[None, :]
    square_live = state_live[:, None] & live[None, :]
    stop = tl.load(lengths + direction)
    first = segment.to(tl.int32) * segment_blocks * BLOCK
    last = tl.minimum(first + segment_blocks * BLOCK, stop)

    lane = batch * directions + direction
    chain = (batch * segments + segment) * directions + direction
    dy += batch * dy_batch + direction * dy_direction
    u += batch * u_batch + direction * u_direction
    delta += batch * delta_batch + direction * delta_direction
    weight += (direction * tiles + tile) * TILE * (tl.cdiv(rank, 16) * 16 * SPLIT)
    A += direction * STATES * dim
    B += batch * B_batch + direction * B_direction
    C += batch * C_batch + direction * C_direction
    z += batch * z_batch
    read += direction * steps
    write += direction * steps
    scratch += program * BLOCK * TILE
    memory += program * (BLOCK // CHUNK) * STATES * TILE
    stage += program * 2 * STATES_PAD * CHUNK
    carries += chain * STATES * dim
    dA += chain * STATES * dim
    du += lane * rows_total * dim
    ddelta += lane * rows_total * dim
    dz += lane * positions * dim
    C_part = tiles.to(tl.int64) * batches * directions * STATES * steps
    dBC += (tile * batches * directions + lane) * STATES * steps
    if HAS_BIAS:
        shift = tl.load(bias + direction * dim + columns, mask=live, other=0.0).to(COMPUTE)
    if HAS_D:
        skip = tl.load(D + direction * dim + columns, mask=live, other=0.0).to(COMPUTE)
    dD_sum = tl.zeros([TILE], dtype=COMPUTE)
    dbias_sum = tl.zeros([TILE], dtype=COMPUTE)

    count = tl.cdiv(tl.maximum(last - first, 0), BLOCK)
    for done in range(0, count):
        start = first + (count - 1 - done) * BLOCK
        end = tl.minimum(start + BLOCK, last)

        # forward again: the state before each chunk
        decay = tl.load(A + square, mask=square_live, other=0.0).to(COMPUTE)
        block = lane * blocks + start // BLOCK
        state = tl.load(checkpoints + block * STATES * dim + square, mask=square_live, other=0.0)
        chunks = tl.cdiv(end - start, CHUNK)
        tail = start + (chunks - 1) * CHUNK
        pair = visited(read, start + group, end, HAS_READ)
        next_pair = visited(read, start + AGAIN + group, end, HAS_READ)
        u_rows = fetched(u, pair, u_row, columns, live, EVEN)
        for part in range(start, end, STEPS):
            block_rows = visited(read, part + sixteen, end, HAS_READ)
            tl.debug_barrier()  # what the steps before left in memory has been read
            if LOW_RANK:
                delta_place = scratch + (part - start) * TILE
                project(delta, delta_row, weight, rank, block_rows, delta_place, TILE, SPLIT, COMPUTE)
            staged(B, B_row, block_rows, stage, STATES, STATES_PAD, COMPUTE)
            tl.debug_barrier()
            if LOW_RANK:
                raw_ahead = tl.load(scratch + (part - start + group)[:, None] * TILE + local[None, :])
            for step in range(part, tl.minimum(part + STEPS, tail), AGAIN):
                if (step - start) % CHUNK == 0:
                    state_memory = memory + (step - start) // CHUNK * STATES * TILE
                    tl.store(
                        state_memory + states[:, None] * TILE + local[None, :],
                        state,
                        mask=state_live[:, None],
                    )
                pair_times = step + group
                u_now = u_rows.to(COMPUTE)
                here = pair
                pair = next_pair
                u_rows = fetched(u, pair, u_row, columns, live, EVEN)
                next_pair = visited(read, pair_times + 2 * AGAIN, end, HAS_READ)
                if LOW_RANK:
                    raw_pair = raw_ahead
                    following = tl.minimum(pair_times - part + AGAIN, STEPS - 1) + (part - start)
                    raw_ahead = tl.load(scratch + following[:, None] * TILE + local[None, :])
                else:
                    raw_pair = gathered(delta, here, delta_row, columns, live, EVEN, COMPUTE)
                if HAS_BIAS:
                    raw_pair += shift[None, :]
                if SOFTPLUS:
                    raw_pair = softplus(raw_pair)
                raw_rows = rows_of(raw_pair)
                inflow_pair = rows_of(raw_pair * u_now)
                B_place = stage + (step - part) * STATES_PAD + states
                for i in tl.static_range(AGAIN):
                    state = tl.exp2(raw_rows[i][None, :] * decay) * state
                    state += inflow_pair[i][None, :] * tl.load(B_place + i * STATES_PAD)[:, None]
        state_memory = memory + (chunks - 1) * STATES * TILE
        tl.store(state_memory + states[:, None] * TILE + local[None, :], state, mask=state_live[:, None])
        tl.debug_barrier()

        # and back, eight steps at a time
        for passed in range(0, chunks):
            chunk = start + (chunks - 1 - passed) * CHUNK
            times = chunk + tl.arange(0, CHUNK)
            alive = (times < end)[:, None]
            rows = visited(read, times, end, HAS_READ)
            places = visited(write, times, end, True) if HAS_WRITE else rows
            u_tile = gathered(u, rows, u_row, columns, live, EVEN, COMPUTE)
            if LOW_RANK:
                raw = tl.load(
                    scratch + (times - start)[:, None] * TILE + local[None, :], mask=alive, other=0.0
                )
            else:
                raw = gathered(delta, rows, delta_row, columns, live, EVEN, COMPUTE)
            if HAS_BIAS:
                raw += shift[None, :]
            delta_tile = tl.where(alive, softplus(raw) if SOFTPLUS else raw, 0.0)
            g_tile = gathered(dy, places, dy_row, columns, live, EVEN, COMPUTE)
            if HAS_Z:
                z_tile = gathered(z, places, z_row, columns, live, EVEN, COMPUTE)
                g_tile *= z_tile * sigmoid(z_tile)
            inflow_tile = delta_tile * u_tile
            delta_rows = rows_of(delta_tile)
            inflow_rows = rows_of(inflow_tile)
            g_rows = rows_of(g_tile)
            through_B = tl.zeros([CHUNK, TILE], dtype=COMPUTE)  # sum over states of adjoint state x B
            through_A = tl.zeros(
                [CHUNK, TILE], dtype=COMPUTE
            )  # of adjoint x decay x state before x A log2(e)
            y_tile = tl.zeros([CHUNK, TILE], dtype=COMPUTE)
            lanes = tl.arange(0, 32)
            sum_times = chunk + (lanes >> 1) % CHUNK
            sum_place = (lanes >> 4) * C_part + sum_times
            sum_live = (sum_times < end) & (lanes % 2 == 0)
            # B and C once, transposed: eight steps of a state lie together for the loop below
            eight = tl.arange(0, CHUNK)
            corner = states[None, :] * (2 * CHUNK) + eight[:, None]
            tl.debug_barrier()  # the chunk before is done with the stage
            B_tile = gathered(B, rows, B_row, states, state_live, STATES == STATES_PAD, COMPUTE)
            C_tile = gathered(C, rows, C_row, states, state_live, STATES == STATES_PAD, COMPUTE)
            tl.store(stage + corner, B_tile)
            tl.store(stage + CHUNK + corner, C_tile)
            tl.debug_barrier()
            remembered = memory + (chunk - start) // CHUNK * STATES * TILE + local
            # what a state needs is asked for while the state before is worked on
            next_rate = tl.load(A + columns, mask=live, other=0.0)
            next_h = tl.load(remembered)
            next_carry = tl.load(carries + columns, mask=live, other=0.0)
            next_sum = tl.load(dA + columns, mask=live, other=0.0)
            if AHEAD:
                next_B = tl.load(stage + eight)
                next_C = tl.load(stage + CHUNK + eight)
            for n in tl.range(0, STATES, loop_unroll_factor=UNROLL):
                rate = next_rate
                h = next_h
                carry = next_carry
                rate_sum = next_sum
                ahead = tl.minimum(n + 1, STATES - 1)
                next_rate = tl.load(A + ahead * dim + columns, mask=live, other=0.0)
                next_h = tl.load(remembered + ahead * TILE)
                next_carry = tl.load(carries + ahead * dim + columns, mask=live, other=0.0)
                next_sum = tl.load(dA + ahead * dim + columns, mask=live, other=0.0)
                if AHEAD:
                    B_values = next_B
                    C_values = next_C
                    next_B = tl.load(stage + ahead * (2 * CHUNK) + eight)
                    next_C = tl.load(stage + ahead * (2 * CHUNK) + CHUNK + eight)
                else:
                    B_values = tl.load(stage + n * (2 * CHUNK) + eight)
                    C_values = tl.load(stage + n * (2 * CHUNK) + CHUNK + eight)
                B_rows = eight_values(B_values)
                C_rows = eight_values(C_values)
                before = ()
                decays = ()
                to_C = ()
                y_rows = ()
                for i in tl.static_range(CHUNK):
                    decay_row = tl.exp2(delta_rows[i] * rate)
                    before = before + (h * decay_row,)
                    decays = decays + (decay_row,)
                    h = h * decay_row + inflow_rows[i] * B_rows[i]
                    to_C = to_C + (g_rows[i] * h,)
                    y_rows = y_rows + (h * C_rows[i],)
                to_B = ()
                B_parts = ()
                A_parts = ()
                for j in tl.static_range(CHUNK - 1, -1, -1):
                    carry += g_rows[j] * C_rows[j]
                    to_B = (carry * inflow_rows[j],) + to_B
                    B_parts = (carry * B_rows[j],) + B_parts
                    flow = carry * before[j]
                    A_parts = (flow * rate,) + A_parts
                    rate_sum += flow * delta_rows[j]
                    carry *= decays[j]
                through_B += stacked(B_parts, CHUNK, TILE)
                through_A += stacked(A_parts, CHUNK, TILE)
                if HAS_Z:
                    y_tile += stacked(y_rows, CHUNK, TILE)
                tl.store(carries + n * dim + columns, carry, mask=live)
                tl.store(dA + n * dim + columns, rate_sum, mask=live)
                sums = channel_sums(stacked(to_B, CHUNK, TILE), stacked(to_C, CHUNK, TILE))
                tl.store(dBC + n * steps + sum_place, sums, mask=sum_live)

            # what the loop over states did not need is read again: registers are scarcer than loads
            if HAS_Z:
                rows = visited(read, times, end, HAS_READ)
                places = visited(write, times, end, True) if HAS_WRITE else rows
            u_tile = gathered(u, rows, u_row, columns, live, EVEN, COMPUTE)
            dy_tile = gathered(dy, places, dy_row, columns, live, EVEN, COMPUTE)
            row_live = reached(rows, live, EVEN)
            row_place = rows[:, None] * dim + columns[None, :]
            du_tile = through_B * delta_tile
            if HAS_Z:
                z_tile = gathered(z, places, z_row, columns, live, EVEN, COMPUTE)
                gate = sigmoid(z_tile)
                g_tile = dy_tile * z_tile * gate
            else:
                g_tile = dy_tile
            if HAS_D:
                du_tile += g_tile * skip[None, :]
                dD_sum += tl.sum(g_tile * u_tile, axis=0)
                y_tile += u_tile * skip[None, :]
            tl.store(du + row_place, du_tile, mask=row_live)
            slope = through_A * LN2 + through_B * u_tile
            if SOFTPLUS:
                if LOW_RANK:
                    raw = tl.load(
                        scratch + (times - start)[:, None] * TILE + local[None, :], mask=alive, other=0.0
                    )
                else:
                    raw = gathered(delta, rows, delta_row, columns, live, EVEN, COMPUTE)
                if HAS_BIAS:
                    raw += shift[None, :]
                slope *= sigmoid(raw)
            slope = tl.where(alive, slope, 0.0)
            dbias_sum += tl.sum(slope, axis=0)
            tl.store(ddelta + row_place, slope, mask=row_live)
            if HAS_Z:
                dz_tile = dy_tile * y_tile * gate * (1.0 + z_tile * (1.0 - gate))
                place_live = reached(places, live, EVEN)
                tl.store(dz + places[:, None] * dim + columns[None, :], dz_tile, mask=place_live)
    if HAS_D:
        tl.store(dD + chain * dim + columns, dD_sum, mask=live)
    if HAS_BIAS:
        tl.store(dbias + chain * dim + columns, dbias_sum, mask=live)


@kernel
def reduce_tiles(
    parts, result, read, lengths, first, lanes, directions, steps, rows_total, tiles,
    STATES: tl.constexpr, STATES_PAD: tl.constexpr, HAS_READ: tl.constexpr,
):  # fmt: skip
    """Sums parts [., lanes, states, steps] over `tiles` tiles from `first` on into result [lanes, rows, states].

    Parts are in walking order.
    One program per (lane = batch x direction, 32 steps).
    """
    times_blocks = tl.cdiv(steps, TIMES)
    program = tl.program_id(0).to(tl.int64)
    lane = program // times_blocks
    direction = lane % directions
    times = (program % times_blocks).to(tl.int32) * TIMES + tl.arange(0, TIMES)
    stop = tl.load(lengths + direction)
    states = tl.arange(0, STATES_PAD)
    rows = visited(read + direction * steps, times, stop, HAS_READ)
    mask = (states < STATES)[:, None] & (rows >= 0)[None, :]
    total = tl.zeros([STATES_PAD, TIMES], dtype=parts.dtype.element_ty)
    for tile in range(0, tiles):
        offsets = ((first + tile) * lanes + lane) * STATES * steps + states[:, None] * steps + times[None, :]
        total += tl.load(parts + offsets, mask=mask, other=0.0)
    offsets = lane * rows_total * STATES + rows[None, :] * STATES + states[:, None]
    tl.store(result + offsets, total, mask=mask)
