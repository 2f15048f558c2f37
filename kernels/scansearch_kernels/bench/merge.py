"""Times the merge of the branches at a published size, beside the bytes it must move and the plain form."""

from collections.abc import Callable

import torch
from torch import Tensor

from scansearch_kernels import merge
from scansearch_kernels.bench.published_sizes import LayerSize
from scansearch_kernels.bench.timing import milliseconds

Form = tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor | None, Tensor | None], Tensor]]
FUSED: Form = (merge.branch_means, merge.branch_sum)
PLAIN: Form = (merge.branch_means_plain, merge.branch_sum_plain)


def merged(form: Form, y: Tensor, gates: Tensor | None, attended: bool) -> Tensor:
    """Forward of a merge whose channel factors, if `attended`, come from the branches themselves."""
    means, total = form
    return total(y, means(y).sigmoid() if attended else None, gates)


def merge_times(
    size: LayerSize,
    batch: int,
    dtype: torch.dtype,
    device: str,
    bytes_per_s: float,
    tolerance: float,
    repeats: int,
) -> dict[str, float | bool]:
    """Milliseconds of forward with backward of the fused form, of its floor, and of the plain form.

    The floor: every reading of the branches (two forward with channel factors, two backward; else one each), every
    gradient of them, and the merged tensor both ways. A fused form that is off by more than `tolerance` of the
    largest entry of a float32 plain form gets no time.
    """
    attended, gated = size.merges[0]
    y, _, gates = size.merge_tensors(attended, gated, batch, dtype, device)
    draw = torch.Generator(device).manual_seed(0)
    y.normal_(generator=draw).requires_grad_()
    gates = None if gates is None else gates.fill_(1 / size.directions).requires_grad_()
    leaves = [part for part in (y, gates) if part is not None]
    dout = torch.empty(batch, size.tokens, size.dim, dtype=dtype, device=device).normal_(generator=draw)

    def both(form: Form) -> list[Tensor]:
        out = merged(form, y, gates, attended)
        return [out, *torch.autograd.grad(out, leaves, dout.to(out.dtype))]

    exact = y.detach()[:1].float().requires_grad_()
    first = y.detach()[:1].clone().requires_grad_()
    results = []
    for form, branches in ((FUSED, first), (PLAIN, exact)):
        out = merged(form, branches, gates, attended)
        results.append((out, *torch.autograd.grad(out, branches, dout[:1].to(out.dtype))))
    error = max(
        float(
            (ours.detach().float() - theirs.detach()).abs().max()
            / theirs.detach().abs().max().clamp(min=1e-6)
        )
        for ours, theirs in zip(*results, strict=True)
    )
    row: dict[str, float | bool] = {"merge_error": error, "merge_correct": bool(error <= tolerance)}
    if not row["merge_correct"]:
        return row
    passes = (2 + 4) if attended else (1 + 2 if gated else 1)  # a plain sum's gradient is a view
    moved = passes * y.numel() * y.element_size() + 2 * dout.numel() * dout.element_size()
    row["merge_floor_ms"] = 1e3 * moved / bytes_per_s
    row["merge_ms"] = milliseconds(lambda: both(FUSED), device, repeats)
    plain = milliseconds(lambda: both(PLAIN), device, repeats)
    row["merge_over_floor"] = row["merge_ms"] / row["merge_floor_ms"]
    row["merge_times_faster_than_plain"] = plain / row["merge_ms"]
    return row
