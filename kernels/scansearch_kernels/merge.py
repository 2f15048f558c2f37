"""How branches [batch, directions, length, dim] become one: fused where a device has kernels, else plain torch.

The plain forms are the definition. The fused ones step aside for them where gradients of gradients, forward-mode
derivatives or transformations of torch.func are asked for, and for a compiler, which fuses the plain forms itself.
"""

import importlib
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from scansearch_kernels import backends
from scansearch_kernels.calls import EPSILON
from scansearch_kernels.transforms import differentiable, refuse_tangents, transformed

# By backend: a module with means_forward, means_backward, sum_forward and sum_backward, and `serves`, which says
# whether it has kernels for these tensors.
FUSED = {"cpu": "scansearch_kernels.cpu.merge_launch", "cuda": "scansearch_kernels.gpu.merge"}


def branch_means(y: Tensor) -> Tensor:
    """Mean over tokens of the LayerNorm (without parameters) of every token: [batch, directions, dim]."""
    if fused(y) is None:
        return branch_means_plain(y)
    means: Tensor = fused_means(y)
    return means


def branch_sum(y: Tensor, channel: Tensor | None = None, gates: Tensor | None = None) -> Tensor:
    """Sum over directions of ``y`` times ``channel``; with ``gates`` each is normalised first, then gated.

    Args:
        y: [batch, directions, length, dim].
        channel: [batch, directions, dim] or None for ones.
        gates: [directions], for gate * LayerNorm(y * channel) without parameters; None for a plain sum.

    Returns:
        [batch, length, dim] in y's dtype.
    """
    if fused(y, channel, gates) is None:
        return branch_sum_plain(y, channel, gates)
    total: Tensor = fused_sum(y, channel, gates)
    return total


def branch_means_plain(y: Tensor) -> Tensor:
    """`branch_means` in plain torch."""
    return F.layer_norm(y, y.shape[-1:], eps=EPSILON).mean(dim=2)


def branch_sum_plain(y: Tensor, channel: Tensor | None, gates: Tensor | None) -> Tensor:
    """`branch_sum` in plain torch."""
    dtype = y.dtype
    if channel is not None:
        y = y * channel.unsqueeze(2)
    if gates is None:
        return y.sum(dim=1).to(dtype)
    y = F.layer_norm(y, y.shape[-1:], eps=EPSILON)
    # As a batched product; torch.matmul of a vector would copy the branches.
    rows = torch.bmm(gates.to(y.dtype).expand(len(y), 1, -1), y.flatten(2))
    return rows.unflatten(-1, y.shape[2:]).squeeze(1).to(dtype)


def fused(y: Tensor, channel: Tensor | None = None, gates: Tensor | None = None) -> Any:
    """The module whose kernels serve these tensors, or None: the plain form."""
    if (
        type(y) is not Tensor
        or y.device.type not in ("cpu", "cuda")
        or y.dim() != 4
        or y.numel() == 0
        or torch.compiler.is_compiling()
        or transformed((y, channel, gates))
    ):
        return None
    return _kernels(y, channel, gates)


def _kernels(y: Tensor, channel: Tensor | None, gates: Tensor | None) -> Any:
    name = FUSED.get(backends.pick(None, y.device.type))
    if name is None or any(part is not None and part.device != y.device for part in (channel, gates)):
        return None
    kernels = importlib.import_module(name)
    return kernels if kernels.serves(y, channel, gates) else None


@torch.library.custom_op("scansearch::branch_means", mutates_args=())
def fused_means(y: Tensor) -> Tensor:
    """`branch_means` by the kernels that serve ``y``, else in plain torch."""
    kernels = _kernels(y, None, None)
    out: Tensor = branch_means_plain(y) if kernels is None else kernels.means_forward(y)
    return out


@torch.library.custom_op("scansearch::branch_means_backward", mutates_args=())
def fused_means_backward(y: Tensor, dout: Tensor) -> Tensor:
    """Gradient of `branch_means` towards ``y``."""
    kernels = _kernels(y, None, None)
    if kernels is None:
        share = (dout / y.shape[2]).unsqueeze(2).expand_as(y)
        return _normed_backward(y, share).to(y.dtype)
    dy: Tensor = kernels.means_backward(y, dout)
    return dy


@torch.library.custom_op("scansearch::branch_sum", mutates_args=())
def fused_sum(y: Tensor, channel: Tensor | None, gates: Tensor | None) -> Tensor:
    """`branch_sum` by the kernels that serve these tensors, else in plain torch."""
    kernels = _kernels(y, channel, gates)
    out: Tensor = (
        branch_sum_plain(y, channel, gates) if kernels is None else kernels.sum_forward(y, channel, gates)
    )
    return out


@torch.library.custom_op("scansearch::branch_sum_backward", mutates_args=())
def fused_sum_backward(y: Tensor, channel: Tensor | None, gates: Tensor | None, dout: Tensor) -> list[Tensor]:
    """Gradients of `branch_sum` towards y, channel and gates; an empty tensor stands for an absent one."""
    kernels = _kernels(y, channel, gates)
    if kernels is None:
        gradients = _plain_backward(y, channel, gates, dout)
    else:
        gradients = kernels.sum_backward(y, channel, gates, dout)
    return [y.new_empty(0) if gradient is None else gradient for gradient in gradients]


def _plain_backward(
    y: Tensor, channel: Tensor | None, gates: Tensor | None, dout: Tensor
) -> tuple[Tensor | None, ...]:
    """`branch_sum`'s gradients written out: inside an operation autograd does not record."""
    scaled = y if channel is None else y * channel.unsqueeze(2)
    dgates, dscaled = None, dout.unsqueeze(1).expand_as(scaled)
    if gates is not None:
        normed = F.layer_norm(scaled, y.shape[-1:], eps=EPSILON)
        dgates = (dscaled * normed).sum(dim=(0, 2, 3)).to(gates.dtype)
        dscaled = _normed_backward(scaled, dscaled * gates[:, None, None])
    dchannel = None if channel is None else (dscaled * y).sum(dim=2).to(channel.dtype)
    dy = dscaled if channel is None else dscaled * channel.unsqueeze(2)
    return dy.to(y.dtype, copy=True), dchannel, dgates


def _normed_backward(x: Tensor, dnormed: Tensor) -> Tensor:
    """Gradient of the LayerNorm without parameters."""
    variance, mean = torch.var_mean(x, dim=-1, correction=0, keepdim=True)
    scale = torch.rsqrt(variance + EPSILON)
    normed = (x - mean) * scale
    share = dnormed.mean(dim=-1, keepdim=True) + normed * (dnormed * normed).mean(dim=-1, keepdim=True)
    return (dnormed - share) * scale


@fused_means.register_fake
def _means_fake(y: Tensor) -> Tensor:
    refuse_tangents("the fused merge", (y,))
    return y.new_empty(y.shape[0], y.shape[1], y.shape[3])


@fused_means_backward.register_fake
def _means_backward_fake(y: Tensor, dout: Tensor) -> Tensor:
    return torch.empty_like(y)


@fused_sum.register_fake
def _sum_fake(y: Tensor, channel: Tensor | None, gates: Tensor | None) -> Tensor:
    refuse_tangents("the fused merge", (y, channel, gates))
    return y.new_empty(y.shape[0], y.shape[2], y.shape[3])


@fused_sum_backward.register_fake
def _sum_backward_fake(y: Tensor, channel: Tensor | None, gates: Tensor | None, dout: Tensor) -> list[Tensor]:
    return [y.new_empty(0) if tensor is None else torch.empty_like(tensor) for tensor in (y, channel, gates)]


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _means_autograd(ctx: Any, dout: Tensor) -> Tensor | None:
    (y,) = ctx.saved_tensors
    if torch.is_grad_enabled():
        return differentiable(branch_means_plain, y, [y], dout)[0]
    dy: Tensor = fused_means_backward(y, dout)
    return dy


def _sum_autograd(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
    tensors = ctx.saved_tensors
    if torch.is_grad_enabled():
        return tuple(differentiable(lambda inputs: branch_sum_plain(*inputs), tensors, tensors, dout))
    y, channel, gates = tensors
    if channel is None and gates is None:  # of a plain sum it is a view, which no operation may return
        return dout.unsqueeze(1).expand_as(y), None, None
    gradients = fused_sum_backward(*tensors, dout)
    return tuple(
        None if tensor is None else gradient for tensor, gradient in zip(tensors, gradients, strict=True)
    )


fused_means.register_autograd(_means_autograd, setup_context=_save)
fused_sum.register_autograd(_sum_autograd, setup_context=_save)


# Normalising, gating and adding are left out of the count, as torch leaves out norms, sums and products.
@register_flop_formula(
    [
        torch.ops.scansearch.branch_means,
        torch.ops.scansearch.branch_means_backward,
        torch.ops.scansearch.branch_sum,
        torch.ops.scansearch.branch_sum_backward,
    ]
)
def _flops(*_: Any, **__: Any) -> int:
    return 0
