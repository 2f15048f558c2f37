"""Comparison of the fused merge of branches with its plain form in float64, in the interpreter and on real devices."""

from collections.abc import Callable

import torch
from scansearch_kernels import merge
from torch import Tensor

# relative to the largest entry: 16-bit results are rounded once, and the interpreter truncates bfloat16
TOLERANCES = {torch.float64: 1e-10, torch.float32: 2e-5, torch.bfloat16: 8e-3, torch.float16: 6e-4}
KINDS = ("neither", "channel", "gates", "both")


def drawn(
    shape: tuple[int, ...], dtype: torch.dtype, device: str = "cpu", seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Branches that are not centred, channel factors, gates."""
    draw = torch.Generator().manual_seed(seed)
    batch, directions, _, dim = shape
    y = torch.randn(*shape, generator=draw, dtype=torch.float64) * 2 + 1
    channel = torch.rand(batch, directions, dim, generator=draw, dtype=torch.float64)
    gates = torch.randn(directions, generator=draw, dtype=torch.float64)
    return y.to(device, dtype), channel.to(device, dtype), gates.to(device, dtype)


def compare_sum(given: tuple[Tensor, Tensor, Tensor], kind: str, weight: Tensor | None = None) -> None:
    """`branch_sum` and its gradients; `weight`, what comes back to the sum, is random unless given."""
    y, channel, gates = given
    chosen = {"neither": (y,), "channel": (y, channel), "gates": (y, gates), "both": given}[kind]

    def rebuilt(*parts: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        return (
            parts[0],
            parts[1] if kind in ("channel", "both") else None,
            parts[-1] if kind in ("gates", "both") else None,
        )

    assert merge.fused(*rebuilt(*chosen)) is not None
    _compare(
        lambda *parts: merge.branch_sum(*rebuilt(*parts)),
        lambda *parts: merge.branch_sum_plain(*rebuilt(*parts)),
        chosen,
        weight,
    )


def compare_means(y: Tensor) -> None:
    """`branch_means` and its gradient."""
    assert merge.fused(y) is not None
    _compare(merge.branch_means, merge.branch_means_plain, (y,), None)


def _compare(
    fused: Callable[..., Tensor],
    plain: Callable[..., Tensor],
    given: tuple[Tensor, ...],
    weight: Tensor | None,
) -> None:
    ours = [part.detach().requires_grad_() for part in given]
    theirs = [part.detach().double().requires_grad_() for part in given]
    found, wanted = fused(*ours), plain(*theirs)
    if weight is None:
        draw = torch.Generator().manual_seed(
            1
        )  # not that of `drawn`: a product of equal numbers overflows float16
        weight = torch.randn(found.shape, generator=draw, dtype=torch.float64).to(found)
    back = weight.to(found).expand_as(found)
    ours_all = (found, *torch.autograd.grad(found, ours, back))
    theirs_all = (wanted, *torch.autograd.grad(wanted, theirs, back.double()))
    assert found.dtype == given[0].dtype
    for index, (one, other) in enumerate(zip(ours_all, theirs_all, strict=True)):
        one, other = one.detach(), other.detach()
        what = f"output {index} of {[tuple(part.shape) for part in given]}"
        assert one.shape == other.shape, what
        if index:
            assert one.dtype == given[index - 1].dtype, what
        assert torch.isfinite(one).all(), f"{what} is not finite"
        error = float((one.double() - other).abs().max() / other.abs().max().clamp(min=1e-3))
        limit = TOLERANCES[one.dtype]
        assert error <= limit, f"{what} is off by {error:.2e} of its largest entry"
