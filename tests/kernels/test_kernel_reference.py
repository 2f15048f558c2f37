"""The plain torch forms: equal to each other, differentiable twice, and strict about their arguments."""

import pytest
import torch
from scansearch_kernels import available_backends, causal_conv, selective_scan
from scansearch_kernels.reference import scan_chunked, scan_loop
from support.scan_cases import CASES, check, gradients, random_order
from torch import Tensor


@pytest.mark.parametrize("name", CASES)
def test_chunked_form_equals_the_loop(name: str) -> None:
    arguments, _ = CASES[name].arguments()
    call = check(**arguments)
    expected = scan_loop(call)
    for chunk in (1, 3, 16, 64):
        torch.testing.assert_close(scan_chunked(call, chunk), expected, rtol=1e-12, atol=1e-12)


def test_second_derivatives_of_the_reference_are_right() -> None:
    draw = torch.Generator().manual_seed(5)
    order = random_order(draw, 2, 5, 4)
    shapes = [
        (1, 1, 4, 2),
        (1, 2, 4, 1),
        (2, 2, 1),
        (2, 2, 2),
        (1, 2, 4, 2),
        (1, 2, 4, 2),
        (2, 2),
        (1, 4, 2),
        (2, 2),
    ]
    values = [torch.randn(shape, generator=draw, dtype=torch.float64).requires_grad_() for shape in shapes]

    def scan(*tensors: Tensor) -> Tensor:
        u, low, weight, A, B, C, D, z, bias = tensors
        return selective_scan(
            u,
            (low, weight),
            -A.exp(),
            B,
            C,
            D,
            z,
            bias,
            read_order=order,
            lengths=(5, 4),
            backend="reference",
        )

    assert torch.autograd.gradcheck(scan, values)
    assert torch.autograd.gradgradcheck(scan, values)


def test_second_derivatives_of_the_convolution_are_right() -> None:
    draw = torch.Generator().manual_seed(6)
    order = random_order(draw, 2, 6, 4)
    values = [
        torch.randn(shape, generator=draw, dtype=torch.float64).requires_grad_()
        for shape in [(1, 4, 2), (2, 2, 3), (2, 2)]
    ]

    def conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return causal_conv(x, weight, bias, read_order=order, lengths=(6, 2), backend="reference")

    assert torch.autograd.gradcheck(conv, values)
    assert torch.autograd.gradgradcheck(conv, values)


def test_convolution_is_torchs_with_left_padding() -> None:
    draw = torch.Generator().manual_seed(7)
    x = torch.randn(2, 9, 5, generator=draw, dtype=torch.float64)
    weight = torch.randn(3, 5, 4, generator=draw, dtype=torch.float64)
    bias = torch.randn(3, 5, generator=draw, dtype=torch.float64)
    for backend in ("reference", "cpu"):
        ours = causal_conv(x, weight, bias, backend=backend)
        for direction in range(3):
            padded = torch.nn.functional.pad(x.transpose(1, 2), (3, 0))
            theirs = torch.conv1d(padded, weight[direction][:, None], bias[direction], groups=5)
            torch.testing.assert_close(ours[:, direction], torch.nn.functional.silu(theirs).transpose(1, 2))


def test_costs_stop_at_each_directions_length() -> None:
    arguments, _ = CASES["lengths"].arguments()
    y = selective_scan(**arguments, backend="reference")
    assert y[:, 1, 4:].abs().max() == 0
    assert y[:, 2].abs().max() == 0
    assert y[:, 1, :4].abs().min() > 0


BAD = {
    "u": ({"u": torch.zeros(2, 3, 4)}, r"u must be \[batch, 1 or directions, rows, dim\], got \[2, 3, 4\]"),
    "directions": ({"u": torch.zeros(2, 5, 11, 5)}, "u must have 1 or 2 directions"),
    "A": ({"A": torch.zeros(2, 4, 3)}, r"A must have shape \[2, 5, 3\], got \[2, 4, 3\]"),
    "delta": ({"delta": torch.zeros(2, 2, 11, 4)}, r"delta must have shape \[2, 2, 11, 5\]"),
    "pair": ({"delta": (torch.zeros(2, 2, 11, 2), torch.zeros(2, 5, 3))}, "low-rank delta must have shape"),
    "B": ({"B": torch.zeros(2, 2, 11, 4)}, "B must have shape"),
    "C": ({"C": torch.zeros(2, 1, 11, 3)}, "C must have shape"),
    "D": ({"D": torch.zeros(5)}, "D must have shape"),
    "z": ({"z": torch.zeros(2, 11, 4)}, r"z must be \[2, image length, 5\]"),
    "bias": ({"delta_bias": torch.zeros(2, 1)}, "delta_bias must have shape"),
    "kind": ({"u": torch.zeros(2, 2, 11, 5, dtype=torch.int32)}, "floating point"),
    "order type": ({"read_order": torch.zeros(2, 11, dtype=torch.int64)}, "read_order must be int32"),
    "order shape": (
        {"read_order": torch.zeros(3, 11, dtype=torch.int32)},
        r"read_order must be \[2, steps\]",
    ),
    "order range": (
        {"read_order": torch.tensor([[0, 11], [0, 1]], dtype=torch.int32)},
        "read_order must hold indices from -1 to 10, got 0 to 11",
    ),
    "order twice": (
        {"read_order": torch.tensor([[3, 3], [0, 1]], dtype=torch.int32)},
        "read_order must not visit an index twice",
    ),
    "write steps": (
        {"write_order": torch.tensor([[3], [0]], dtype=torch.int32)},
        "write_order must have 11 steps",
    ),
    "lengths": ({"lengths": (1, 12)}, r"lengths must lie in 0..11, got \[1, 12\]"),
    "lengths count": ({"lengths": (1,)}, "lengths must have 2 entries"),
    "length": ({"image_length": 12}, "image_length is 12 but z has 11"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_are_one_clear_line(name: str) -> None:
    arguments, _ = CASES["plain"].arguments()
    change, text = BAD[name]
    with pytest.raises(ValueError, match=text) as caught:
        selective_scan(**{**arguments, **change})
    assert "\n" not in str(caught.value)


def test_image_length_must_be_known() -> None:
    arguments, _ = CASES["write_dropped"].arguments()
    del arguments["image_length"]
    with pytest.raises(ValueError, match="image_length must be given"):
        selective_scan(**arguments)


def test_an_order_changed_in_place_is_checked_again() -> None:
    arguments, _ = CASES["shared_u"].arguments()
    selective_scan(**arguments)
    arguments["read_order"][0, 0] = 99
    with pytest.raises(ValueError, match="got 0 to 99"):
        selective_scan(**arguments)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"x": torch.zeros(2, 9)}, r"x must be \[batch, rows, dim\]"),
        ({"weight": torch.zeros(3, 4, 4)}, "weight must have shape"),
        ({"weight": torch.zeros(3, 5, 0)}, "without empty axes"),
        ({"bias": torch.zeros(3, 4)}, "bias must have shape"),
        ({"lengths": (9, 9, 10)}, "lengths must lie in 0..9"),
    ],
)
def test_bad_convolution_arguments_are_one_clear_line(change: dict, text: str) -> None:
    arguments = {"x": torch.zeros(2, 9, 5), "weight": torch.zeros(3, 5, 4), "bias": None}
    with pytest.raises(ValueError, match=text):
        causal_conv(**{**arguments, **change})


def test_backend_is_chosen_by_argument_then_variable_then_device(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments, _ = CASES["plain"].arguments()
    reference = selective_scan(**arguments, backend="reference")
    default = selective_scan(**arguments)
    assert torch.equal(default, selective_scan(**arguments, backend="cpu"))
    assert not torch.equal(default, reference)  # other roundings
    monkeypatch.setenv("SCANSEARCH_BACKEND", "reference")
    assert torch.equal(selective_scan(**arguments), reference)
    assert torch.equal(selective_scan(**arguments, backend="cpu"), default)
    monkeypatch.setenv("SCANSEARCH_BACKEND", "fastest")
    with pytest.raises(ValueError, match=r"SCANSEARCH_BACKEND must be one of .*cpu.*, got 'fastest'"):
        selective_scan(**arguments)
    with pytest.raises(ValueError, match="backend must be one of"):
        selective_scan(**arguments, backend="none")
    assert {"reference", "cpu"} <= set(available_backends())


def test_gradients_reach_every_argument() -> None:
    arguments, learned = CASES["low_rank_order"].arguments()
    assert len(gradients(arguments, learned, "reference")[1]) == len(learned) + 1
