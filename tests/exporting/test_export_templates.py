"""The models in plain torch compute what scansearch's own do: orders, scans, logits, gradients, initial weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scansearch_kernels import selective_scan
from torch import Tensor

from scansearch.directions import parse_direction
from scansearch.exporting.targets.standalone_file import CLASSES
from scansearch.exporting.templates import local_vim, shared
from scansearch.models import build_model

LAYERS = (("h", "v_flip", "w7", "w2_flip"), ("h_flip", "v", "w2"), ("w7_flip", "w3"))
RELEASED = {"window_padding": "zero", "dt_init": "released"}
VIM: dict[str, Any] = {"img_size": 28, "patch_size": 4, "embed_dim": 16, "states": 4, "num_classes": 5}
VMAMBA: dict[str, Any] = {
    "dims": (8, 16), "depths": (1, 2), "patch_size": 2, "img_size": 28, "states": 4, "num_classes": 5
}  # fmt: skip
MIDDLE = {"class_token": "middle", "rope": False}

CASES: dict[str, tuple[str, dict[str, Any], tuple[int, int]]] = {
    "local_vim": ("local_vim", VIM, (28, 28)),
    "released, another size": ("local_vim", VIM | RELEASED | {"rope_resize": "tables"}, (36, 36)),
    "middle token": ("local_vim", VIM | RELEASED | MIDDLE, (28, 28)),
    "middle token with rope, another oblong": ("local_vim", VIM | {"class_token": "middle"}, (30, 22)),
    "oblong": ("local_vim", VIM, (20, 44)),
    "spatial attention": (
        "local_vim",
        VIM
        | {"norm": "layer", "merge": "mean", "rope_residual": False, "branch_attention": "channel+spatial"},
        (28, 28),
    ),
    "bare": (
        "local_vim",
        VIM | {"branch_attention": "none", "position_embedding": False, "global_pool": "last"},
        (28, 28),
    ),
    "tokens": (
        "local_vim",
        VIM | {"global_pool": "", "num_classes": 0, "expand": 1, "conv_width": 3},
        (28, 28),
    ),
    "local_vmamba": ("local_vmamba", VMAMBA, (28, 28)),
    "vmamba released, odd grids": ("local_vmamba", VMAMBA | RELEASED, (18, 31)),
    "vmamba maps": ("local_vmamba", VMAMBA | {"global_pool": "", "ssm_ratio": 1.0, "dt_rank": 3}, (26, 34)),
}


def pair(family: str, arguments: dict[str, Any]) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Our model and the template's, in float64, with the same perturbed weights."""
    ours = build_model(family, LAYERS, **arguments).double().eval()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    plain = CLASSES[family](LAYERS, **arguments).double().eval()
    plain.load_state_dict(ours.state_dict())
    return ours, plain


@pytest.mark.parametrize("scan", [shared.scan_chunked, shared.scan_log_depth])
@pytest.mark.parametrize("case", CASES)
def test_logits_are_those_of_our_model(case: str, scan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "selective_scan", scan)
    family, arguments, size = CASES[case]
    ours, plain = pair(family, arguments)
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        expected = ours(images)
        assert expected.std() > 1e-3
        torch.testing.assert_close(plain(images), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("family", ["local_vim", "local_vmamba"])
def test_gradients_are_those_of_our_model(family: str) -> None:
    ours, plain = pair(family, VIM if family == "local_vim" else VMAMBA)
    images = torch.randn(2, 3, 28, 28, dtype=torch.float64)
    for model in (ours, plain):
        model(images).pow(2).sum().backward()
    expected = {name: parameter.grad for name, parameter in ours.named_parameters()}
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-8, atol=1e-9, msg=name)


def scan_inputs(
    batch: int, directions: int, steps: int, dim: int, states: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    u = torch.randn(batch, directions, steps, dim, dtype=torch.float64)
    delta = torch.rand_like(u)
    A = -3 * torch.rand(directions, states, dim, dtype=torch.float64)
    B, C = torch.randn(2, batch, directions, steps, states, dtype=torch.float64)
    return u, delta, A, B, C


@settings(max_examples=15, deadline=None)
@given(
    batch=st.integers(1, 2),
    directions=st.integers(1, 3),
    steps=st.integers(1, 70),
    dim=st.integers(1, 5),
    states=st.integers(1, 3),
)
def test_both_scans_are_the_selective_scan(
    batch: int, directions: int, steps: int, dim: int, states: int
) -> None:
    u, delta, A, B, C = scan_inputs(batch, directions, steps, dim, states)
    expected = selective_scan(u, delta, A.transpose(1, 2), B, C, delta_softplus=False, backend="reference")
    for scan in (shared.scan_chunked, shared.scan_log_depth):
        torch.testing.assert_close(scan(u, delta, A, B, C), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("steps", [1, 2, shared.CHUNK, 2 * shared.CHUNK + 3])
def test_the_adjoint_of_the_scan_is_its_gradient(steps: int) -> None:
    inputs = [x.requires_grad_() for x in scan_inputs(2, 2, steps, 3, 2)]
    gradient = torch.randn(2, 2, steps, 3, dtype=torch.float64)
    found = torch.autograd.grad(shared.scan_chunked(*inputs), inputs, gradient)
    expected = torch.autograd.grad(shared.scan_log_depth(*inputs), inputs, gradient)
    for mine, right in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, right, rtol=1e-10, atol=1e-10)
    assert torch.autograd.gradcheck(shared.scan_chunked, inputs)


def test_scan_keeps_float32_states_under_autocast() -> None:
    inputs = [x.float() for x in scan_inputs(1, 2, 30, 4, 2)]
    with torch.autocast("cpu", torch.bfloat16):
        y = shared.selective_scan(inputs[0].bfloat16(), *inputs[1:])
    assert y.dtype == torch.float32
    expected = shared.scan_chunked(inputs[0].bfloat16().float(), *inputs[1:])
    torch.testing.assert_close(y, expected)


def test_mamba_ssm_is_called_with_its_own_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    def stand_in(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
        """mamba-ssm's documented meaning: u, delta [batch, dim, length], B, C [batch, groups, states, length]."""
        B, C = (x.repeat_interleave(u.shape[1] // x.shape[1], dim=1) for x in (B, C))
        state, outputs = torch.zeros(u.shape[0], *A.shape, dtype=u.dtype), []
        for step in range(u.shape[2]):
            decay = torch.exp(delta[:, :, step, None] * A)
            state = decay * state + (delta * u)[:, :, step, None] * B[..., step]
            outputs.append((state * C[..., step]).sum(-1))
        return torch.stack(outputs, dim=-1)

    monkeypatch.setattr(shared, "mamba_scan", stand_in)
    inputs = scan_inputs(2, 3, 11, 4, 2)
    torch.testing.assert_close(shared.scan_mamba(*inputs), shared.scan_chunked(*inputs))


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(["h", "v", "w2", "w3", "w7"]),
    flip=st.booleans(),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    padding=st.sampled_from(["zero", "skip"]),
)
def test_orders_are_those_of_the_directions(
    name: str, flip: bool, height: int, width: int, padding: Any
) -> None:
    direction = name + "_flip" * flip
    expected = parse_direction(direction).order(height, width, padding).tolist()
    assert shared.scan_order(direction, height, width, padding) == expected


def test_an_order_that_is_not_known_is_named() -> None:
    with pytest.raises(ValueError, match="no order of direction 'hilbert' on 3x4 tokens"):
        shared.scan_order("hilbert_flip", 3, 4, "skip")


@pytest.mark.parametrize("dt_init", ["mamba", "released"])
def test_fresh_weights_are_distributed_as_ours(dt_init: str) -> None:
    arguments = VIM | {"embed_dim": 64, "dt_init": dt_init}
    ours = build_model("local_vim", LAYERS, **arguments).state_dict()
    plain = local_vim.LocalVim(LAYERS, **arguments).state_dict()
    assert list(ours) == list(plain)
    for name, expected in ours.items():
        found = plain[name]
        if expected.unique().numel() == 1 or name.endswith("A_log"):
            torch.testing.assert_close(found, expected, msg=name)
        elif expected.numel() >= 500:
            assert 0.8 < found.std() / expected.std() < 1.25, name
            assert abs(found.mean() - expected.mean()) < 0.3 * expected.std(), name


def test_drop_path_keeps_the_mean_and_acts_on_whole_samples() -> None:
    x = torch.ones(4000, 2, 3)
    y = shared.DropPath(0.25).train()(x)
    assert y.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert (y.flatten(1).std(dim=1) == 0).all()
    assert abs(y.mean() - 1) < 0.05
    assert torch.equal(shared.DropPath(0.25).eval()(x), x)
