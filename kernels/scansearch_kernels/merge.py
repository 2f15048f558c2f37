"""How branches [batch, directions, length, dim] become one: fused where a device has kernels, else plain torch.

The plain forms are the definition. Asked for gradients of gradients, or traced by a compiler, the fused form steps
aside for them.
"""

import importlib
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from scansearch_kernels import backends
from scansearch_kernels.calls import EPSILON

# By backend: a module with means_forward, means_backward, sum_forward and sum_backward, and `serves`, which says
# whether it has kernels for these tensors.
FUSED = {"cpu": "scansearch_kernels.cpu.merge_launch", "cuda": "scansearch_kernels.gpu.merge"}


def branch_means(y: Tensor) -> Tensor:
    """Mean over tokens of the LayerNorm (without parameters) of every token: [batch, directions, dim]."""
    kernels = fused(y)
    return branch_means_plain(y) if kernels is None else _Means.apply(kernels, y)


def branch_sum(y: Tensor, channel: Tensor | None = None, gates: Tensor | None = None) -> Tensor:
    """Sum over directions of ``y`` times ``channel``; with ``gates`` each is normalised first, then gated.

    Args:
        y: [batch, directions, length, dim].
        channel: [batch, directions, dim] or None for ones.
        gates: [directions], for gate * LayerNorm(y * channel) without parameters; None for a plain sum.

    Returns:
        [batch, length, dim] in y's dtype.
    """
    kernels = fused(y, channel, gates)
    if kernels is None:
        return branch_sum_plain(y, channel, gates)
    return _Sum.apply(kernels, y, channel, gates)


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
        or torch._C._functorch.is_functorch_wrapped_tensor(y)
    ):
        return None
    name = FUSED.get(backends.pick(None, y.device.type))
    if name is None or any(part is not None and part.device != y.device for part in (channel, gates)):
        return None
    kernels = importlib.import_module(name)
    return kernels if kernels.serves(y, channel, gates) else None


class _Means(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kernels: Any, y: Tensor) -> Tensor:
        ctx.kernels = kernels
        ctx.save_for_backward(y)
        out: Tensor = kernels.means_forward(y)
        return out

    @staticmethod
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        (y,) = ctx.saved_tensors
        if torch.is_grad_enabled():
            return None, torch.autograd.grad(branch_means_plain(y), y, dout, create_graph=True)[0]
        return None, ctx.kernels.means_backward(y, dout)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kernels: Any, y: Tensor, channel: Tensor | None, gates: Tensor | None) -> Tensor:
        ctx.kernels = kernels
        ctx.save_for_backward(y, channel, gates)
        out: Tensor = kernels.sum_forward(y, channel, gates)
        return out

    @staticmethod
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        y, channel, gates = ctx.saved_tensors
        if torch.is_grad_enabled():
            present = [
                tensor for tensor in (y, channel, gates) if tensor is not None and tensor.requires_grad
            ]
            found = torch.autograd.grad(branch_sum_plain(y, channel, gates), present, dout, create_graph=True)
            graded = {id(tensor): grad for tensor, grad in zip(present, found, strict=True)}
            return None, *(graded.get(id(tensor)) for tensor in (y, channel, gates))
        return None, *ctx.kernels.sum_backward(y, channel, gates, dout)
