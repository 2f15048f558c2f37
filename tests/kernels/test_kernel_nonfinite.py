"""NaN and infinity come out of the CPU kernels where they come out of the definition, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from scansearch_kernels import causal_conv, merge, selective_scan
from scansearch_kernels.calls import check_conv
from scansearch_kernels.reference import causal_conv as conv_by_definition
from scansearch_kernels.reference import scan_loop
from support.scan_cases import ScanCase, check, random_order
from torch import Tensor

NAN, INF = float("nan"), float("inf")
VALUES = {"nan": NAN, "inf": INF, "minus_inf": -INF}
DTYPES = {"float32": torch.float32, "float64": torch.float64}
SEEDS = range(4)  # where the value is put


def kinds(tensor: Tensor) -> Tensor:
    """0 where a number is finite, 1 where it is NaN, 2 and 3 where it is plus and minus infinity."""
    return torch.isnan(tensor) + 2 * (tensor == INF) + 3 * (tensor == -INF)


def spoiled(tensor: Tensor, value: float, seed: int) -> Tensor:
    """A copy with `value` at one random element."""
    copy = tensor.detach().clone()
    copy.view(-1)[torch.randint(copy.numel(), (), generator=torch.Generator().manual_seed(seed))] = value
    return copy


def outputs(function: Callable[..., Tensor], given: dict[str, Tensor]) -> dict[str, Tensor]:
    """y of a function of the tensors, and the gradients of a random functional of it."""
    leaves = {name: tensor.detach().clone().requires_grad_() for name, tensor in given.items()}
    y = function(**leaves)
    dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64).to(y.dtype)
    gradients = torch.autograd.grad(y, list(leaves.values()), dy)
    return {"y": y.detach(), **{f"d{name}": tensor for name, tensor in zip(leaves, gradients, strict=True)}}


def compare(
    kernel: Callable[..., Tensor], definition: Callable[..., Tensor], given: dict[str, Tensor]
) -> dict[str, Tensor]:
    """The outputs of the kernel, shown to be of the kinds of the definition's."""
    ours, exact = outputs(kernel, given), outputs(definition, given)
    for name, tensor in ours.items():
        where = (kinds(tensor) != kinds(exact[name])).nonzero().tolist()
        assert not where, (
            f"{name} at {where[:3]}: {[(float(tensor[*at]), float(exact[name][*at])) for at in where[:3]]}"
        )
    return ours


# --- the scan ---

SCANS = {
    "full": ScanCase(),
    "whole_vectors": ScanCase(dim=16, states=4, rows=19),
    "one_channel": ScanCase(batch=1, dim=1, states=1, rows=4),
    "one_channel_two_states": ScanCase(batch=1, dim=1, states=2, rows=18, bias=False),
    "low_rank": ScanCase(rank=2, read="order"),
    "low_rank_padded": ScanCase(rank=1, dim=3, read="padded", shared_u=True, gate=False),
    "no_softplus": ScanCase(softplus=False),
    "many_channels": ScanCase(dim=67, states=5, rows=18, read="padded"),
    "dropped": ScanCase(directions=3, read="padded", write="dropped", lengths=(14, 1, 7), shared_u=True),
    "lengths": ScanCase(directions=3, rank=2, lengths=(11, 4, 0)),
}  # fmt: skip


def scan_tensors(case: ScanCase, dtype: torch.dtype) -> tuple[dict[str, Tensor], Callable[..., Any]]:
    """The tensors of a call by name, and a function that turns them back into arguments."""
    arguments, learned = case.arguments()
    tensors = {name: arguments[name] for name in learned}
    if case.rank:
        tensors["delta"], tensors["delta_weight"] = arguments["delta"]
    rest = {name: value for name, value in arguments.items() if name not in learned}

    def built(**given: Tensor) -> dict[str, Any]:
        if case.rank:
            given["delta"] = (given["delta"], given.pop("delta_weight"))  # type: ignore[assignment]
        return {**given, **rest}

    return {name: tensor.to(dtype) for name, tensor in tensors.items()}, built


def compare_scan(tensors: dict[str, Tensor], built: Callable[..., Any]) -> dict[str, Tensor]:
    return compare(
        lambda **given: selective_scan(**built(**given), backend="cpu"),
        lambda **given: scan_loop(check(**built(**given))),
        tensors,
    )


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES.keys())
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
@pytest.mark.parametrize("case", SCANS.values(), ids=SCANS.keys())
def test_the_scan_has_nan_and_infinity_where_its_definition_has(
    case: ScanCase, value: float, dtype: torch.dtype
) -> None:
    tensors, built = scan_tensors(case, dtype)
    for name in tensors:
        for seed in SEEDS:
            compare_scan({**tensors, name: spoiled(tensors[name], value, seed)}, built)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES.keys())
@pytest.mark.parametrize("name", ["u", "delta", "delta_weight", "A", "B", "C", "D", "z", "delta_bias"])
def test_nan_in_any_input_of_the_scan_reaches_its_output_and_a_gradient(
    name: str, dtype: torch.dtype
) -> None:
    tensors, built = scan_tensors(ScanCase(rank=2), dtype)
    found = compare_scan({**tensors, name: spoiled(tensors[name], NAN, 0)}, built)
    assert torch.isnan(found["y"]).any()
    assert any(torch.isnan(found[f"d{other}"]).any() for other in tensors)


@pytest.mark.parametrize("name", ["u", "delta", "A", "B", "C", "D", "z", "delta_bias"])
def test_a_nan_of_any_bits_is_one(name: str) -> None:
    tensors, built = scan_tensors(ScanCase(dim=16), torch.float32)
    for bits in (-1, 0x7FC00001, 0x7F800001, -0x7FFFFF):
        value = torch.tensor(bits, dtype=torch.int32).view(torch.float32)
        tensor = tensors[name].clone()
        tensor.view(-1)[3] = value
        assert torch.isnan(tensor).sum() == 1
        found = compare_scan({**tensors, name: tensor}, built)
        assert torch.isnan(found["y"]).any()


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES.keys())
def test_decays_overflow_to_infinity_and_underflow_to_zero(dtype: torch.dtype) -> None:
    """One step into a state of 1 and one with the decay exp(delta A), whose exponent may be anything."""
    exponents = [-INF, -1e9, -800.0, 0.0, 80.0, 800.0, 1e9, INF, NAN]
    delta = torch.ones(1, 1, 2, len(exponents), dtype=dtype)
    delta[0, 0, 1] = torch.tensor(exponents, dtype=dtype)
    A = torch.ones(1, len(exponents), 1, dtype=dtype)
    u = torch.ones_like(delta)
    u[0, 0, 1] = 0
    ones = torch.ones(1, 1, 2, 1, dtype=dtype)
    y = selective_scan(u, delta, A, ones, ones, delta_softplus=False, backend="cpu")[0, 0, 1]
    right = torch.exp(delta[0, 0, 1]) + delta[0, 0, 1] * 0
    torch.testing.assert_close(y, right, equal_nan=True)


# --- the convolution ---

CONVS = {
    "plain": (2, 9, 5, 3, 4, "none", None),
    "order": (2, 9, 18, 3, 4, "order", (9, 3, 0)),
    "one_tap": (1, 6, 16, 1, 1, "padded", None),
    "wide": (2, 5, 4, 2, 7, "padded", (8, 2)),
}


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES.keys())
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
@pytest.mark.parametrize("case", CONVS.values(), ids=CONVS.keys())
def test_the_convolution_has_nan_and_infinity_where_its_definition_has(
    case: tuple[int, int, int, int, int, str, Any], value: float, dtype: torch.dtype
) -> None:
    batch, rows, dim, directions, width, mode, lengths = case
    draw = torch.Generator().manual_seed(11)
    shapes = {"x": (batch, rows, dim), "weight": (directions, dim, width), "bias": (directions, dim)}
    tensors = {name: torch.randn(*shape, generator=draw).to(dtype) for name, shape in shapes.items()}
    steps = rows + 3 * (mode == "padded")
    order = None if mode == "none" else random_order(draw, directions, steps, rows)
    for name in tensors:
        for seed in SEEDS:
            compare(
                lambda **given: causal_conv(**given, read_order=order, lengths=lengths, backend="cpu"),
                lambda x, weight, bias: conv_by_definition(check_conv(x, weight, bias, order, lengths)),
                {**tensors, name: spoiled(tensors[name], value, seed)},
            )


# --- the merge ---


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES.keys())
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
@pytest.mark.parametrize("present", [(), ("channel",), ("gates",), ("channel", "gates")], ids="-".join)
def test_the_sum_of_branches_has_nan_and_infinity_where_its_plain_form_has(
    present: tuple[str, ...], value: float, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCANSEARCH_BACKEND", "cpu")
    draw = torch.Generator().manual_seed(5)
    shapes = {"y": (2, 3, 4, 16), "channel": (2, 3, 16), "gates": (3,)}
    tensors = {name: torch.randn(*shapes[name], generator=draw).to(dtype) for name in ("y", *present)}

    def plain(y: Tensor, channel: Tensor | None = None, gates: Tensor | None = None) -> Tensor:
        return merge.branch_sum_plain(y, channel, gates)

    for name in tensors:
        for seed in SEEDS:
            given = {**tensors, name: spoiled(tensors[name], value, seed)}
            assert merge.fused(*given.values()) is not None
            compare(merge.branch_sum, plain, given)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES.keys())
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
def test_the_means_of_branches_have_nan_and_infinity_where_their_plain_form_has(
    value: float, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCANSEARCH_BACKEND", "cpu")
    y = torch.randn(2, 3, 4, 16, generator=torch.Generator().manual_seed(5)).to(dtype)
    for seed in SEEDS:
        compare(merge.branch_means, merge.branch_means_plain, {"y": spoiled(y, value, seed)})
