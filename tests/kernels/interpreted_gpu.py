"""The GPU kernels in Triton's interpreter against the reference. Run by test_gpu_interpreted.py in its own process."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from scansearch_kernels import calls, ops, reference
from scansearch_kernels.gpu import plan as gpu_plan
from scansearch_kernels.gpu.launch import interpreted
from support.gpu_checks import causal_conv, close, compare, conv_arguments, selective_scan, tensors_of
from support.scan_cases import CASES, ScanCase, random_order

if not interpreted():
    pytest.skip("TRITON_INTERPRET=1 must be set before Triton is imported", allow_module_level=True)


def drawn(case: ScanCase, **changes: Any) -> dict[str, Any]:
    return dataclasses.replace(case, **changes).arguments()[0]


def planned(arguments: dict[str, Any]) -> calls.ScanCall:
    names = (
        "u", "delta", "A", "B", "C", "D", "z", "delta_bias", "delta_softplus", "read_order", "write_order",
        "lengths", "image_length",
    )  # fmt: skip
    return calls.check_scan(*(arguments.get(name) for name in names))


# Of the normal suite; all of them are `long`.
QUICK = {"lengths_orders", "padded_low_rank", "both_orders", "one_step", "one_channel", "bare", "empty_batch"}


def quick_first(values: Iterable[Any], quick: set[Any]) -> list[Any]:
    """``values`` as parameters, those outside ``quick`` marked ``long``."""
    return [value if value in quick else pytest.param(value, marks=pytest.mark.long) for value in values]


@pytest.mark.parametrize("name", quick_first(CASES, QUICK))
def test_every_kind_of_call_in_float64(name: str) -> None:
    compare(drawn(CASES[name], batch=min(CASES[name].batch, 1)))


@pytest.mark.parametrize(
    "dtype", quick_first([torch.float32, torch.bfloat16, torch.float16], {torch.bfloat16})
)
def test_largest_interpreted_size_with_padding_in_low_precision(dtype: torch.dtype) -> None:
    case = ScanCase(
        rank=3, read="padded", rows=49, dim=32, states=8, batch=1, directions=1, shared_u=True, dtype=dtype
    )
    compare(drawn(case), exact=True, dtype=dtype)


def test_bfloat16_activations_with_float32_parameters() -> None:
    arguments = drawn(ScanCase(rank=2, batch=1, dtype=torch.float32, read="order"))
    for name in ("u", "B", "C", "z"):
        arguments[name] = arguments[name].bfloat16()
    arguments["delta"] = (arguments["delta"][0].bfloat16(), arguments["delta"][1])
    compare(arguments, dtype=torch.bfloat16)


@pytest.mark.parametrize(
    "name", quick_first(["padded_low_rank", "longer_than_a_chunk", "lengths_orders"], {"padded_low_rank"})
)
def test_a_sequence_split_into_segments_gives_the_same(name: str) -> None:
    arguments = drawn(CASES[name], batch=1, rows=33)
    for tensor in tensors_of(arguments).values():
        tensor.requires_grad_()
    y = selective_scan(**arguments, backend="reference")
    dy = torch.randn_like(y)
    inputs = tensors_of(arguments)
    theirs = dict(zip(inputs, torch.autograd.grad(y, list(inputs.values()), dy), strict=True))
    call, tuning = planned(arguments), gpu_plan.Tuning(block=16, segments=3)
    with torch.no_grad():
        launches, ours, saved = gpu_plan.plan_forward(call, True, tuning)
        assert len(launches) == 3
        for launch in launches:
            launch.run()
        assert saved is not None
        close(ours, y, torch.float64, "y")
        launches, partial, _ = gpu_plan.plan_backward(call, saved, dy, tuning)
        for launch in launches:
            launch.run()
        gradients = gpu_plan.finish(call, partial)
    gradients["delta[0]"], gradients["delta[1]"] = gradients["delta"], gradients["delta_weight"]
    for name, gradient in theirs.items():
        close(gradients[name], gradient, torch.float64, f"gradient of {name}")


@pytest.mark.long
def test_slices_of_one_projection_are_read_in_place_and_correctly() -> None:
    """Every batch element of tensors cut from a wider one, with gradients that arrive expanded."""
    directions, rows, dim, states, rank = 2, 10, 5, 3, 2
    draw = torch.Generator().manual_seed(3)
    projected = torch.randn(
        3, directions, rows, rank + 2 * states, generator=draw, dtype=torch.float64, requires_grad=True
    )
    tokens = torch.randn(3, rows, 2 * dim, generator=draw, dtype=torch.float64, requires_grad=True)
    parameters = drawn(ScanCase(dim=dim, states=states, rank=rank, directions=directions))
    orders = random_order(draw, directions, rows, rows)

    def run(backend: str) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        low, B, C = projected.split([rank, states, states], dim=-1)
        y = selective_scan(
            tokens[..., :dim].unsqueeze(1), (low, parameters["delta"][1]), parameters["A"], B, C,
            parameters["D"], tokens[..., dim:], read_order=orders, backend=backend,
        )  # fmt: skip
        weights = torch.arange(dim, dtype=torch.float64)
        return y, torch.autograd.grad((y.sum((0, 1, 2)) * weights).sum(), (projected, tokens))

    (ours, our_gradients), (theirs, their_gradients) = run("cuda"), run("reference")
    close(ours, theirs, torch.float64, "y")
    for ours, theirs in zip(our_gradients, their_gradients, strict=True):
        close(ours, theirs, torch.float64, "gradient")


def test_transposed_inputs_and_output_gradients() -> None:
    arguments = drawn(ScanCase(rows=9))
    for name in ("u", "B", "C"):
        arguments[name] = arguments[name].transpose(2, 3).contiguous().transpose(2, 3)
    arguments["z"] = arguments["z"].transpose(0, 1).contiguous().transpose(0, 1)
    dy = torch.randn(2, 9, 2, 5, dtype=torch.float64).transpose(1, 2)
    compare(arguments, dy=dy)


@pytest.mark.filterwarnings("ignore:overflow encountered in exp2")  # whose limit is what is wanted
def test_extreme_time_steps_stay_exact_in_float32() -> None:
    """Softplus has no threshold, and decays underflow to zero instead of going wrong."""
    arguments = drawn(ScanCase(batch=1, directions=1, rows=9, dtype=torch.float32, bias=False))
    extremes = torch.tensor([-90.0, -30.0, -10.0, -1e-3, 0.0, 1e-3, 15.0, 25.0, 80.0])
    arguments["delta"] = extremes[None, None, :, None].expand(1, 1, 9, 5).clone()
    compare(arguments, exact=True)


def test_relabelling_rows_and_orders_together_changes_nothing() -> None:
    for seed in range(3):
        draw = torch.Generator().manual_seed(seed)
        arguments = drawn(ScanCase(batch=1, rows=8, seed=seed, read="order", write="order", gate=False))
        relabel = torch.randperm(8, generator=draw)
        moved = dict(arguments)
        for name in ("u", "delta", "B", "C"):
            moved[name] = torch.empty_like(arguments[name]).index_copy(2, relabel, arguments[name])
        moved["read_order"] = relabel[arguments["read_order"].long()].int()
        y = selective_scan(**arguments, backend="cuda")
        assert torch.equal(y, selective_scan(**moved, backend="cuda")), f"seed {seed}"


CONVOLUTIONS = {
    "plain": ({"batch": 2, "rows": 11, "dim": 5, "directions": 2, "width": 4}, None, None),
    "padded_with_lengths": ({"batch": 2, "rows": 11, "dim": 5, "directions": 3, "width": 4}, 13, (13, 6, 0)),
    "without_bias": (
        {"batch": 1, "rows": 1, "dim": 40, "directions": 1, "width": 4, "bias": False},
        None,
        None,
    ),
    "longer_than_a_block": ({"batch": 2, "rows": 37, "dim": 33, "directions": 2, "width": 3}, 30, None),
    "one_tap": ({"batch": 1, "rows": 20, "dim": 64, "directions": 2, "width": 1}, None, None),
    "empty_batch": ({"batch": 0, "rows": 5, "dim": 4, "directions": 1, "width": 4}, None, None),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution_of_sliced_tokens(name: str) -> None:
    sizes, steps, lengths = CONVOLUTIONS[name]
    arguments = conv_arguments(**sizes, dtype=torch.float64)
    if steps is not None:
        draw = torch.Generator().manual_seed(1)
        arguments["read_order"] = random_order(draw, sizes["directions"], steps, sizes["rows"])
    compare(arguments | {"lengths": lengths}, function=causal_conv)


def test_convolution_in_bfloat16() -> None:
    arguments = conv_arguments(batch=2, rows=49, dim=32, directions=2, width=4, dtype=torch.bfloat16)
    compare(arguments, function=causal_conv, exact=True, dtype=torch.bfloat16)


def test_the_registered_operation_agrees_with_its_fake_one() -> None:
    arguments = drawn(ScanCase(batch=1, rows=5, rank=2, dtype=torch.float32))
    for tensor in tensors_of(arguments).values():
        tensor.requires_grad_()
    compare(arguments)  # claims the CPU device for the interpreted kernels
    call = planned(arguments)
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(ops.scan, (*ops.flat(call), True), test_utils=tests)
    conv = conv_arguments(batch=1, rows=5, dim=4, directions=2, width=4, dtype=torch.float32)
    leaves = [conv[name].detach().requires_grad_() for name in ("x", "weight", "bias")]
    torch.library.opcheck(ops.conv, (*leaves, None, (5, 5), 5), test_utils=tests)


def test_outputs_nobody_writes_are_zero() -> None:
    order = torch.tensor([[3, -1, 0]], dtype=torch.int32)
    arguments = drawn(ScanCase(batch=1, directions=1, rows=3, gate=False))
    arguments |= {"write_order": order, "image_length": 5}
    y = selective_scan(**arguments, backend="cuda")
    assert (y[0, 0, [1, 2, 4]] == 0).all()
    assert (y[0, 0, [0, 3]] != 0).any()
    assert torch.allclose(y, reference.scan_loop(planned(arguments)))
