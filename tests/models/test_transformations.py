"""torch's tools over both families: each gives what the plain forward pass gives, or one clear error."""

from __future__ import annotations

import copy
import pickle
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from scansearch.models import LocalVim, LocalVMamba
from scansearch.models.backbone import ScanBackbone

SIZES = [(20, 20), (12, 28)]


def vim(padding: str = "skip", **kwargs: object) -> ScanBackbone:
    sizes = {"img_size": 20, "patch_size": 4, "embed_dim": 16, "states": 3, "num_classes": 5}
    return LocalVim([("h", "w2"), ("v_flip", "hilbert")], window_padding=padding, **(sizes | kwargs))


def vmamba(padding: str = "skip") -> ScanBackbone:
    return LocalVMamba(
        [("h", "w2"), ("v", "w3_flip")],
        dims=(8, 16), depths=(1, 1), patch_size=2, img_size=20, states=3, num_classes=5, window_padding=padding,
    )  # fmt: skip


def vim_token(padding: str = "skip") -> ScanBackbone:
    return vim(padding, class_token="middle", rope_resize="tables")


MODELS = pytest.mark.parametrize("make", [vim, vim_token, vmamba])
Make = Callable[..., ScanBackbone]


def images(size: tuple[int, int] = (20, 20)) -> Tensor:
    return torch.randn(2, 3, *size)


def results(function: Callable[[Tensor], Tensor], model: ScanBackbone, x: Tensor) -> list[Tensor]:
    """Logits in training and inference, and the gradients of every parameter."""
    model.zero_grad()
    logits = function(x)
    logits.square().sum().backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    with torch.no_grad():
        return [logits.detach(), function(x), *gradients]


COMPILER = pytest.mark.skipif(shutil.which("cc") is None, reason="inductor needs a C compiler")


def _compilations() -> Iterator[object]:
    """Every model, padding and backend; the shorter ones of them in the normal suite."""
    for backend in ("eager", "aot_eager", "inductor"):
        for padding in ("zero", "skip"):
            for make in (vim, vim_token, vmamba):
                short = padding == "skip" and backend == "eager" and make is vmamba
                marks = [COMPILER] * (backend == "inductor") + [pytest.mark.long] * (not short)
                marks += [pytest.mark.smoke] * short
                yield pytest.param(make, padding, backend, marks=marks)


@pytest.mark.slow
@pytest.mark.parametrize(("make", "padding", "backend"), list(_compilations()))
def test_compiles_layers_that_differ(make: Make, padding: str, backend: str) -> None:
    torch._dynamo.reset()
    model = make(padding)
    # inductor fails to sort strides that depend on two unknown sides: it gets a program for each size instead
    dynamic = False if backend == "inductor" and make is vmamba else None
    compiled = torch.compile(model, backend=backend, fullgraph=True, dynamic=dynamic)
    for size in SIZES:  # the compiler meets each grid before the model itself does
        x = images(size)
        found = results(compiled, model, x)
        for one, other in zip(found, results(model, model, x), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


LOAD = """
import sys, torch
import scansearch.models
program, data = sys.argv[1:]
images, logits = torch.load(data, weights_only=True)
torch.testing.assert_close(torch.export.load(program).module()(images), logits, rtol=1e-4, atol=1e-5)
"""


@pytest.mark.parametrize(
    "make",
    [pytest.param(vim, marks=pytest.mark.long), pytest.param(vim_token, marks=pytest.mark.long), vmamba],
)
def test_a_saved_program_runs_in_a_new_process(make: Make, tmp_path: Path) -> None:
    model, x = make().eval(), images()
    with torch.no_grad():
        torch.export.save(torch.export.export(model, (x,)), tmp_path / "model.pt2")
        torch.save((x, model(x)), tmp_path / "data.pt")
    call = [sys.executable, "-c", LOAD, str(tmp_path / "model.pt2"), str(tmp_path / "data.pt")]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@MODELS
def test_symbolic_and_recorded_graphs_compute_the_same(make: Make) -> None:
    model, x = make().eval(), images()
    other = images()
    expected = model(other)
    symbolic = torch.fx.symbolic_trace(model)
    for size in SIZES:
        z = images(size)
        torch.testing.assert_close(symbolic(z), model(z))
    torch.testing.assert_close(make_fx(model)(x)(other), expected)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        torch.testing.assert_close(torch.jit.trace(model, x)(other), expected)


@MODELS
def test_forward_and_reverse_derivatives_equal_finite_differences(make: Make) -> None:
    model = make().double().eval()
    x, v = images().double(), images().double()
    step = 1e-5
    difference = (model(x + step * v) - model(x - step * v)) / (2 * step)
    logits, tangent = torch.func.jvp(model, (x,), (v,))
    torch.testing.assert_close(logits, model(x))
    torch.testing.assert_close(tangent, difference, rtol=1e-5, atol=1e-8)
    weight = torch.randn_like(logits)
    _, pull = torch.func.vjp(model, x)
    gradient = torch.func.grad(lambda z: (model(z) * weight).sum())(x)
    for one in (pull(weight)[0], gradient):
        torch.testing.assert_close((one * v).sum(), (weight * difference).sum(), rtol=1e-5, atol=1e-8)


@MODELS
def test_per_sample_results_under_vmap(make: Make) -> None:
    model, x = make().eval(), images()
    found = torch.func.vmap(lambda image: model(image.unsqueeze(0)).squeeze(0))(x)
    torch.testing.assert_close(found, model(x), rtol=1e-4, atol=1e-5)


@MODELS
def test_gradients_of_gradients(make: Make) -> None:
    model = make().double().eval()
    x, v = images().double().requires_grad_(), images().double()
    (first,) = torch.autograd.grad(model(x).square().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad((first * v).sum(), x)
    step = 1e-5
    around = [
        torch.autograd.grad(model(z).square().sum(), z)[0]
        for z in (x.detach() + sign * step * v for sign in (1, -1))
        if z.requires_grad_() is not None
    ]
    torch.testing.assert_close(second, (around[0] - around[1]) / (2 * step), rtol=1e-4, atol=1e-6)


@MODELS
def test_copies_pickles_and_devices(make: Make) -> None:
    model, x = make().eval(), images()
    keys = list(model.state_dict())
    expected = model(x)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(x), expected)
        assert list(other.state_dict()) == keys
    assert copy.deepcopy(model).to("meta")(x.to("meta")).shape == expected.shape


def test_hooks_fire_on_stages_with_their_own_resolution() -> None:
    model = vmamba().eval()
    shapes: list[tuple[int, ...]] = []
    for stage in model.stages:
        stage.register_forward_hook(lambda _m, _i, output: shapes.append(tuple(output.shape)))
    model(images())
    assert shapes == [(2, 10, 10, 8), (2, 5, 5, 16)]


def test_a_supernet_traced_symbolically_uses_its_own_weights() -> None:
    model = LocalVMamba([("h", "v")], dims=(8,), depths=(1,), patch_size=2, states=2, weighted=True).eval()
    x = images()
    torch.testing.assert_close(torch.fx.symbolic_trace(model)(x), model(x))
