"""Random scan and convolution calls of every shape the contract allows, shared by the kernel tests."""

import multiprocessing
from dataclasses import dataclass, field
from typing import Any

import torch
from scansearch_kernels import selective_scan
from scansearch_kernels.calls import ScanCall, check_scan
from torch import Tensor


@dataclass
class ScanCase:
    """What varies between calls; `arguments` draws the tensors."""

    batch: int = 2
    directions: int = 2
    rows: int = 11
    dim: int = 5
    states: int = 3
    rank: int = 0
    shared_u: bool = False
    skip: bool = True
    gate: bool = True
    bias: bool = True
    softplus: bool = True
    read: str = "none"  # none | order | padded
    write: str = "same"  # same | order | dropped
    lengths: tuple[int, ...] | None = None
    image_length: int | None = None
    dtype: torch.dtype = torch.float64
    seed: int = 0
    extra: dict[str, Any] = field(default_factory=dict)

    def arguments(self) -> tuple[dict[str, Any], list[str]]:
        """Keyword arguments of `selective_scan`, and the names of those that carry gradients."""
        draw = torch.Generator().manual_seed(self.seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=draw, dtype=torch.float64).to(self.dtype)

        k, d, n, rows = self.directions, self.dim, self.states, self.rows
        steps = rows if self.read != "padded" else rows + 3
        arguments: dict[str, Any] = {
            "u": normal(self.batch, 1 if self.shared_u else k, rows, d),
            "A": -torch.exp(0.5 * normal(k, d, n)),
            "B": normal(self.batch, k, rows, n),
            "C": normal(self.batch, k, rows, n),
            "delta_softplus": self.softplus,
        }
        if self.rank:
            scale = self.rank**-0.5
            low = normal(self.batch, k, rows, self.rank), scale * normal(k, d, self.rank)
            arguments["delta"] = low if self.softplus else (low[0].abs(), low[1].abs())
        else:
            full = 0.5 * normal(self.batch, k, rows, d)
            arguments["delta"] = full if self.softplus else full.abs()
        if self.skip:
            arguments["D"] = normal(k, d)
        if self.bias:
            arguments["delta_bias"] = normal(k, d) if self.softplus else normal(k, d).abs()
        if self.read != "none":
            arguments["read_order"] = random_order(draw, k, steps, rows)
        length = self.image_length
        if self.write != "same":
            length = length or rows + 2
            keep = min(length, steps) - (2 if self.write == "dropped" else 0)
            arguments["write_order"] = random_order(draw, k, steps, length, max(keep, 0))
        length = length or rows
        if self.gate:
            arguments["z"] = normal(self.batch, length, d)
        else:
            arguments["image_length"] = length
        if self.lengths is not None:
            arguments["lengths"] = tuple(min(entry, steps) for entry in self.lengths)
        arguments.update(self.extra)
        learned = [
            name for name in ("u", "delta", "A", "B", "C", "D", "z", "delta_bias") if name in arguments
        ]
        return arguments, learned


def random_order(
    draw: torch.Generator, directions: int, steps: int, limit: int, keep: int | None = None
) -> Tensor:
    """int32 [directions, steps] of distinct indices below `limit` with -1 sprinkled where indices run out."""
    keep = min(limit, steps) if keep is None else keep
    order = torch.full((directions, steps), -1, dtype=torch.int32)
    for direction in range(directions):
        where = torch.randperm(steps, generator=draw)[:keep]
        order[direction, where] = torch.randperm(limit, generator=draw)[:keep].int()
    return order


def check(**arguments: Any) -> ScanCall:
    """`check_scan` with the defaults of the public function."""
    absent = ("D", "z", "delta_bias", "read_order", "write_order", "lengths", "image_length")
    return check_scan(**{**dict.fromkeys(absent), "delta_softplus": True, **arguments})


def gradients(
    arguments: dict[str, Any], learned: list[str], backend: str, dtype: torch.dtype | None = None
) -> tuple[Tensor, list[Tensor]]:
    """y and the gradients of a random functional of it, by one backend in one precision."""
    given, leaves = dict(arguments), []
    for name in learned:
        parts = given[name] if isinstance(given[name], tuple) else (given[name],)
        parts = tuple(part.detach().to(dtype or part.dtype).requires_grad_() for part in parts)
        given[name] = parts if isinstance(given[name], tuple) else parts[0]
        leaves += parts
    y = selective_scan(**given, backend=backend)
    draw = torch.Generator().manual_seed(99)
    dy = torch.randn(y.shape, generator=draw, dtype=torch.float64).to(y.dtype)
    return y.detach(), list(torch.autograd.grad(y, leaves, dy))


def relative_error(ours: Tensor, exact: Tensor) -> float:
    """Largest difference over the largest value."""
    assert ours.shape == exact.shape
    if not exact.numel():
        return 0.0
    ours, exact = ours.detach().double(), exact.detach().double()
    difference = float((ours - exact).abs().max())
    assert difference == difference
    return difference / max(float(exact.abs().max()), 1e-30)


CASES = {
    "plain": ScanCase(),
    "one_direction": ScanCase(directions=1),
    "bare": ScanCase(skip=False, gate=False, bias=False),
    "no_softplus": ScanCase(softplus=False, bias=False),
    "softplus_without_bias": ScanCase(bias=False),
    "low_rank": ScanCase(rank=2),
    "low_rank_order": ScanCase(rank=3, read="order", shared_u=True),
    "shared_u": ScanCase(shared_u=True, read="order", directions=4),
    "padded": ScanCase(shared_u=True, read="padded", directions=3),
    "padded_low_rank": ScanCase(rank=2, read="padded", gate=False),
    "write_order": ScanCase(write="order"),
    "write_dropped": ScanCase(write="dropped", gate=False),
    "both_orders": ScanCase(read="padded", write="order", image_length=9),
    "lengths": ScanCase(directions=3, lengths=(11, 4, 0)),
    "lengths_orders": ScanCase(
        directions=3, read="padded", write="dropped", lengths=(14, 1, 7), shared_u=True
    ),
    "one_step": ScanCase(rows=1),
    "one_channel": ScanCase(dim=1, states=1),
    "longer_than_a_chunk": ScanCase(rows=37, read="order"),
    "many_channels": ScanCase(dim=70, states=2, rows=18, read="padded"),
    "wide_image": ScanCase(gate=False, image_length=20),
    "empty_batch": ScanCase(batch=0),
}


def put_beginnings(case: ScanCase, queue: Any) -> None:
    """Put the first 50 numbers of the output and of each gradient of ``case`` on the CPU backend.

    It stands here, and not in a test, because a spawned child must import it by the name of its module.
    """
    y, leaves = gradients(*case.arguments(), "cpu")
    queue.put([entry.flatten()[:50].tolist() for entry in (y, *leaves)])


def put_beginnings_of_a_forked_child(case: ScanCase, queue: Any) -> None:
    """The same from a forked child of this process, which has used two threads before."""
    torch.set_num_threads(2)
    y, _ = gradients(*case.arguments(), "cpu")
    arguments, learned = case.arguments()
    leaves = [arguments[name].requires_grad_() for name in learned]
    dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(99), dtype=torch.float64).to(y.dtype)

    def only_kernels() -> None:  # torch's own parallel operations would hang in the child
        y = selective_scan(**arguments, backend="cpu")
        queue.put([entry.flatten()[:50].tolist() for entry in (y, *torch.autograd.grad(y, leaves, dy))])

    child = multiprocessing.get_context("fork").Process(target=only_kernels)
    child.start()
    child.join(timeout=60)
    if child.exitcode != 0:
        raise RuntimeError(f"the forked child ended with {child.exitcode}")
