"""The two public functions: check the call, pick a backend, run it."""

from collections.abc import Sequence

from torch import Tensor

from scansearch_kernels import backends, calls


def selective_scan(
    u: Tensor,
    delta: Tensor | tuple[Tensor, Tensor],
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = True,
    *,
    read_order: Tensor | None = None,
    write_order: Tensor | None = None,
    lengths: Sequence[int] | None = None,
    image_length: int | None = None,
    backend: str | None = None,
) -> Tensor:
    """Selective scan (Mamba, arXiv 2312.00752, algorithm 2) of tokens in several orders, channels last.

    In each direction, with delta = softplus(delta + delta_bias):
    h_t = exp(delta_t A) h_{t-1} + delta_t B_t u_t,  y_t = (C_t h_t + D u_t) * silu(z).

    Args:
        u: [batch, 1 or directions, rows, dim]; 1 means that all directions read the same tokens.
        delta: [batch, directions, rows, dim], or a pair of low rank: ([batch, directions, rows, rank],
            weight [directions, dim, rank]), whose product it then is.
        A: [directions, dim, states], negative.
        B, C: [batch, directions, rows, states].
        D: [directions, dim], the skip connection, or None.
        z: [batch, image length, dim], read where y is written, or None.
        delta_bias: [directions, dim] or None.
        delta_softplus: whether delta passes through softplus.
        read_order: int32 [directions, steps], the row of u, delta, B and C used at each step; -1 is a row of
            zeros (u, B, C, and delta before its bias). None walks rows 0, 1, ....
        write_order: int32 [directions, steps], the image position that y is written to and z is read from; -1
            drops the output. None means read_order. No order may visit an index twice in a direction.
        lengths: the number of steps of each direction, at most `steps` (the default).
        image_length: positions in y; needed only with a write_order and no z (otherwise z's, or the rows).
        backend: `reference`, `cpu`, ...; else the environment variable SCANSEARCH_BACKEND, else by device.

    Returns:
        y [batch, directions, image length, dim] in u's dtype, zero at positions never written. States are
        float32 (float64 if any input is). Strides are free; the fast backends make no permuted copies.
        Forward-mode derivatives, torch.func's transformations and gradients of gradients are those of the
        `reference`, whatever the backend.

    Raises:
        ValueError: an argument does not fit; the line says which and what is allowed.
        RuntimeError: the backend asked for cannot run here.
    """
    call = calls.check_scan(
        u, delta, A, B, C, D, z, delta_bias, delta_softplus, read_order, write_order, lengths, image_length
    )
    result: Tensor = backends.implementation(backend, call.tensors()).selective_scan(call)
    return result


def causal_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    read_order: Tensor | None = None,
    lengths: Sequence[int] | None = None,
    backend: str | None = None,
) -> Tensor:
    """Depthwise causal convolution along each order, plus bias, then SiLU (LocalVim's, before its scan).

    Args:
        x: [batch, rows, dim].
        weight: [directions, dim, width]; the last tap multiplies the current step.
        bias: [directions, dim] or None.
        read_order: int32 [directions, steps], the row of x at each step; -1 is a row of zeros. None walks
            rows 0, 1, ....
        lengths: the number of steps of each direction, at most `steps` (the default).
        backend: as in `selective_scan`.

    Returns:
        y [batch, directions, steps, dim] in scan order and x's dtype, zero from each direction's length on.

    Raises:
        ValueError, RuntimeError: as in `selective_scan`.
    """
    call = calls.check_conv(x, weight, bias, read_order, lengths)
    result: Tensor = backends.implementation(backend, call.tensors()).causal_conv(call)
    return result
