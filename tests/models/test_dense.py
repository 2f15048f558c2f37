"""The backbones inside segmentation models; needs the `dense` extra."""

from __future__ import annotations

import pytest
import torch

import scansearch.models  # noqa: F401  (registers the names)

smp = pytest.importorskip("segmentation_models_pytorch", reason="needs scansearch[dense]")


@pytest.mark.parametrize(
    ("name", "sizes"),
    [("localvmamba_tiny", {"dims": (8, 16, 24, 32)}), ("vmamba_tiny", {"dims": (8, 16, 24, 32)})],
)
def test_upernet_trains_one_step(name: str, sizes: dict[str, object]) -> None:
    model = smp.UPerNet(f"tu-{name}", encoder_weights=None, classes=3, decoder_channels=16, states=2, **sizes)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    image, target = torch.randn(2, 3, 64, 96), torch.randint(3, (2, 64, 96))
    masks = model(image)
    assert masks.shape == (2, 3, 64, 96)
    before = torch.nn.functional.cross_entropy(masks, target)
    before.backward()
    encoder = [p for key, p in model.encoder.named_parameters() if "mixer" in key]
    assert encoder
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder)
    optimizer.step()
    assert torch.nn.functional.cross_entropy(model(image), target) < before


@pytest.mark.parametrize("depth", [4, 5])
def test_a_plain_backbone_of_any_genotype_serves_under_its_pyramid_name(depth: int) -> None:
    genotype = [["h", "w2_flip"], ["v", "h_flip"], ["w2", "v"], ["v_flip", "h"], ["w7", "h"]][:depth]
    sizes = {"embed_dim": 16, "patch_size": 16, "img_size": (64, 96)}
    model = smp.UPerNet(
        "tu-localvim_tiny_pyramid", encoder_weights=None, classes=3, decoder_channels=16, states=2, genotype=genotype,
        **sizes,
    )  # fmt: skip
    image = torch.randn(2, 3, 64, 96)
    masks = model(image)
    assert masks.shape == (2, 3, 64, 96)
    masks.square().mean().backward()
    mixers = [p for key, p in model.encoder.named_parameters() if "mixer" in key]
    assert (
        len([key for key, _ in model.encoder.named_parameters() if key.endswith("mixer.in_proj.weight")])
        == depth
    )
    assert all(p.grad is not None and p.grad.isfinite().all() for p in mixers)
