"""Pieces of device code that the GPU kernels share."""

# Device code is Triton's dialect of Python: tuples grow by `+`.
# ruff: noqa: RUF005
# mypy: disable-error-code="no-untyped-def, assignment, misc"

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)


@triton.jit
def exponential(x):
    """exp(x) by the hardware's exp2."""
    return tl.exp2(x * LOG2E)


@triton.jit
def sigmoid(x):
    """1 / (1 + exp(-x)); an overflowing exponential gives the right limit, 0."""
    return 1.0 / (1.0 + exponential(-x))


@triton.jit
def softplus(x):
    """log(1 + exp(x)) to full precision for every x: no threshold."""
    small = exponential(-tl.abs(x))
    if x.dtype == tl.float64:
        # log(w) * small / (w - 1) cancels the rounding of w = 1 + small
        shifted = 1.0 + small
        step = tl.where(shifted == 1.0, 1.0, shifted - 1.0)
        tail = tl.where(shifted == 1.0, small, tl.log(shifted) * small / step)
    else:
        # log1p(e) = 2 atanh(e / (2 + e)), whose series in s <= 1/3 ends below 2e-8
        s = small / (2.0 + small)
        square = s * s
        series = square * (1.0 / 13.0) + 1.0 / 11.0
        series = series * square + 1.0 / 9.0
        series = series * square + 1.0 / 7.0
        series = series * square + 1.0 / 5.0
        series = series * square + 1.0 / 3.0
        tail = 2.0 * (s + s * square * series)
    return tl.maximum(x, 0.0) + tail


@triton.jit
def rows_of(tile):
    """The rows of a [power of 2, width] tile, at most 32, as a tuple; registers are only renamed."""
    height: tl.constexpr = tile.shape[0]
    width: tl.constexpr = tile.shape[1]
    parts = (tile,)
    for level in tl.static_range(5):
        if height >> level > 1:
            halves = ()
            for i in tl.static_range(1 << level):
                pair = tl.reshape(parts[i], [2, height >> level + 1, width])
                halves = halves + tl.split(tl.permute(pair, [1, 2, 0]))
            parts = halves
    rows = ()
    for i in tl.static_range(height):
        rows = rows + (tl.reshape(parts[i], [width]),)
    return rows


@triton.jit
def stacked(rows, height: tl.constexpr, width: tl.constexpr):
    """The inverse of `rows_of`."""
    parts = ()
    for i in tl.static_range(height):
        parts = parts + (tl.reshape(rows[i], [1, width]),)
    for level in tl.static_range(5):
        if height >> level > 1:
            pairs = ()
            for i in tl.static_range(height >> level + 1):
                pair = tl.permute(tl.join(parts[2 * i], parts[2 * i + 1]), [2, 0, 1])
                pairs = pairs + (tl.reshape(pair, [2 << level, width]),)
            parts = pairs
    return parts[0]


@triton.jit
def halved(tile):
    """The upper and the lower half of a tile's rows."""
    height: tl.constexpr = tile.shape[0]
    width: tl.constexpr = tile.shape[1]
    return tl.split(tl.permute(tl.reshape(tile, [2, height // 2, width]), [1, 2, 0]))


@triton.jit
def folded(first, second, BIT: tl.constexpr):
    """Adds lanes that differ in `BIT`, of `first` where it is 0 and of `second` where it is 1: [rows, 32]."""
    lanes = tl.arange(0, 32)
    zero = ((lanes & BIT) == 0)[None, :]
    kept = tl.where(zero, first, second)
    given = tl.where(zero, second, first)
    partner = tl.broadcast_to((lanes ^ BIT)[None, :], given.shape)
    return kept + tl.gather(given, partner, axis=1)


@triton.jit
def channel_sums(first, second):
    """Sums over channels of two [8, channels] tiles: of row i in lanes 2i and 2i + 1, and in 16 + 2i and so on.

    Each step of the butterfly halves the values that a lane still holds: 16 shuffles where two separate sums
    take 80. Channels are a multiple of 32, one column of 32 being one warp.
    """
    width: tl.constexpr = first.shape[1]
    first = tl.sum(tl.reshape(first, [8, width // 32, 32]), axis=1)
    second = tl.sum(tl.reshape(second, [8, width // 32, 32]), axis=1)
    eight = folded(first, second, 16)
    upper, lower = halved(eight)
    four = folded(upper, lower, 8)
    upper, lower = halved(four)
    two = folded(upper, lower, 4)
    upper, lower = halved(two)
    one = folded(upper, lower, 2)
    partner = tl.broadcast_to((tl.arange(0, 32) ^ 1)[None, :], one.shape)
    return tl.reshape(one + tl.gather(one, partner, axis=1), [32])


@triton.jit
def visited(order, steps, stop, HAS_ORDER: tl.constexpr):
    """The rows visited at the given steps, -1 from `stop` on."""
    if HAS_ORDER:
        return tl.load(order + steps, mask=steps < stop, other=-1)
    else:
        return tl.where(steps < stop, steps, -1)


@triton.jit
def reached(rows, live, EVEN: tl.constexpr):
    """Mask of [rows, columns]: row -1 is not there, nor is a column that is not `live` (EVEN: all are)."""
    if EVEN:
        return (rows >= 0)[:, None]
    else:
        return (rows >= 0)[:, None] & live[None, :]


@triton.jit
def gathered(pointer, rows, row_stride, columns, live, EVEN: tl.constexpr, COMPUTE: tl.constexpr):
    """[len(rows), len(columns)] of a matrix; zeros where nothing is reached."""
    place = rows[:, None] * row_stride + columns[None, :]
    return tl.load(pointer + place, mask=reached(rows, live, EVEN), other=0.0).to(COMPUTE)


@triton.jit
def project(
    delta, delta_row, weight, remainder, rank, read, scratch, start, stop,
    HAS_READ: tl.constexpr, TILE: tl.constexpr, SPLIT: tl.constexpr, COMPUTE: tl.constexpr,
):  # fmt: skip
    """Low-rank delta of 16 steps times its weight, on the tensor cores, into `scratch` [16, TILE].

    The weight comes in squares of 16 ranks x 16 channels, padded with zeros, from this tile's first on: registers
    are scarce where this is called. A 16-bit delta is exact in tf32, so (SPLIT) the weight is a part that is too,
    and `remainder` is what that leaves.
    """
    sixteen = tl.arange(0, 16)
    square = sixteen[:, None] * 16 + sixteen[None, :]
    rows = visited(read, start + sixteen, stop, HAS_READ)
    parts = tl.cdiv(rank, 16)
    tl.debug_barrier()  # the rows of the steps before have been read
    for piece in range(0, TILE // 16):
        full = tl.zeros([16, 16], dtype=COMPUTE)
        for part in range(0, parts):
            ranks = part * 16 + sixteen
            low = gathered(delta, rows, delta_row, ranks, ranks < rank, False, COMPUTE)
            place = (piece * parts + part) * 256 + square
            spread = tl.load(weight + place).to(COMPUTE)
            if tl.float64 == COMPUTE:
                full = tl.dot(low, spread, full, input_precision="ieee", out_dtype=COMPUTE)
            elif SPLIT:
                full = tl.dot(low, tl.load(remainder + place), full, input_precision="tf32")
                full = tl.dot(low, spread, full, input_precision="tf32")
            else:
                full = tl.dot(low, spread, full, input_precision="tf32x3")
        tl.store(scratch + sixteen[:, None] * TILE + piece * 16 + sixteen[None, :], full)
    tl.debug_barrier()
