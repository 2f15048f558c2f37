"""The scan as one writes it in JAX: `lax.scan` over steps, compiled by XLA, with its own reverse pass.

Needs `jax`, which nothing here installs. XLA computes on all cores, whatever torch's number of threads is.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def scan() -> Callable[..., Tensor]:
    """An opponent, see `opponents.Scan`; tensors are handed over without copies.

    Raises:
        ImportError: there is no jax.
    """
    import jax
    import jax.numpy as jnp
    from jax import lax

    def steps(u: Any, delta: Any, A: Any, B: Any, C: Any) -> Any:
        def step(state: Any, inputs: Any) -> Any:
            u, delta, B, C = inputs
            decay = jnp.exp(delta[:, :, None] * A)
            state = decay * state + (delta * u)[:, :, None] * B[:, None, :]
            return state, (state * C[:, None, :]).sum(-1)

        over_steps = tuple(jnp.swapaxes(tensor, 0, 1) for tensor in (u, delta, B, C))
        _, y = lax.scan(step, jnp.zeros_like(A), over_steps)
        return jnp.swapaxes(y, 0, 1)

    forwards = jax.jit(steps)
    backwards = jax.jit(lambda inputs, dy: jax.vjp(steps, *inputs)[1](dy))

    def to_jax(tensor: Tensor) -> Any:
        return jnp.from_dlpack(tensor.detach().contiguous())

    def to_torch(array: Any) -> Tensor:
        return torch.from_dlpack(array.block_until_ready())

    class JaxScan(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Tensor) -> Tensor:
            ctx.save_for_backward(*inputs)
            return to_torch(forwards(*map(to_jax, inputs)))

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, ...]:
            return tuple(map(to_torch, backwards(tuple(map(to_jax, ctx.saved_tensors)), to_jax(dy))))

    return JaxScan.apply
