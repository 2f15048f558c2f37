"""Derivatives that a kernel has no formula for: they are taken of the plain torch forms instead."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad


def transformed(tensors: Iterable[Tensor | None]) -> bool:
    """Whether a forward-mode derivative or a transformation of torch.func (grad, vjp, jvp, vmap) sees one of these."""
    return any(
        tensor is not None
        and (torch._C._functorch.is_functorch_wrapped_tensor(tensor) or has_tangent(tensor))
        for tensor in tensors
    )


def has_tangent(tensor: Tensor) -> bool:
    """Whether ``tensor`` is a dual number of the current forward-mode level."""
    return forward_ad._current_level >= 0 and forward_ad.unpack_dual(tensor).tangent is not None


def refuse_tangents(name: str, tensors: Iterable[Tensor | None]) -> None:
    """Raise RuntimeError where a compiled or exported graph would lose a forward-mode derivative without a word."""
    if forward_ad._current_level < 0:
        return
    if any(tensor is not None and has_tangent(tensor) for tensor in tensors):
        raise RuntimeError(
            f"{name} has no forward-mode derivative inside a compiled or exported graph: take it of the model "
            "itself, or trace the model with SCANSEARCH_BACKEND=reference"
        )


def differentiable(
    form: Callable[[Any], Tensor], inputs: Any, tensors: Sequence[Tensor | None], dy: Tensor
) -> list[Tensor | None]:
    """Gradients of ``form(inputs)`` towards ``tensors`` that can be differentiated again, as create_graph asks."""
    learned = [tensor for tensor in tensors if tensor is not None and tensor.requires_grad]
    gradients = iter(torch.autograd.grad(form(inputs), learned, dy, create_graph=True, allow_unused=True))
    return [next(gradients) if tensor is not None and tensor.requires_grad else None for tensor in tensors]
