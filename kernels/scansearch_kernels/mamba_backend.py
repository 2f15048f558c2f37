"""The `mamba_ssm` backend: an installed mamba-ssm behind the same contract, with the copies that it needs.

It is a cross-check and the benchmark's opponent. Rows are gathered along each order into the [batch, channels,
steps] layout of mamba-ssm's CUDA kernel, directions as its groups, and outputs are scattered back.
"""

import importlib
import importlib.util
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from scansearch_kernels.calls import ConvCall, ScanCall
from scansearch_kernels.rows import alive, rows_in_order, rows_to_image


def available() -> None:
    """Raise ImportError, saying how to install it, if mamba-ssm is missing; does not import it."""
    if importlib.util.find_spec("mamba_ssm") is None:
        raise ImportError(
            "mamba-ssm is not installed: on a machine with CUDA and its compiler, "
            "pip install --no-build-isolation 'scansearch[mamba]'"
        )


def selective_scan(call: ScanCall) -> Tensor:
    """mamba-ssm's `selective_scan_fn` on gathered copies; differentiable as far as it is."""
    scan: Callable[..., Tensor] = importlib.import_module(
        "mamba_ssm.ops.selective_scan_interface"
    ).selective_scan_fn
    with torch.autocast(call.u.device.type, enabled=False):
        directions, dtype = call.A.shape[0], call.u.dtype
        state_dtype = torch.promote_types(dtype, torch.float32)

        def along(rows: Tensor, order: Tensor | None) -> Tensor:
            """[batch, directions, rows, .] -> [batch, directions, ., steps] in scan order."""
            return rows_in_order(rows.to(dtype), order).transpose(2, 3)

        def per_channel(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.to(state_dtype).flatten(0, 1)

        delta = call.delta
        if call.delta_weight is not None:
            delta = torch.matmul(delta.to(dtype), call.delta_weight.to(dtype).transpose(1, 2))
        u = call.u.expand(-1, directions, -1, -1)
        z = None
        if call.z is not None:
            z = call.z[:, None].expand(-1, directions, -1, -1)[:, :, : _reach(call)]
            z = along(z, call.write_order).flatten(1, 2).contiguous()
        y = scan(
            along(u, call.read_order).flatten(1, 2).contiguous(),
            along(delta, call.read_order).flatten(1, 2).contiguous(),
            per_channel(call.A),
            along(call.B, call.read_order).contiguous(),
            along(call.C, call.read_order).contiguous(),
            per_channel(call.D),
            z=z,
            delta_bias=per_channel(call.delta_bias),
            delta_softplus=call.delta_softplus,
        )
        y = y.unflatten(1, (directions, -1)).transpose(2, 3).to(dtype)
        return rows_to_image(y * alive(call.lengths, call.steps, y), call.write_order, call.image_length)


def _reach(call: ScanCall) -> int:
    """How many rows of z a call without orders reads: one per step."""
    return call.image_length if call.write_order is not None else call.steps


def causal_conv(call: ConvCall) -> Tensor:
    """`causal_conv1d_fn` where causal-conv1d is installed too, else torch's convolution, on gathered copies."""
    directions, dim, width = call.weight.shape
    with torch.autocast(call.x.device.type, enabled=False):
        dtype = call.x.dtype
        rows = call.x[:, None].expand(-1, directions, -1, -1)
        x = rows_in_order(rows, call.read_order).transpose(2, 3).flatten(1, 2)
        weight = call.weight.to(dtype).flatten(0, 1)
        bias = None if call.bias is None else call.bias.to(dtype).flatten()
        if importlib.util.find_spec("causal_conv1d") is not None:
            function: Callable[..., Tensor] = importlib.import_module("causal_conv1d").causal_conv1d_fn
            y = function(x.contiguous(), weight, bias, activation="silu")
        else:
            padded = F.pad(x, (width - 1, 0))
            y = F.silu(F.conv1d(padded, weight[:, None], bias, groups=directions * dim))
        y = y.unflatten(1, (directions, dim)).transpose(2, 3)
        return y * alive(call.lengths, call.steps, y)
