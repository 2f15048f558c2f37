"""The fused merge equals its plain definition: values, gradients, gradients of gradients, and when it steps aside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scansearch_kernels import merge
from scansearch_kernels.cpu.layout import LANES
from torch import Tensor


@pytest.fixture(autouse=True)
def cpu_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCANSEARCH_BACKEND", "cpu")
    torch.manual_seed(3)


def made(
    batch: int, directions: int, length: int, dim: int, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    """Branches that are not centred, channel factors, gates."""
    y = torch.randn(batch, directions, length, dim, dtype=dtype) * 2 + 1
    channel = torch.rand(batch, directions, dim, dtype=dtype)
    return y.requires_grad_(), channel.requires_grad_(), torch.randn(directions, dtype=dtype).requires_grad_()


def pairs(
    y: Tensor, channel: Tensor, gates: Tensor
) -> list[tuple[Callable[..., Tensor], Any, tuple[Tensor, ...]]]:
    """Fused function, plain function, inputs."""
    return [
        (merge.branch_means, merge.branch_means_plain, (y,)),
        (merge.branch_sum, merge.branch_sum_plain, (y, channel, gates)),
        (lambda a, b: merge.branch_sum(a, b), lambda a, b: merge.branch_sum_plain(a, b, None), (y, channel)),
        (
            lambda a, b: merge.branch_sum(a, None, b),
            lambda a, b: merge.branch_sum_plain(a, None, b),
            (y, gates),
        ),
        (lambda a: merge.branch_sum(a), lambda a: merge.branch_sum_plain(a, None, None), (y,)),
    ]


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 5),
    st.integers(1, 5),
    st.integers(1, 40),
    st.integers(1, 5),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_values_and_gradients_equal_the_plain_form(
    batch: int, directions: int, length: int, vectors: int, dtype: torch.dtype
) -> None:
    limit = 1e-4 if dtype == torch.float32 else 1e-11
    y, channel, gates = made(batch, directions, length, vectors * LANES[dtype], dtype)
    assert merge.fused(y, channel, gates) is not None
    for fused, plain, inputs in pairs(y, channel, gates):
        found, wanted = fused(*inputs), plain(*inputs)
        torch.testing.assert_close(found, wanted, rtol=limit, atol=limit)
        weight = torch.randn_like(wanted)
        for one, other in zip(
            torch.autograd.grad((found * weight).sum(), inputs),
            torch.autograd.grad((wanted * weight).sum(), inputs),
            strict=True,
        ):
            torch.testing.assert_close(
                one, other, rtol=limit, atol=limit * max(1.0, float(other.abs().max()))
            )


def test_first_and_second_derivatives_equal_finite_differences() -> None:
    for fused, _, inputs in pairs(*made(2, 2, 3, 8)):
        assert torch.autograd.gradcheck(fused, inputs)
        assert torch.autograd.gradgradcheck(fused, inputs)


def test_inputs_that_need_no_gradient_get_none() -> None:
    y, channel, gates = made(2, 3, 4, 16)
    (found,) = torch.autograd.grad(merge.branch_sum(y.detach(), channel.detach(), gates).sum(), gates)
    (wanted,) = torch.autograd.grad(merge.branch_sum_plain(y, channel, gates).sum(), gates)
    torch.testing.assert_close(found, wanted)
    first = torch.autograd.grad(
        merge.branch_sum(y.detach(), channel, gates).sum(), channel, create_graph=True
    )[0]
    assert first.requires_grad


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    y, channel, gates = made(5, 8, 100, 64, torch.float32)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            out = merge.branch_sum(y, channel * merge.branch_means(y).sigmoid(), gates)
            results.append((out, *torch.autograd.grad(out.square().sum(), (y, channel, gates))))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(one, two) for one, two in zip(results[0], other, strict=True))


@pytest.mark.parametrize(
    "y",
    [
        torch.randn(2, 3, 4, 13),
        torch.randn(2, 3, 4, 16).bfloat16(),
        torch.randn(2, 3, 16, 16).transpose(2, 3),
        torch.randn(0, 3, 4, 16),
        torch.randn(2, 3, 4, 16, device="meta"),
    ],
    ids=["ragged", "bfloat16", "strided", "empty", "meta"],
)
def test_other_tensors_take_the_plain_form(y: Tensor) -> None:
    assert merge.fused(y) is None
    gates = torch.rand(3, device=y.device)
    assert merge.branch_sum(y, None, gates).shape == (y.shape[0], y.shape[2], y.shape[3])
    assert merge.branch_means(y).shape == (y.shape[0], y.shape[1], y.shape[3])


def test_the_reference_backend_takes_the_plain_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCANSEARCH_BACKEND", "reference")
    assert merge.fused(torch.randn(2, 3, 4, 16)) is None


def test_function_transforms_and_compilers_take_the_plain_form() -> None:
    y, channel, gates = made(2, 3, 4, 16)
    found = torch.func.grad(lambda g: merge.branch_sum(y.detach(), channel.detach(), g).square().sum())(
        gates.detach()
    )
    (wanted,) = torch.autograd.grad(merge.branch_sum_plain(y, channel, gates).square().sum(), gates)
    torch.testing.assert_close(found, wanted)
    compiled = torch.compile(merge.branch_sum, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(y, channel, gates), merge.branch_sum(y, channel, gates))
