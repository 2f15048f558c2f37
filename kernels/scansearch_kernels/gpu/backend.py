"""The `cuda` backend: Triton kernels behind the registered operations.

Deterministic throughout: no kernel uses atomics, and every sum over programs has a fixed order. In Triton's
interpreter (TRITON_INTERPRET=1, for testing) the same kernels serve CPU tensors in the place of `cpu`.
"""

from typing import Any

import torch
import triton
from torch import Tensor

from scansearch_kernels import ops
from scansearch_kernels.calls import ConvCall, ScanCall
from scansearch_kernels.gpu import conv, plan
from scansearch_kernels.gpu.launch import interpreted, run_all

OLDEST_TRITON = (3, 4)  # the first with `triton.knobs` and with all of the language that the kernels use


def available() -> None:
    """Raise RuntimeError if Triton is too old, or there is neither a CUDA device nor the interpreter."""
    if tuple(int(part) for part in triton.__version__.split(".")[:2]) < OLDEST_TRITON:
        oldest = ".".join(map(str, OLDEST_TRITON))
        raise RuntimeError(
            f"it needs Triton {oldest} or newer (torch 2.8 brings it), found {triton.__version__}"
        )
    if not interpreted() and not torch.cuda.is_available():
        raise RuntimeError("it needs a CUDA device (or TRITON_INTERPRET=1, which is for testing only)")


def selective_scan(call: ScanCall) -> Tensor:
    """The registered scan; RuntimeError for tensors elsewhere than on a CUDA device."""
    _on_device(call.u)
    return ops.selective_scan(call)


def causal_conv(call: ConvCall) -> Tensor:
    """The registered convolution; RuntimeError for tensors elsewhere than on a CUDA device."""
    _on_device(call.x)
    return ops.causal_conv(call)


def _on_device(tensor: Tensor) -> None:
    device = "cpu" if interpreted() else "cuda"
    if tensor.device.type != device:
        raise RuntimeError(f"backend 'cuda' needs tensors on a {device} device, got {tensor.device}")
    if interpreted():
        register("cpu")  # the cpu backend may have been imported since


def _scan(*arguments: Any) -> tuple[Tensor, Tensor]:
    call, keep = ops.checked_scan(*arguments[:15]), arguments[15]
    launches, y, saved = plan.plan_forward(call, keep)
    if y.numel():
        run_all(launches)
    return y, y.new_empty(0, dtype=call.compute_dtype) if saved is None or not y.numel() else saved


def _scan_backward(dy: Tensor, saved: Tensor, *arguments: Any) -> list[Tensor]:
    call = ops.checked_scan(*arguments)
    if not dy.numel():
        zeros = {name: getattr(call, name) for name in ops.SCAN_INPUTS}
        return ops.present(
            {name: None if tensor is None else torch.zeros_like(tensor) for name, tensor in zeros.items()},
            ops.SCAN_INPUTS,
            dy,
        )
    launches, partial, _ = plan.plan_backward(call, saved, dy)
    run_all(launches)
    return ops.present(plan.finish(call, partial), ops.SCAN_INPUTS, dy)


def _conv(x: Tensor, weight: Tensor, bias: Any, read_order: Any, lengths: Any, steps: int) -> Tensor:
    launches, y = conv.plan_forward(ops.checked_conv(x, weight, bias, read_order, lengths, steps))
    run_all(launches)
    return y


def _conv_backward(
    dy: Tensor, x: Tensor, weight: Tensor, bias: Any, read_order: Any, lengths: Any, steps: int
) -> list[Tensor]:
    call = ops.checked_conv(x, weight, bias, read_order, lengths, steps)
    launches, partial = conv.plan_backward(call, dy)
    run_all(launches)
    return ops.present(conv.finish(call, partial), ops.CONV_INPUTS, dy)


def register(device: str) -> None:
    """Make these kernels the registered operations' implementation for a device type."""
    ops.scan.register_kernel(device)(_scan)
    ops.scan_backward.register_kernel(device)(_scan_backward)
    ops.conv.register_kernel(device)(_conv)
    ops.conv_backward.register_kernel(device)(_conv_backward)
    ops.saved_shapes[device] = plan.saved_shape


register("cuda")
