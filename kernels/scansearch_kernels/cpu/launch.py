"""The CPU kernels on tensors: forward and backward of both operations, without autograd."""

import math

import torch
from torch import Tensor

from scansearch_kernels.calls import ConvCall, ScanCall
from scansearch_kernels.cpu import layout as field
from scansearch_kernels.cpu import threads
from scansearch_kernels.cpu.backward_scratch import scratch_numbers
from scansearch_kernels.cpu.compiled import kernel
from scansearch_kernels.cpu.layout import CHUNK, LANES, STRIDE, TILE, Call, padded, padded_dim
from scansearch_kernels.cpu.memory import empty

ITEMS = 32  # pieces that work is cut into where the shapes allow, whatever the number of threads


@threads.fork_safe
def scan_forward(call: ScanCall, keep: bool) -> tuple[Tensor, Tensor]:
    """y in the dtype of u, and the state before every chunk of steps (empty unless `keep`)."""
    dtype = call.compute_dtype
    batch, dim, directions, states = call.u.shape[0], call.u.shape[3], call.A.shape[0], call.A.shape[2]
    y = empty(batch, directions, call.image_length, dim, dtype=dtype)
    saved = empty(*(states_shape(call) if keep else (0,)), dtype=dtype)
    if not y.numel():
        return y.to(call.u.dtype), saved
    native, tiles = _scan_call(call, dtype)
    native.whole(field.Y, y)
    native.whole(field.SAVED, saved)
    split = 1 if batch * tiles >= ITEMS else directions
    native.sizes(items=batch * tiles * split, split=split, keep=int(keep))
    vectors = 1 + 3 * STRIDE + (2 * states + call.image_length) * TILE
    numbers = (vectors + 1) * LANES[dtype] + 2 * states + 4 * CHUNK
    _run(
        _kernel("scan_forward", call, dtype),
        native,
        max(call.image_length, 1),
        numbers,
        batch * tiles * split,
        _work(call),
    )
    return y.to(call.u.dtype), saved


@threads.fork_safe
def scan_backward(call: ScanCall, saved: Tensor, dy: Tensor) -> dict[str, Tensor | None]:
    """Gradients of all tensors of a call by their names, each in its tensor's dtype; None for absent tensors."""
    dtype = call.compute_dtype
    batch, shared, rows, dim = call.u.shape
    directions, _, states = call.A.shape
    rank = call.delta.shape[3] if call.delta_weight is not None else 0
    wide = padded_dim(dim, dtype)
    native, tiles = _scan_call(call, dtype)
    # cut so that small batches still make enough pieces; by shapes only, which keeps results reproducible
    groups = min(tiles, max(1, -(-ITEMS // (2 * max(batch, 1)))))
    slots = min(max(batch, 1), ITEMS // groups)
    du = empty(batch, shared, rows, dim, dtype=dtype)
    ddelta = empty(*((groups,) if rank else ()), *call.delta.shape, dtype=dtype)
    dB = empty(groups, *call.B.shape, dtype=dtype)
    dC = empty(groups, *call.C.shape, dtype=dtype)
    dz = empty(*call.z.shape, dtype=dtype) if call.z is not None else None
    dA = torch.zeros(slots, directions, states, wide, dtype=dtype)
    dD = torch.zeros(slots, directions, wide, dtype=dtype)
    dbias = torch.zeros(slots, directions, wide, dtype=dtype)
    dweight = torch.zeros(slots, directions, rank, wide, dtype=dtype)
    for which, tensor in (
        (field.DU, du), (field.DDELTA, ddelta), (field.DB, dB), (field.DC, dC), (field.DZ, dz),
        (field.DA, dA), (field.DSKIP, dD), (field.DBIAS, dbias), (field.DWEIGHT, dweight), (field.SAVED, saved),
    ):  # fmt: skip
        native.whole(which, tensor)
    native.rows(field.DY, dy)
    native.sizes(items=slots * groups, slots=slots, groups=groups)
    gates = 2 * call.image_length * TILE * LANES[dtype] if call.z is not None else 0
    numbers = gates + scratch_numbers(states, rank, LANES[dtype])
    if batch:
        _run(
            _kernel("scan_backward", call, dtype),
            native,
            max(rows, 1),
            numbers,
            slots * groups,
            3 * _work(call),
        )

    def parameter(partial: Tensor, like: Tensor | None) -> Tensor | None:
        return None if like is None else partial.sum(0)[..., :dim].to(like.dtype).contiguous()

    weight = call.delta_weight
    dA_, dweight_ = parameter(dA, call.A), parameter(dweight, weight)
    assert dA_ is not None
    return {
        "u": du.to(call.u.dtype),
        "delta": (_sum_groups(ddelta) if rank else ddelta).to(call.delta.dtype),
        "delta_weight": None if dweight_ is None else dweight_.transpose(1, 2).contiguous(),
        "A": dA_.transpose(1, 2).contiguous(),
        "B": _sum_groups(dB).to(call.B.dtype),
        "C": _sum_groups(dC).to(call.C.dtype),
        "D": parameter(dD, call.D),
        "z": None if dz is None or call.z is None else dz.to(call.z.dtype),
        "delta_bias": parameter(dbias, call.delta_bias),
    }


@threads.fork_safe
def conv_forward(call: ConvCall) -> Tensor:
    """y in the dtype of x."""
    native, tiles = _conv_call(call, dtype := call.compute_dtype)
    batch, _, dim = call.x.shape
    directions, _, width = call.weight.shape
    y = empty(batch, directions, call.steps, dim, dtype=dtype)
    if not y.numel():
        return y.to(call.x.dtype)
    native.whole(field.Y, y)
    items = batch * directions * tiles
    native.sizes(items=items)
    numbers = (1 + call.steps + width) * LANES[dtype]
    _run("conv_forward", native, 0, numbers, items, y.numel() * width)
    return y.to(call.x.dtype)


@threads.fork_safe
def conv_backward(call: ConvCall, dy: Tensor) -> dict[str, Tensor | None]:
    """Gradients of x, weight and bias by their names, each in its tensor's dtype."""
    native, tiles = _conv_call(call, dtype := call.compute_dtype)
    batch, _, dim = call.x.shape
    directions, _, width = call.weight.shape
    slots = min(max(batch, 1), ITEMS)
    dx = empty(*call.x.shape, dtype=dtype)
    dweight = torch.zeros(slots, directions, width, padded_dim(dim, dtype), dtype=dtype)
    dbias = torch.zeros(slots, directions, padded_dim(dim, dtype), dtype=dtype)
    for which, tensor in ((field.DU, dx), (field.DWEIGHT, dweight), (field.DBIAS, dbias)):
        native.whole(which, tensor)
    native.rows(field.DY, dy)
    native.sizes(items=slots * tiles, slots=slots)
    numbers = (1 + 2 * (call.steps + width)) * LANES[dtype]
    if dx.numel():
        _run("conv_backward", native, 0, numbers, slots * tiles, 3 * dy.numel() * width)
    bias = None if call.bias is None else dbias.sum(0)[..., :dim].to(call.bias.dtype).contiguous()
    return {
        "x": dx.to(call.x.dtype),
        "weight": dweight.sum(0)[..., :dim].transpose(1, 2).contiguous().to(call.weight.dtype),
        "bias": bias,
    }


def states_shape(call: ScanCall) -> tuple[int, ...]:
    """Shape of the saved states: one per direction and chunk, channels filled up to whole vectors."""
    directions, dim, states = call.A.shape
    wide = padded_dim(dim, call.compute_dtype)
    return call.u.shape[0], directions, -(-call.steps // CHUNK), states, wide


def _scan_call(call: ScanCall, dtype: torch.dtype) -> tuple[Call, int]:
    """Everything that forward and backward share, and the number of channel tiles."""
    directions, dim, states = call.A.shape
    wide = padded_dim(dim, dtype)
    rank = call.delta.shape[3] if call.delta_weight is not None else 0
    native = Call(dtype)
    native.sizes(
        batch=call.u.shape[0], directions=directions, dim=dim, padded=wide, tiles=_tiles(wide, dtype),
        states=states, steps=call.steps, rows=call.u.shape[2], length=call.image_length, rank=rank,
        shared=int(call.u.shape[1] == 1), softplus=int(call.delta_softplus),
    )  # fmt: skip
    native.lengths(list(call.lengths))
    native.order(field.READ, call.read_order)
    native.order(field.WRITE, call.write_order)
    for which, tensor in ((field.U, call.u), (field.DELTA, call.delta), (field.B, call.B), (field.C, call.C)):
        native.rows(which, tensor)
    native.rows(field.Z, None if call.z is None else call.z[:, None])
    weight = None if call.delta_weight is None else call.delta_weight.transpose(1, 2)
    scale = 1.0 if dtype == torch.float64 else math.log2(math.e)
    native.whole(field.A, padded(call.A.transpose(1, 2), dtype, scale))
    native.whole(field.WEIGHT, padded(weight, dtype))
    native.whole(field.SKIP, padded(call.D, dtype))
    native.whole(field.BIAS, padded(call.delta_bias, dtype))
    return native, _tiles(wide, dtype)


def _conv_call(call: ConvCall, dtype: torch.dtype) -> tuple[Call, int]:
    batch, rows, dim = call.x.shape
    directions, _, width = call.weight.shape
    wide = padded_dim(dim, dtype)
    native = Call(dtype)
    native.sizes(
        batch=batch, directions=directions, dim=dim, padded=wide, tiles=wide // LANES[dtype],
        steps=call.steps, rows=rows, width=width,
    )  # fmt: skip
    native.lengths(list(call.lengths))
    native.order(field.READ, call.read_order)
    native.rows(field.U, call.x[:, None])
    native.whole(field.WEIGHT, padded(call.weight.transpose(1, 2), dtype))
    native.whole(field.BIAS, padded(call.bias, dtype))
    return native, wide // LANES[dtype]


def _tiles(wide: int, dtype: torch.dtype) -> int:
    return -(-wide // (LANES[dtype] * TILE))


def _run(name: str, native: Call, marks: int, numbers: int, items: int, work: int) -> None:
    team = threads.threads_for(items, work)
    native.scratch(team, marks, numbers)
    threads.run(kernel(name, native.dtype), native.fields.ctypes.data, team)


def _kernel(name: str, call: ScanCall, dtype: torch.dtype) -> str:
    """The kernel for a call: in float32 there is one of its own for exponents delta A that may be positive."""
    falls = call.delta_softplus and not bool((call.A > 0).any())
    return name if falls or dtype == torch.float64 else f"{name}_growing"


def _work(call: ScanCall) -> int:
    """State updates of the call."""
    return call.u.shape[0] * sum(call.lengths) * call.A.shape[1] * call.A.shape[2]


def _sum_groups(partial: Tensor) -> Tensor:
    return partial[0] if partial.shape[0] == 1 else partial.sum(0)
