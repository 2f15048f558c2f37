"""Tracing leaves nothing behind: compiling, exporting and inference mode before training."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from scansearch.models import LocalVim, LocalVMamba
from scansearch.models.backbone import ScanBackbone


def vim() -> ScanBackbone:
    return LocalVim(
        [("h", "w2", "v")], img_size=20, patch_size=4, embed_dim=16, states=3, window_padding="zero"
    )


def vmamba() -> ScanBackbone:
    return LocalVMamba([("h", "w2")] * 2, dims=(8, 16), depths=(1, 1), patch_size=2, img_size=20, states=3)


FAMILIES = pytest.mark.parametrize("make", [vim, vmamba])


@FAMILIES
def test_training_works_after_inference_mode_on_a_new_grid(make: Callable[[], ScanBackbone]) -> None:
    """Tables made in inference mode could not be saved for a backward pass."""
    model, image = make(), torch.randn(2, 3, 52, 44)  # no other test uses this grid
    with torch.inference_mode():
        wanted = model(image)
    found = model(image)
    found.sum().backward()
    torch.testing.assert_close(found, wanted)


@pytest.mark.smoke
@FAMILIES
def test_export_has_a_dynamic_batch_and_leaves_the_model_usable(make: Callable[[], ScanBackbone]) -> None:
    model, image = make().eval(), torch.randn(2, 3, 36, 28)
    batch = torch.export.Dim("batch", min=1, max=64)
    with torch.no_grad():
        exported = torch.export.export(model, (image,), dynamic_shapes=({0: batch},)).module()
        for count in (1, 2, 5):
            images = torch.randn(count, 3, 36, 28)
            torch.testing.assert_close(exported(images), model(images), rtol=1e-4, atol=1e-5)


@pytest.mark.smoke
@FAMILIES
def test_compiles_as_one_graph(make: Callable[[], ScanBackbone]) -> None:
    model, image = make(), torch.randn(2, 3, 20, 20)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    grads = []
    for function in (model, compiled):
        model.zero_grad()
        function(image).square().sum().backward()
        grads.append([parameter.grad.clone() for parameter in model.parameters()])
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
