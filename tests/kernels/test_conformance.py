"""What every backend must do: the contract of the two public functions, beside the loop that defines it.

Each backend has tests of its own that go deeper; these are few, and a new line in `MODULES` is enough to run them.
"""

import importlib
import itertools

import pytest
import torch
import torch.nn.functional as F
from scansearch_kernels import available_backends, backends, causal_conv, selective_scan
from torch import Tensor

DEVICE = {"cuda": "cuda", "mamba_ssm": "cuda"}


@pytest.fixture(params=list(backends.MODULES))
def backend(request: pytest.FixtureRequest) -> str:
    """Every registered backend; those that cannot run here are skipped with their own reason."""
    if request.param not in available_backends():
        pytest.skip(f"{request.param}: {backends._missing(request.param)}")
    if DEVICE.get(request.param, "cpu") == "cuda" and not torch.cuda.is_available():
        pytest.skip(f"{request.param} needs a CUDA device")
    return request.param


def loop(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    z: Tensor,
    bias: Tensor,
    order: Tensor,
) -> Tensor:
    """The docstring of `selective_scan`, one step, direction and image at a time, read and written in `order`."""
    batch, directions, _, dim = delta.shape
    y = torch.zeros(batch, directions, z.shape[1], dim, dtype=u.dtype)
    for image, k in itertools.product(range(batch), range(directions)):
        state = torch.zeros(dim, A.shape[2], dtype=u.dtype)
        for row in order[k].tolist():
            inside = 0.0 if row < 0 else 1.0
            step = F.softplus(inside * delta[image, k, row] + bias[k])[:, None]
            x = inside * u[image, k if u.shape[1] > 1 else 0, row]
            state = torch.exp(step * A[k]) * state + step * inside * B[image, k, row] * x[:, None]
            if row >= 0:
                out = (state * C[image, k, row]).sum(1) + D[k] * x
                y[image, k, row] = out * F.silu(z[image, row])
    return y


def scan_arguments(batch: int, directions: int, rows: int, dim: int, states: int) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(7)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    order = torch.stack([torch.randperm(rows, generator=draw) for _ in range(directions)]).int()
    padded = torch.cat([order[:, :1], torch.full((directions, 2), -1), order[:, 1:]], 1).int()
    return {
        "u": normal(batch, directions, rows, dim),
        "delta": normal(batch, directions, rows, dim),
        "A": -torch.exp(normal(directions, dim, states)),
        "B": normal(batch, directions, rows, states),
        "C": normal(batch, directions, rows, states),
        "D": normal(directions, dim),
        "z": normal(batch, rows, dim),
        "delta_bias": normal(directions, dim),
        "read_order": padded,
    }


# (batch, directions, rows, dim, states)
SIZES = [(1, 1, 1, 1, 1), (2, 3, 7, 5, 2), (1, 2, 49, 16, 16), (3, 1, 10, 33, 4)]


def on(device: str, arguments: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """The same on another device and in another floating-point type."""
    return {
        name: value.to(device, dtype if value.is_floating_point() else value.dtype)
        for name, value in arguments.items()
    }


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_scan_and_gradients_equal_the_loop(backend: str, size: tuple[int, ...]) -> None:
    exact = scan_arguments(*size)
    learned = [name for name, value in exact.items() if value.is_floating_point()]
    leaves = {name: exact[name].clone().requires_grad_() for name in learned}
    expected = loop(
        *(leaves[n] for n in ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")), exact["read_order"]
    )
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    gradients = torch.autograd.grad((expected * weights).sum(), list(leaves.values()))

    device = DEVICE.get(backend, "cpu")
    ours = on(device, exact, torch.float32)
    for name in learned:
        ours[name].requires_grad_()
    y = selective_scan(**ours, backend=backend)
    assert y.dtype == torch.float32
    assert y.device.type == device
    torch.testing.assert_close(y.double().cpu(), expected, rtol=1e-4, atol=1e-4)
    y.backward(weights.to(device, torch.float32))
    for name, gradient in zip(learned, gradients, strict=True):
        torch.testing.assert_close(ours[name].grad.double().cpu(), gradient, rtol=1e-3, atol=1e-3, msg=name)


@pytest.mark.parametrize(("rows", "dim", "width"), [(1, 1, 1), (9, 5, 4), (3, 17, 4)])
def test_convolution_equals_torchs(backend: str, rows: int, dim: int, width: int) -> None:
    draw = torch.Generator().manual_seed(9)
    x = torch.randn(2, rows, dim, generator=draw)
    weight, bias = torch.randn(3, dim, width, generator=draw), torch.randn(3, dim, generator=draw)
    order = torch.stack([torch.randperm(rows, generator=draw) for _ in range(3)]).int()
    device = DEVICE.get(backend, "cpu")
    y = causal_conv(
        x.to(device), weight.to(device), bias.to(device), read_order=order.to(device), backend=backend
    )
    for k in range(3):
        padded = F.pad(x[:, order[k].long()].transpose(1, 2), (width - 1, 0))
        expected = F.silu(F.conv1d(padded, weight[k][:, None], bias[k], groups=dim)).transpose(1, 2)
        torch.testing.assert_close(y[:, k].cpu(), expected, rtol=1e-4, atol=1e-5)


def test_arguments_are_left_as_they_are_and_the_result_is_the_same_again(backend: str) -> None:
    arguments = on(DEVICE.get(backend, "cpu"), scan_arguments(2, 3, 7, 5, 2), torch.float32)
    before = {name: value.clone() for name, value in arguments.items()}
    first, second = (selective_scan(**arguments, backend=backend) for _ in range(2))
    assert torch.equal(first, second)
    assert all(torch.equal(arguments[name], value) for name, value in before.items())


@pytest.mark.parametrize("name", backends.MODULES)
def test_a_backend_is_a_module_with_three_functions(name: str) -> None:
    """Also where it cannot run: it is imported, and says what is missing."""
    if importlib.util.find_spec("triton") is None and name == "cuda":
        pytest.skip("triton is not installed")
    module = importlib.import_module(backends.MODULES[name])
    for function in ("available", "selective_scan", "causal_conv"):
        assert callable(getattr(module, function))
    assert module.__doc__
    missing = backends._missing(name)
    assert missing is None or missing.strip()
