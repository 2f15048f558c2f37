"""The mean over scales and mirror images, against a sum by hand."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from scansearch.evaluation.scales import at_scales


def lopsided(images: torch.Tensor) -> torch.Tensor:
    """Logits of two classes that depend on the value, the column and the size of the image."""
    columns = torch.arange(images.shape[3]).expand_as(images[:, 0])
    return torch.stack([images[:, 0] * images.shape[2], columns / 3], dim=1)


def test_probabilities_are_averaged_over_sizes_and_mirror_images() -> None:
    images = torch.randn(2, 1, 6, 10, generator=torch.Generator().manual_seed(0))
    found = at_scales(lopsided, [1.0, 0.5], flip=True)(images)
    small = F.interpolate(images, size=(3, 5), mode="bilinear", align_corners=False)
    total = torch.zeros(2, 2, 6, 10)
    for seen in (images, small):
        for turned in (False, True):
            logits = lopsided(seen.flip(3)).flip(3) if turned else lopsided(seen)
            total += F.interpolate(logits, size=(6, 10), mode="bilinear", align_corners=False).softmax(1)
    torch.testing.assert_close(found.exp(), total / 4)
    torch.testing.assert_close(found.exp().sum(1), torch.ones(2, 6, 10))


def test_a_mirrored_image_gets_the_mirrored_answer() -> None:
    images = torch.randn(1, 1, 4, 7, generator=torch.Generator().manual_seed(1))
    averaged = at_scales(lopsided, [1.0], flip=True)
    torch.testing.assert_close(averaged(images.flip(3)).flip(3), averaged(images))


def test_a_probability_of_zero_has_a_finite_logarithm() -> None:
    sure = at_scales(
        lambda images: torch.tensor([900.0, -900.0]).view(1, 2, 1, 1).expand(1, 2, 2, 2), [1.0], flip=False
    )
    assert sure(torch.zeros(1, 1, 2, 2)).isfinite().all()
