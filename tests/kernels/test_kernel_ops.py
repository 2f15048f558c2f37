"""The registered operations: torch's own checks, derivatives, FLOPs, compilation, autocast."""

import pytest
import scansearch_kernels.cpu.backend
import torch
from scansearch_kernels import causal_conv, ops, selective_scan
from support.scan_cases import CASES, ScanCase, check, gradients
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

assert scansearch_kernels.cpu.backend  # registers its kernels


@pytest.mark.smoke
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", ["bare", "low_rank_order", "lengths_orders", "one_channel", "empty_batch"])
def test_torchs_checks_of_custom_operations_pass(name: str, dtype: torch.dtype) -> None:
    case = CASES[name]
    arguments, learned = ScanCase(**{**vars(case), "dtype": dtype}).arguments()
    for entry in learned:
        given = arguments[entry]
        for tensor in given if isinstance(given, tuple) else (given,):
            tensor.requires_grad_()
    torch.library.opcheck(ops.scan, (*ops.flat(check(**arguments)), True))
    x = torch.randn(2, 9, 8, dtype=dtype, requires_grad=True)
    weight = torch.randn(2, 8, 4, dtype=dtype, requires_grad=True)
    torch.library.opcheck(ops.conv, (x, weight, None, None, (9, 5), 9))


@pytest.mark.smoke
def test_first_derivatives_are_right() -> None:
    draw = torch.Generator().manual_seed(8)
    shapes = [
        (1, 1, 4, 2),
        (1, 2, 4, 1),
        (2, 2, 1),
        (2, 2, 3),
        (1, 2, 4, 3),
        (1, 2, 4, 3),
        (2, 2),
        (1, 4, 2),
        (2, 2),
    ]
    values = [torch.randn(shape, generator=draw, dtype=torch.float64).requires_grad_() for shape in shapes]
    order = torch.tensor([[0, 2, -1, 1], [3, 2, 1, 0]], dtype=torch.int32)

    def scan(*tensors: Tensor) -> Tensor:
        u, low, weight, A, B, C, D, z, bias = tensors
        return selective_scan(
            u, (low, weight), -A.exp(), B, C, D, z, bias, read_order=order, lengths=(4, 3), backend="cpu"
        )

    assert torch.autograd.gradcheck(scan, values)
    x, weight, bias = (
        torch.randn(shape, generator=draw, dtype=torch.float64).requires_grad_()
        for shape in [(2, 4, 3), (2, 3, 4), (2, 3)]
    )
    assert torch.autograd.gradcheck(
        lambda *given: causal_conv(*given, read_order=order, lengths=(4, 3), backend="cpu"), (x, weight, bias)
    )


def test_states_are_kept_only_for_a_backward() -> None:
    arguments, _ = CASES["plain"].arguments()
    call = ops.flat(check(**arguments))
    assert ops.scan(*call, False)[1].numel() == 0
    assert ops.scan(*call, True)[1].shape == (2, 2, 1, 3, 8)
    arguments["u"].requires_grad_()
    with torch.no_grad():
        assert not selective_scan(**arguments).requires_grad
    with torch.inference_mode():
        selective_scan(**arguments)
    assert selective_scan(**arguments).grad_fn is not None


def test_flops_are_counted_per_step_within_lengths() -> None:
    case = ScanCase(batch=2, directions=3, rows=11, dim=5, states=3, rank=2, lengths=(11, 4, 0))
    arguments, learned = case.arguments()
    forward = 2 * 15 * 5 * (9 * 3 + 2 * 2 + 2 + 1)
    with FlopCounterMode(display=False) as counter:
        selective_scan(**arguments)
    assert counter.get_total_flops() == forward
    with FlopCounterMode(display=False) as counter:
        gradients(arguments, learned, "cpu")
    assert counter.get_total_flops() == 3 * forward
    x = torch.zeros(2, 11, 5, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        causal_conv(x, torch.zeros(3, 5, 4), None, lengths=(11, 4, 0)).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * 15 * 5 * 10


def test_the_cost_of_a_call_is_the_sum_over_its_directions() -> None:
    together = ops.scan_flops((2, 1, 11, 5), (2, 5, 3), (11, 4), 2, True, True)
    apart = [ops.scan_flops((2, 1, 11, 5), (1, 5, 3), (length,), 2, True, True) for length in (11, 4)]
    assert together == sum(apart)


@pytest.mark.smoke
def test_compiles_into_one_graph() -> None:
    arguments, learned = CASES["lengths_orders"].arguments()
    weight = torch.randn(1, 5, 4, dtype=torch.float64)
    leaves = [arguments[name].requires_grad_() for name in learned]

    def layer(given: dict) -> Tensor:
        return selective_scan(**given).sum() + causal_conv(given["u"][:, 0], weight, None).square().sum()

    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    ours = torch.autograd.grad(compiled(arguments), leaves)
    for gradient, expected in zip(ours, torch.autograd.grad(layer(arguments), leaves), strict=True):
        torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_autocast_mixes_half_activations_with_float32_parameters(backend: str) -> None:
    draw = torch.Generator().manual_seed(4)
    x = torch.randn(2, 9, 16, generator=draw)
    project, split = torch.nn.Linear(16, 32), torch.nn.Linear(16, 3 + 2 * 4)
    weight = torch.randn(2, 16, 4, generator=draw, requires_grad=True)
    A = -torch.rand(2, 16, 4, generator=draw)
    low_weight = torch.randn(2, 16, 3, generator=draw, requires_grad=True)

    def layer() -> Tensor:
        inner, z = project(x).chunk(2, dim=-1)
        u = causal_conv(inner, weight, None, backend=backend)
        low, B, C = split(u).split([3, 4, 4], dim=-1)
        return selective_scan(u, (low, low_weight), A, B, C, z=z, backend=backend)

    exact = layer()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer()
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), exact, rtol=0.05, atol=0.05 * float(exact.detach().abs().max()))
    y.float().square().sum().backward()
    assert low_weight.grad is not None
    assert low_weight.grad.dtype == torch.float32
    assert torch.isfinite(project.weight.grad).all()
