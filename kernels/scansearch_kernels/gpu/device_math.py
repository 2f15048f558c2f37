"""Pieces of device code that the GPU kernels share."""

# Device code is Triton's dialect of Python: tuples grow by `+`.
# ruff: noqa: RUF005
# mypy: disable-error-code="no-untyped-def, assignment, misc"

import triton
import triton.language as tl

from scansearch_kernels.gpu.launch import interpreted

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)
INTERPRETED = tl.constexpr(interpreted())  # where there is no inline assembly
STEPS = tl.constexpr(16)  # steps per projection of low-rank delta: the smallest matrix product


@triton.jit
def exponential(x):
    """exp(x) by the hardware's exp2."""
    return tl.exp2(x * LOG2E)


@triton.jit
def reciprocal(x):
    """1 / x; in float32 the hardware's, which is off by one unit in the last place and wants x to be normal."""
    if INTERPRETED or x.dtype == tl.float64:
        return 1.0 / x
    else:
        return tl.inline_asm_elementwise(
            "rcp.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )


@triton.jit
def sigmoid(x):
    """1 / (1 + exp(-x)); an overflowing exponential gives the right limit, 0."""
    return reciprocal(1.0 + exponential(-x))


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
        # e (1 + e l(e)), the minimax polynomial of log(1 + e) on [0, 1] that is exact near 0: off by 3.3e-8
        series = small * 0.0053646897 - 0.030065285
        series = series * small + 0.079203777
        series = series * small - 0.13753745
        series = series * small + 0.19153632
        series = series * small - 0.24857159
        series = series * small + 0.33321321
        series = series * small - 0.49999648
        tail = series * small * small + small
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
def eight_values(vector):
    """The entries of an [8] vector as [1] each; split from the lowest bit up, so that its load can be wide."""
    parts = (vector,)
    for level in tl.static_range(3):
        halves = ()
        for i in tl.static_range(1 << level):
            halves = halves + tl.split(tl.reshape(parts[i], [4 >> level, 2]))
        parts = halves
    values = ()
    for i in tl.static_range(8):
        values = values + (parts[(i & 1) * 4 + (i & 2) + (i >> 2)],)
    return values


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
def fetched(pointer, rows, row_stride, columns, live, EVEN: tl.constexpr):
    """[len(rows), len(columns)] of a matrix as it is stored; zeros where nothing is reached."""
    offsets = rows[:, None] * row_stride + columns[None, :]
    return tl.load(pointer + offsets, mask=reached(rows, live, EVEN), other=0.0)


@triton.jit
def gathered(pointer, rows, row_stride, columns, live, EVEN: tl.constexpr, COMPUTE: tl.constexpr):
    """The same in the type of computation."""
    return fetched(pointer, rows, row_stride, columns, live, EVEN).to(COMPUTE)


@triton.jit
def project(
    delta, delta_row, weight, rank, rows, scratch,
    TILE: tl.constexpr, SPLIT: tl.constexpr, COMPUTE: tl.constexpr,
):  # fmt: skip
    """Low-rank delta of the 16 `rows` times its weight, on the tensor cores, into `scratch` [16, TILE].

    The weight is [rank / 16, parts, 16, TILE], padded with zeros, from this tile's first rank on. SPLIT is the number
    of parts: a bfloat16 delta times three parts of bfloat16 that sum to the weight, a float16 one (exact in tf32) times
    a part that is exact in tf32 and what that leaves; else one part, the weight itself.
    """
    sixteen = tl.arange(0, 16)
    columns = tl.arange(0, TILE)
    square = sixteen[:, None] * TILE + columns[None, :]
    full = tl.zeros([16, TILE], dtype=COMPUTE)
    for part in range(0, tl.cdiv(rank, 16)):
        ranks = part * 16 + sixteen
        low = fetched(delta, rows, delta_row, ranks, ranks < rank, False)
        for piece in tl.static_range(SPLIT - 1, -1, -1):
            # as one row: loads of equal shape share a layout, and that of [16, TILE] is for one channel a lane
            spread = tl.load(weight + (part * SPLIT + piece) * 16 * TILE + tl.arange(0, 16 * TILE))
            spread = tl.reshape(spread, [16, TILE])
            if SPLIT == 3 and not INTERPRETED:  # whose products of bfloat16 are wrong
                full = tl.dot(low, spread, full)
            elif SPLIT > 1:
                full = tl.dot(low.to(COMPUTE), spread.to(COMPUTE), full, input_precision="tf32")
            elif tl.float64 == COMPUTE:
                full = tl.dot(
                    low.to(COMPUTE), spread.to(COMPUTE), full, input_precision="ieee", out_dtype=COMPUTE
                )
            else:
                full = tl.dot(low.to(COMPUTE), spread.to(COMPUTE), full, input_precision="tf32x3")
    tl.store(scratch + square, full)


@triton.jit
def staged(
    matrix, row_stride, rows, stage, STATES: tl.constexpr, STATES_PAD: tl.constexpr, COMPUTE: tl.constexpr
):
    """Copies 16 `rows` of B or C into `stage` [16, STATES_PAD], from where a warp reads them in wide loads."""
    states = tl.arange(0, STATES_PAD)
    tile = gathered(matrix, rows, row_stride, states, states < STATES, STATES == STATES_PAD, COMPUTE)
    tl.store(stage + tl.arange(0, 16)[:, None] * STATES_PAD + states[None, :], tile)
