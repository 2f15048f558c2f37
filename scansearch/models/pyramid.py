"""A feature pyramid from the single scale of a plain backbone (ViTDet, arXiv 2203.16527, section 3)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from scansearch.errors import InputError

# Strides of the four levels in units of the patch size, and the share of the channels that each keeps.
SCALES = (0.25, 0.5, 1.0, 2.0)
WIDTHS = (4, 2, 1, 1)


def _level(dim: int, level: int) -> nn.Module:
    if level == 0:
        return nn.Sequential(
            nn.ConvTranspose2d(dim, dim // 2, 2, stride=2),
            nn.GroupNorm(1, dim // 2),
            nn.GELU(),
            nn.ConvTranspose2d(dim // 2, dim // 4, 2, stride=2),
        )
    if level == 1:
        return nn.ConvTranspose2d(dim, dim // 2, 2, stride=2)
    return nn.Identity() if level == 2 else nn.MaxPool2d(2, stride=2, ceil_mode=True)


class SimplePyramid(nn.Module):
    """Maps [batch, dim, height, width] to four maps of 4, 2, 1 and 1/2 times the resolution.

    Their channels are dim / 4, dim / 2, dim and dim; odd sides round up when halved.

    Args:
        taken: which of the four, the finest first; the others are neither built nor computed.

    Raises:
        InputError: ``dim`` is not a multiple of 4.
    """

    def __init__(self, dim: int, taken: Sequence[int] = (0, 1, 2, 3)) -> None:
        super().__init__()
        if dim % 4:
            raise InputError(f"the feature pyramid needs a width that is a multiple of 4, not {dim}")
        self.levels = nn.ModuleList([_level(dim, level) for level in taken])

    def forward(self, x: Tensor) -> list[Tensor]:
        return [level(x) for level in self.levels]
