"""The two operations as torch knows them: schema, fake implementation, autograd and FLOP formulas.

Nothing here depends on a device. A device's implementation is added with `scan.register_kernel(device)` and its
like: a function of the same arguments that returns what the fake one describes. The saved states may have any
shape that `saved_shapes[device]` gives.

FLOPs are counted as torch counts them, a multiply-add being two: per step and channel 9 for each state (the
published convention for a selective scan), 2 for each rank of low-rank delta, 2 for D and 1 for z; twice that
backward. The convolution counts 2 for each tap, 2 for its bias and SiLU; twice that backward. Steps are those within
`lengths`, so that the count of a call is the sum of the counts of its directions.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from scansearch_kernels import reference
from scansearch_kernels.calls import ConvCall, ScanCall, check_order
from scansearch_kernels.transforms import differentiable, refuse_tangents

# Of the states kept for the backward, by device; on `meta` nobody looks at them.
saved_shapes: dict[str, Callable[[ScanCall], tuple[int, ...]]] = {"meta": lambda call: (0,)}
SCAN_INPUTS = ("u", "delta", "delta_weight", "A", "B", "C", "D", "z", "delta_bias")
CONV_INPUTS = ("x", "weight", "bias")


@torch.library.custom_op("scansearch::selective_scan", mutates_args=(), device_types=())
def scan(
    u: Tensor,
    delta: Tensor,
    delta_weight: Tensor | None,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    read_order: Tensor | None,
    write_order: Tensor | None,
    lengths: Sequence[int],
    steps: int,
    image_length: int,
    keep: bool,
) -> tuple[Tensor, Tensor]:
    """y and, if `keep`, the states that the backward starts from (else an empty tensor)."""
    raise NotImplementedError("no kernel on this device")


@torch.library.custom_op("scansearch::selective_scan_backward", mutates_args=(), device_types=())
def scan_backward(
    dy: Tensor,
    saved: Tensor,
    u: Tensor,
    delta: Tensor,
    delta_weight: Tensor | None,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    read_order: Tensor | None,
    write_order: Tensor | None,
    lengths: Sequence[int],
    steps: int,
    image_length: int,
) -> list[Tensor]:
    """Gradients of SCAN_INPUTS, in that order; an empty tensor stands for an absent one."""
    raise NotImplementedError("no kernel on this device")


@torch.library.custom_op("scansearch::causal_conv", mutates_args=(), device_types=())
def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    read_order: Tensor | None,
    lengths: Sequence[int],
    steps: int,
) -> Tensor:
    """y [batch, directions, steps, dim]."""
    raise NotImplementedError("no kernel on this device")


@torch.library.custom_op("scansearch::causal_conv_backward", mutates_args=(), device_types=())
def conv_backward(
    dy: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    read_order: Tensor | None,
    lengths: Sequence[int],
    steps: int,
) -> list[Tensor]:
    """Gradients of CONV_INPUTS, in that order; an empty tensor stands for an absent bias."""
    raise NotImplementedError("no kernel on this device")


def selective_scan(call: ScanCall) -> Tensor:
    """The registered operation on a checked call; states are kept only if a gradient will be asked for."""
    # A trace is checked against one without gradients, which must look the same.
    recorded = torch.is_grad_enabled() or torch.jit.is_tracing()
    keep = recorded and any(tensor.requires_grad for tensor in call.tensors())
    result: Tensor = scan(*flat(call), keep)[0]
    return result


def causal_conv(call: ConvCall) -> Tensor:
    """The registered operation on a checked call."""
    result: Tensor = conv(call.x, call.weight, call.bias, call.read_order, call.lengths, call.steps)
    return result


def flat(call: ScanCall) -> tuple[Any, ...]:
    """A call as the leading arguments of `scan`."""
    return (
        call.u, call.delta, call.delta_weight, call.A, call.B, call.C, call.D, call.z, call.delta_bias,
        call.delta_softplus, call.read_order, call.write_order, call.lengths, call.steps, call.image_length,
    )  # fmt: skip


def scan_call(*arguments: Any) -> ScanCall:
    """The inverse of `flat`."""
    names = [entry.name for entry in dataclasses.fields(ScanCall)]
    values = dict(zip(names, arguments, strict=True))
    return ScanCall(**{**values, "lengths": tuple(int(length) for length in values["lengths"])})


def checked_scan(*arguments: Any) -> ScanCall:
    """The call of these leading arguments of `scan`, its orders checked: a compiled graph comes here directly, and a
    wrong index would read foreign memory.
    """
    call = scan_call(*arguments)
    refuse_tangents("the selective scan", call.tensors())
    for name, order, limit in (
        ("read_order", call.read_order, call.u.shape[2]),
        ("write_order", call.write_order, call.image_length),
    ):
        if order is not None:
            check_order(name, order, call.u.device, limit)
    return call


def checked_conv(*arguments: Any) -> ConvCall:
    """The same for the arguments of `conv`."""
    x, weight, bias, read_order, lengths, steps = arguments
    refuse_tangents("the causal convolution", (x, weight, bias))
    if read_order is not None:
        check_order("read_order", read_order, x.device, x.shape[1])
    return ConvCall(x, weight, bias, read_order, tuple(int(length) for length in lengths), steps)


def present(gradients: dict[str, Tensor | None], names: Sequence[str], like: Tensor) -> list[Tensor]:
    """Gradients in the order of `names` for a schema that knows no absent tensors."""
    ordered = (gradients[name] for name in names)
    return [like.new_empty(0) if gradient is None else gradient for gradient in ordered]


@scan.register_fake
def _scan_fake(*arguments: Any) -> tuple[Tensor, Tensor]:
    call, keep = scan_call(*arguments[:15]), arguments[15]
    refuse_tangents("the selective scan", call.tensors())
    u = call.u
    y = u.new_empty(u.shape[0], call.A.shape[0], call.image_length, u.shape[3])
    shape = saved_shapes[u.device.type](call) if keep else (0,)
    return y, u.new_empty(shape, dtype=call.compute_dtype)


@scan_backward.register_fake
def _scan_backward_fake(dy: Tensor, saved: Tensor, *arguments: Any) -> list[Tensor]:
    call = scan_call(*arguments)
    return _like(dy, [getattr(call, name) for name in SCAN_INPUTS])


@conv.register_fake
def _conv_fake(x: Tensor, weight: Tensor, bias: Any, read_order: Any, lengths: Any, steps: int) -> Tensor:
    refuse_tangents("the causal convolution", (x, weight, bias))
    return x.new_empty(x.shape[0], weight.shape[0], steps, x.shape[2])


@conv_backward.register_fake
def _conv_backward_fake(
    dy: Tensor, x: Tensor, weight: Tensor, bias: Any, read_order: Any, lengths: Any, steps: int
) -> list[Tensor]:
    return _like(dy, [x, weight, bias])


def _like(dy: Tensor, inputs: list[Tensor | None]) -> list[Tensor]:
    return [dy.new_empty(0) if tensor is None else tensor.new_empty(tensor.shape) for tensor in inputs]


def _scan_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(output[1], *inputs[:9], *inputs[10:12])
    ctx.settings = (inputs[9], *inputs[12:15])
    ctx.set_materialize_grads(False)


def _scan_autograd(ctx: Any, dy: Tensor | None, _: Any) -> tuple[Any, ...]:
    if dy is None:
        return (None,) * 16
    saved, *tensors = ctx.saved_tensors
    softplus, lengths, steps, image_length = ctx.settings
    arguments = (*tensors[:9], softplus, *tensors[9:], lengths, steps, image_length)
    if torch.is_grad_enabled():
        return (
            *differentiable(reference.selective_scan, scan_call(*arguments), tensors[:9], dy),
            *(None,) * 7,
        )
    gradients = scan_backward(dy, saved, *arguments)
    inputs = [None if tensor is None else grad for tensor, grad in zip(tensors[:9], gradients, strict=True)]
    return (*inputs, *(None,) * 7)


def _conv_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.settings = inputs[4:]


def _conv_autograd(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
    tensors = ctx.saved_tensors  # gradient checkpointing lets them be read once only
    if torch.is_grad_enabled():
        lengths, steps = ctx.settings
        x, weight, bias, read_order = tensors
        call = ConvCall(x, weight, bias, read_order, tuple(lengths), steps)
        return (*differentiable(reference.causal_conv, call, tensors[:3], dy), None, None, None)
    dx, dweight, dbias = conv_backward(dy, *tensors, *ctx.settings)
    return dx, dweight, None if tensors[2] is None else dbias, None, None, None


scan.register_autograd(_scan_autograd, setup_context=_scan_setup)
conv.register_autograd(_conv_autograd, setup_context=_conv_setup)


def scan_flops(
    u: Sequence[int], A: Sequence[int], lengths: Sequence[int], rank: int, skip: bool, gate: bool
) -> int:
    """FLOPs of a scan's forward from the shapes of u and A; see the convention above."""
    per_channel = 9 * A[2] + 2 * rank + 2 * skip + gate
    return u[0] * sum(lengths) * A[1] * per_channel


def _count_scan(
    u: Any, delta: Any, weight: Any, A: Any, B: Any, C: Any, D: Any, z: Any, bias: Any, softplus: Any,
    read: Any, write: Any, lengths: Any, *_: Any,
) -> int:  # fmt: skip
    return scan_flops(u, A, lengths, 0 if weight is None else delta[3], D is not None, z is not None)


def _count_conv(x: Any, weight: Any, bias: Any, read: Any, lengths: Any, *_: Any) -> int:
    return int(x[0] * sum(lengths) * x[2] * (2 * weight[2] + 2))


@register_flop_formula(torch.ops.scansearch.selective_scan)
def _scan_flops(*arguments: Any, **_: Any) -> int:
    return _count_scan(*arguments)


@register_flop_formula(torch.ops.scansearch.selective_scan_backward)
def _scan_backward_flops(dy: Any, saved: Any, *arguments: Any, **_: Any) -> int:
    return 2 * _count_scan(*arguments)


@register_flop_formula(torch.ops.scansearch.causal_conv)
def _conv_flops(*arguments: Any, **_: Any) -> int:
    return _count_conv(*arguments)


@register_flop_formula(torch.ops.scansearch.causal_conv_backward)
def _conv_backward_flops(dy: Any, *arguments: Any, **_: Any) -> int:
    return 2 * _count_conv(*arguments)
