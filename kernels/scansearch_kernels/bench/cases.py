"""What the benchmark runs: sizes as models use them, real scan orders, and the check of the results."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scansearch_kernels import selective_scan


@dataclass(frozen=True)
class Size:
    """One call: a LocalVim one (u per direction and gated), or a LocalVMamba one (`shared`: u read by orders)."""

    batch: int
    rows: int
    dim: int
    states: int
    directions: int
    shared: bool

    def work(self) -> int:
        """State updates."""
        return self.batch * self.rows * self.dim * self.states * self.directions


SIZES = {
    "vim_k4": Size(8, 196, 384, 16, 4, False),
    "vim_k8": Size(8, 196, 384, 16, 8, False),
    "vmamba1": Size(2, 3136, 192, 16, 4, True),
    "micro": Size(64, 196, 64, 8, 8, False),
    "micro_n16": Size(64, 196, 64, 16, 8, False),
    "micro_d128": Size(64, 196, 128, 16, 8, False),
    "tiny": Size(64, 64, 64, 8, 8, False),
    "tiny_n16": Size(64, 64, 64, 16, 8, False),
}


def orders(rows: int, directions: int) -> Tensor:
    """The first of: by rows, by columns, in windows of 2 and of 7 (the last smaller), each with its reversal."""
    side = int(rows**0.5)
    grid = torch.arange(rows, dtype=torch.int32).view(side, side)

    def windows(size: int) -> Tensor:
        return torch.cat([block.flatten() for band in grid.split(size, 0) for block in band.split(size, 1)])

    forward = [grid.flatten(), grid.T.flatten(), windows(2), windows(7)]
    if directions == 1:
        return forward[1][None].contiguous()
    return torch.stack([order for scan in forward for order in (scan, scan.flip(0))][:directions])


def arguments(
    size: Size, batch: int, dtype: torch.dtype = torch.float32
) -> tuple[dict[str, Any], list[Tensor], Tensor]:
    """A random call of that size (seed 0), the tensors that need gradients, and a gradient of y."""
    draw = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw).to(dtype)

    rows, dim, states, k = size.rows, size.dim, size.states, size.directions
    given: dict[str, Any] = {
        "u": normal(batch, 1 if size.shared else k, rows, dim),
        "delta": normal(batch, k, rows, dim),
        "A": -torch.arange(1.0, states + 1).to(dtype).repeat(k, dim, 1),
        "B": normal(batch, k, rows, states),
        "C": normal(batch, k, rows, states),
        "D": normal(k, dim),
        "delta_bias": normal(k, dim) - 3,
    }
    if not size.shared:
        given["z"] = normal(batch, rows, dim)
    leaves = [tensor.requires_grad_() for tensor in given.values()]
    given["read_order" if size.shared else "write_order"] = orders(rows, k)
    return given, leaves, normal(batch, k, rows, dim)


def check_accuracy(size: Size, channels: int = 64) -> dict[str, float]:
    """Largest errors of y and of all gradients over their largest values, for one entry of the batch.

    Channels meet only in the gradients of B and C, so the float64 reference takes some at a time.
    """
    given, leaves, dy = arguments(size, 1)
    y = selective_scan(**given, backend="cpu")
    ours = [y.detach(), *torch.autograd.grad(y, leaves, dy)]
    exact = [torch.zeros(tensor.shape, dtype=torch.float64) for tensor in ours]
    names = [name for name in given if not name.endswith("order")]
    for start in range(0, size.dim, channels):
        part = slice(start, start + channels)
        along = {"u": 3, "delta": 3, "A": 1, "D": 1, "delta_bias": 1, "z": 2}
        sliced = {
            name: given[name].detach().double().narrow(along[name], start, min(channels, size.dim - start))
            if name in along
            else given[name].detach().double()
            for name in names
        }
        inputs = [tensor.requires_grad_() for tensor in sliced.values()]
        order = {name: given[name] for name in given if name.endswith("order")}
        y = selective_scan(**sliced, **order, backend="reference")
        exact[0][..., part] = y.detach()
        gradients = torch.autograd.grad(y, inputs, dy[..., part].double())
        for name, total, gradient in zip(names, exact[1:], gradients, strict=True):
            if name in along:
                total.narrow(along[name], start, gradient.shape[along[name]]).copy_(gradient)
            else:
                total += gradient
    errors = [
        float((mine.double() - right).abs().max() / right.abs().max())
        for mine, right in zip(ours, exact, strict=True)
    ]
    return {"output_error": errors[0], "gradient_error": max(errors[1:])}
