"""Derivatives of every kind are right, though the kernels only know the first: else they are refused in one line."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from scansearch_kernels import branch_means, branch_sum, causal_conv, merge, ops, selective_scan
from torch import Tensor
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

ORDER = torch.tensor([[0, 2, -1, 1], [3, 2, 1, 0]], dtype=torch.int32)


def scan(u: Tensor, low: Tensor, weight: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    return selective_scan(
        u, (low, weight), -A.exp(), B, C, D, read_order=ORDER, lengths=(4, 3), backend="cpu"
    )


def conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return causal_conv(x, weight, bias, read_order=ORDER, lengths=(4, 3), backend="cpu")


SHAPES: dict[str, tuple[Callable[..., Tensor], list[tuple[int, ...]]]] = {
    "scan": (scan, [(1, 1, 4, 2), (1, 2, 4, 1), (2, 2, 1), (2, 2, 2), (1, 2, 4, 2), (1, 2, 4, 2), (2, 2)]),
    "conv": (conv, [(2, 4, 2), (2, 2, 3), (2, 2)]),
    "means": (branch_means, [(1, 2, 3, 8)]),
    "sum": (branch_sum, [(1, 2, 3, 8), (1, 2, 8), (2,)]),
}
CASES = pytest.mark.parametrize("name", SHAPES)


def inputs(name: str) -> tuple[Callable[..., Tensor], list[Tensor]]:
    function, shapes = SHAPES[name]
    draw = torch.Generator().manual_seed(3)
    return function, [torch.randn(shape, generator=draw, dtype=torch.float64) for shape in shapes]


@CASES
def test_forward_mode_and_second_derivatives_equal_finite_differences(name: str) -> None:
    function, values = inputs(name)
    values = [value.requires_grad_() for value in values]
    assert torch.autograd.gradcheck(function, values, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(function, values)


@CASES
def test_torch_funcs_transformations_equal_plain_autograd(name: str) -> None:
    function, values = inputs(name)
    leaves = [value.clone().requires_grad_() for value in values]
    y = function(*leaves)
    weight = torch.randn_like(y)
    expected = torch.autograd.grad(y, leaves, weight)
    _, pull = torch.func.vjp(function, *values)
    every = tuple(range(len(values)))
    gradients = torch.func.grad(lambda *given: (function(*given) * weight).sum(), argnums=every)(*values)
    for one, two, right in zip(pull(weight), gradients, expected, strict=True):
        torch.testing.assert_close(one, right)
        torch.testing.assert_close(two, right)
    # <weight, J v> = <J^T weight, v>
    directions = [torch.randn_like(value) for value in values]
    primal, tangent = torch.func.jvp(function, tuple(values), tuple(directions))
    torch.testing.assert_close(primal, y.detach())
    product = sum((right * v).sum() for right, v in zip(expected, directions, strict=True))
    torch.testing.assert_close((weight * tangent).sum(), product)
    many = [torch.stack([value, 2 * value]) for value in values]
    found = torch.func.vmap(function)(*many)
    torch.testing.assert_close(found[1], function(*(2 * value for value in values)))


def test_dual_numbers_keep_their_tangent_next_to_plain_inputs() -> None:
    """Only one input carries a tangent, and not the first."""
    function, values = inputs("sum")
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(values[2], torch.ones_like(values[2]))
        tangent = forward_ad.unpack_dual(function(*values[:2], dual)).tangent
    step = 1e-6
    difference = function(*values[:2], values[2] + step) - function(*values[:2], values[2] - step)
    torch.testing.assert_close(tangent, difference / (2 * step), rtol=1e-6, atol=1e-8)


def test_a_graph_that_calls_the_operations_refuses_tangents() -> None:
    function, values = inputs("conv")
    graph = make_fx(function)(*values)
    with forward_ad.dual_level(), pytest.raises(RuntimeError, match="SCANSEARCH_BACKEND=reference"):
        graph(forward_ad.make_dual(values[0], torch.ones_like(values[0])), *values[1:])


@CASES
def test_traced_graphs_hold_the_operations(name: str) -> None:
    """The merge kernels once wrote through addresses that a tracer does not see."""
    function, values = inputs(name)
    function(*values)  # warm
    graph = make_fx(function)(*values)
    others = [torch.randn_like(value) for value in values]
    torch.testing.assert_close(graph(*others), function(*others))
    assert any(str(node.target).startswith("scansearch.") for node in graph.graph.nodes)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("shape", [(2, 3, 4, 16), (1, 2, 3, 5)], ids=["fused", "plain inside"])
def test_torchs_checks_of_custom_operations_pass_for_the_merge(shape: tuple[int, ...], gated: bool) -> None:
    y = torch.randn(shape, requires_grad=True)
    channel = torch.rand(*shape[:2], shape[3], requires_grad=True)
    gates = torch.rand(shape[1], requires_grad=True) if gated else None
    torch.library.opcheck(merge.fused_means, (y,))
    torch.library.opcheck(merge.fused_sum, (y, channel, gates))
    torch.library.opcheck(merge.fused_sum, (y.detach(), None, gates))


def test_the_operations_of_the_merge_serve_any_tensor() -> None:
    """A saved graph may meet tensors for which there are no kernels."""
    for dim in (5, 16):
        y = torch.randn(2, 3, 4, dim, dtype=torch.float64, requires_grad=True)
        channel = torch.rand(2, 3, dim, dtype=torch.float64, requires_grad=True)
        gates = torch.rand(3, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(merge.fused_means, (y,))
        assert torch.autograd.gradcheck(merge.fused_sum, (y, channel, gates))
        assert torch.autograd.gradcheck(lambda *given: merge.fused_sum(*given, None), (y, channel))


def test_the_merge_is_left_out_of_the_flops() -> None:
    leaves = [
        tensor.requires_grad_() for tensor in (torch.randn(2, 3, 4, 16), torch.rand(2, 3, 16), torch.rand(3))
    ]
    with FlopCounterMode(display=False) as counter:
        torch.autograd.grad((branch_sum(*leaves) + branch_means(leaves[0]).mean()).sum(), leaves)
    assert counter.get_total_flops() == 0


def test_the_meta_device_gives_shapes_and_flops() -> None:
    _, values = inputs("scan")
    counts = []
    for device in ("cpu", "meta"):
        leaves = [value.clone().to(device).requires_grad_() for value in values]
        order = ORDER.to(device)
        with FlopCounterMode(display=False) as counter:
            u, low, weight, A, B, C, D = leaves
            y = selective_scan(u, (low, weight), -A.exp(), B, C, D, read_order=order, lengths=(4, 3))
            y.sum().backward()
        counts.append(counter.get_total_flops())
        assert y.shape == (1, 2, 4, 2)
        assert all(leaf.grad is not None and leaf.grad.shape == leaf.shape for leaf in leaves)
    assert counts[0] == counts[1] == 3 * ops.scan_flops((1, 1, 4, 2), (2, 2, 2), (4, 3), 1, True, False)
