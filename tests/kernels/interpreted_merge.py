"""The GPU kernels that merge branches, in Triton's interpreter, against the plain form. Run by test_gpu_interpreted.py.

Memory that a kernel should have written but did not is NaN here.
"""

from collections.abc import Iterator

import pytest
import torch
from scansearch_kernels import merge
from scansearch_kernels.gpu import merge as gpu_merge
from scansearch_kernels.gpu.launch import interpreted
from support.merge_checks import KINDS, compare_means, compare_sum, drawn

if not interpreted():
    pytest.skip("TRITON_INTERPRET=1 must be set before Triton is imported", allow_module_level=True)


@pytest.fixture(autouse=True)
def interpreted_kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SCANSEARCH_BACKEND", "cuda")
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)  # fills torch.empty with NaN
    yield
    torch.use_deterministic_algorithms(False)


SHAPES = [  # batch, directions, length, dim: of several rows per tile, of several strips, of padded tiles
    (2, 3, 5, 24),
    (1, 1, 1, 1),
    (1, 1, 7, 64),
    (3, 2, 1, 100),
    (1, 4, 9, 192),
    pytest.param((1, 2, 1100, 16), marks=pytest.mark.long),
    pytest.param((1, 2, 35, 600), marks=pytest.mark.long),
    (2, 1, 3, 1536),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_sum_and_its_gradients_in_float64(shape: tuple[int, ...], kind: str) -> None:
    compare_sum(drawn(shape, torch.float64), kind)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_means_and_their_gradient_in_float64(shape: tuple[int, ...]) -> None:
    compare_means(drawn(shape, torch.float64)[0])


@pytest.mark.parametrize(
    "dtype",
    [torch.float32, torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.long)],
)
@pytest.mark.parametrize("kind", KINDS)
def test_low_precision_is_rounded_once(dtype: torch.dtype, kind: str) -> None:
    """With float32 gates and channel factors beside 16-bit branches, as under autocast."""
    y, channel, gates = drawn((2, 2, 37, 24), dtype)
    for other in (dtype, torch.float32):
        compare_sum((y, channel.to(other), gates.float()), kind)
    compare_means(y)


@pytest.mark.parametrize(
    "kind", [kind if kind == "both" else pytest.param(kind, marks=pytest.mark.long) for kind in KINDS]
)
def test_strides_of_the_caller_are_read(kind: str) -> None:
    """Slices, another order of axes, a last axis that is not contiguous, and expanded gradients."""
    y, channel, gates = drawn((2, 4, 6, 40), torch.float64)
    for other in (
        y[1:, ::2, 1:5, 3:27],
        y.transpose(0, 1).contiguous().transpose(0, 1),
        y.transpose(1, 2).contiguous().transpose(1, 2),
        y.transpose(2, 3).contiguous().transpose(2, 3),
        y[:, :1].expand(-1, 4, -1, -1),
    ):
        if kind == "neither":
            compare_means(other)
        parts = channel[: len(other), : other.shape[1], : other.shape[3]], gates[: other.shape[1]]
        compare_sum((other, *parts), kind)
        compare_sum((other, *parts), kind, weight=torch.ones((), dtype=torch.float64))


def test_rows_without_variance_stay_finite() -> None:
    y, channel, gates = drawn((1, 2, 3, 33), torch.float64)
    constant = torch.full_like(y, 7.0)
    for kind in KINDS:
        compare_sum((constant, torch.ones_like(channel), gates), kind)
    compare_means(constant)


@pytest.mark.long
def test_runs_agree_in_every_bit() -> None:
    y, channel, gates = (part.requires_grad_() for part in drawn((1, 2, 40, 500), torch.float32))
    runs = []
    for _ in range(2):
        out = merge.branch_sum(y, channel * merge.branch_means(y).sigmoid(), gates)
        runs.append((out, *torch.autograd.grad(out.square().sum(), (y, channel, gates))))
    assert all(torch.equal(one, two) for one, two in zip(*runs, strict=True))


def test_second_derivatives_come_from_the_plain_form() -> None:
    y, channel, gates = (part.requires_grad_() for part in drawn((1, 2, 1, 3), torch.float64))
    assert merge.fused(y, channel, gates) is gpu_merge
    assert torch.autograd.gradgradcheck(merge.branch_sum, (y, channel, gates))
    assert torch.autograd.gradgradcheck(merge.branch_means, (y,))


def test_what_the_kernels_do_not_serve_takes_the_plain_form() -> None:
    assert merge.fused(torch.randn(1, 1, 1, gpu_merge.WIDEST + 1)) is None
    assert merge.fused(torch.ones(1, 1, 2, 3, dtype=torch.int32)) is None
    assert merge.fused(torch.randn(0, 1, 2, 3)) is None
    assert merge.fused(torch.randn(1, 1, 2, 3, device="meta")) is None
