"""Comparison of the `cuda` backend with the reference, for the interpreter's process and for real devices."""

from typing import Any

import torch
from scansearch_kernels import causal_conv, selective_scan
from torch import Tensor

# relative to the largest entry; bfloat16 and float16 allow for results rounded once or twice
TOLERANCES = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}


def tensors_of(arguments: dict[str, Any]) -> dict[str, Tensor]:
    """The floating-point tensors among arguments, a low-rank pair as two."""
    found = {}
    for name, value in arguments.items():
        parts = value if isinstance(value, tuple) else (value,)
        for index, part in enumerate(parts):
            if isinstance(part, Tensor) and part.is_floating_point():
                found[name if len(parts) == 1 else f"{name}[{index}]"] = part
    return found


def close(ours: Tensor, theirs: Tensor, dtype: torch.dtype, what: str) -> None:
    """Assert equality within the dtype's tolerance of the largest entry."""
    assert ours.shape == theirs.shape, what
    assert ours.dtype == theirs.dtype, what
    assert torch.isfinite(ours).all(), f"{what} is not finite"
    if theirs.numel():
        error = (ours.double() - theirs.double()).abs().max() / theirs.double().abs().max().clamp(min=1e-6)
        assert error <= TOLERANCES[dtype], f"{what} is off by {float(error):.2e} of its largest entry"


def leaves_and_gradients(function: Any, arguments: dict[str, Any], dy: Tensor | None, **extra: Any) -> Any:
    """Output and the gradients of all floating-point arguments."""
    inputs = tensors_of(arguments)
    y = function(**arguments, **extra)
    dy = torch.randn(y.shape, dtype=torch.float64).to(y) if dy is None else dy
    wanted = {name: tensor for name, tensor in inputs.items() if tensor.requires_grad}
    return y, dict(zip(wanted, torch.autograd.grad(y, list(wanted.values()), dy), strict=True)), dy


def compare(
    arguments: dict[str, Any],
    function: Any = selective_scan,
    dy: Tensor | None = None,
    exact: bool = False,
    dtype: torch.dtype | None = None,
) -> None:
    """Output and every gradient of the cuda backend against the reference on the same arguments.

    With `exact` the reference computes in float64.
    """
    for tensor in tensors_of(arguments).values():
        tensor.requires_grad_()
    first = next(iter(tensors_of(arguments).values()))
    dtype = dtype or first.dtype
    ours, our_gradients, dy = leaves_and_gradients(function, arguments, dy, backend="cuda")
    if exact:
        arguments = {
            name: tuple(_double(part) for part in value) if isinstance(value, tuple) else _double(value)
            for name, value in arguments.items()
        }
    theirs, their_gradients, _ = leaves_and_gradients(function, arguments, dy, backend="reference")
    close(ours, theirs.to(ours.dtype), dtype, "y")
    for name, gradient in our_gradients.items():
        close(gradient, their_gradients[name].to(gradient.dtype), dtype, f"gradient of {name}")


def _double(value: Any) -> Any:
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.detach().double().requires_grad_()
    return value


def conv_arguments(
    batch: int, rows: int, dim: int, directions: int, width: int, dtype: torch.dtype, bias: bool = True
) -> dict[str, Any]:
    """Random arguments of `causal_conv`; x is the first half of a projection, as in the models."""
    draw = torch.Generator().manual_seed(rows * dim + width)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64).to(dtype)

    arguments: dict[str, Any] = {
        "x": normal(batch, rows, 2 * dim)[..., :dim],
        "weight": normal(directions, dim, width),
    }
    arguments["bias"] = normal(directions, dim) if bias else None
    return arguments


__all__ = ["causal_conv", "close", "compare", "conv_arguments", "selective_scan", "tensors_of"]
