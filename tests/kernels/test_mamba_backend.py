"""The mamba_ssm backend against the reference, with a stand-in for the package: its pure-torch definition."""

import sys
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from scansearch_kernels import available_backends, backends, causal_conv, selective_scan
from support.gpu_checks import close, conv_arguments, tensors_of
from support.scan_cases import CASES, ScanCase, random_order
from torch import Tensor

PACKAGE = "mamba_ssm.ops.selective_scan_interface"


@pytest.fixture(autouse=True)
def nothing_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Backends found to run are remembered: a stand-in must not outlive its test."""
    monkeypatch.setattr(backends, "loaded", {})


def selective_scan_fn(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> Tensor:
    """mamba-ssm's documented meaning: u, delta [batch, dim, length], B and C [batch, groups, states, length]."""
    for tensor in (u, delta, B, C):
        assert tensor.dtype == u.dtype
    for parameter in (A, D, delta_bias):
        assert parameter is None or parameter.dtype in (torch.float32, torch.float64)
    if delta_bias is not None:
        delta = delta + delta_bias[:, None]
    if delta_softplus:
        delta = F.softplus(delta)
    B, C = (x.repeat_interleave(u.shape[1] // x.shape[1], dim=1) for x in (B, C))
    state = torch.zeros(u.shape[0], *A.shape, dtype=delta.dtype)
    outputs = []
    for step in range(u.shape[2]):
        decay = torch.exp(delta[:, :, step, None] * A)
        state = decay * state + (delta * u)[:, :, step, None] * B[..., step]
        outputs.append((state * C[..., step]).sum(-1))
    y = torch.stack(outputs, dim=2)
    y = y if D is None else y + D[:, None] * u
    return (y if z is None else y * F.silu(z)).to(u.dtype)


def installed(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> None:
    """Pretend that module `name`, and the packages it is in, are installed."""
    import importlib.machinery

    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        path = ".".join(parts[:end])
        module = ModuleType(path)
        module.__spec__ = importlib.machinery.ModuleSpec(path, None)
        monkeypatch.setitem(sys.modules, path, module)
    for member, value in members.items():
        setattr(sys.modules[name], member, value)


@pytest.mark.parametrize("name", [name for name in CASES if name != "empty_batch"])
def test_every_kind_of_call_equals_the_reference(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, PACKAGE, selective_scan_fn=selective_scan_fn)
    assert "mamba_ssm" in available_backends()
    arguments, _ = CASES[name].arguments()
    inputs = {key: tensor.requires_grad_() for key, tensor in tensors_of(arguments).items()}
    ours = selective_scan(**arguments, backend="mamba_ssm")
    theirs = selective_scan(**arguments, backend="reference")
    # float64 all through, but for softplus's threshold in the package
    close(ours, theirs, torch.float64, "y")
    dy = torch.randn_like(theirs)
    gradients = (torch.autograd.grad(y, list(inputs.values()), dy) for y in (ours, theirs))
    for key, ours_of, theirs_of in zip(inputs, *gradients, strict=True):
        close(ours_of, theirs_of, torch.float64, f"gradient of {key}")


def test_parameters_stay_float32_beside_bfloat16_activations(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, PACKAGE, selective_scan_fn=selective_scan_fn)
    arguments, _ = ScanCase(rank=2, read="order", dtype=torch.float32).arguments()
    for name in ("u", "B", "C", "z"):
        arguments[name] = arguments[name].bfloat16()
    ours = selective_scan(**arguments, backend="mamba_ssm")
    assert ours.dtype == torch.bfloat16
    close(ours, selective_scan(**arguments, backend="reference"), torch.bfloat16, "y")


@pytest.mark.parametrize("package", [True, False])
def test_convolution_with_and_without_its_package(package: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def causal_conv1d_fn(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
        assert activation == "silu"
        calls.append(x.shape)
        padded = F.pad(x, (weight.shape[1] - 1, 0))
        return F.silu(F.conv1d(padded, weight[:, None], bias, groups=x.shape[1]))

    installed(monkeypatch, PACKAGE, selective_scan_fn=selective_scan_fn)
    if package:
        installed(monkeypatch, "causal_conv1d", causal_conv1d_fn=causal_conv1d_fn)
    arguments = conv_arguments(batch=2, rows=11, dim=5, directions=3, width=4, dtype=torch.float64)
    order = random_order(torch.Generator().manual_seed(0), 3, 13, 11)
    arguments |= {"read_order": order, "lengths": (13, 6, 0)}
    ours = causal_conv(**arguments, backend="mamba_ssm")
    close(ours, causal_conv(**arguments, backend="reference"), torch.float64, "y")
    assert bool(calls) == package


@pytest.mark.skipif("mamba_ssm" in available_backends(), reason="mamba-ssm is installed")
def test_absent_package_is_a_clear_error_that_says_how_to_install_it() -> None:
    arguments, _ = ScanCase().arguments()
    with pytest.raises(RuntimeError, match=r"mamba-ssm is not installed.*pip install.*scansearch\[mamba\]"):
        selective_scan(**arguments, backend="mamba_ssm")


def test_the_package_is_not_imported_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "mamba_ssm")
    monkeypatch.setitem(sys.modules, "mamba_ssm.ops", None)  # importing it now raises ImportError
    assert "mamba_ssm" in available_backends()
    arguments, _ = ScanCase().arguments()
    selective_scan(**arguments, backend="reference")


def test_cuda_without_a_device_is_a_clear_error() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    arguments, _ = ScanCase().arguments()
    with pytest.raises(RuntimeError, match="backend 'cuda' cannot run here: it needs a CUDA device"):
        selective_scan(**arguments, backend="cuda")
    assert backends.DEFAULTS["cuda"] == "cuda"
