"""UPerNet (arXiv 1807.10221) and the auxiliary FCN head (arXiv 1411.4038) on the feature maps of a backbone.

Parameters have the names of Hugging Face's ``UperNetForSemanticSegmentation``, so its weights load into heads of the
same sizes with ``norm="batch"``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HeadNorm = Literal["batch", "group"]
POOLED = (1, 2, 3, 6)  # rows and columns that the deepest map is pooled to
_MOST_GROUPS, _LEAST_OF_GROUP = 32, 8


def resize_map(x: Tensor, size: Sequence[int]) -> Tensor:
    """``x`` [batch, channels, height, width] at ``size`` (height, width), bilinear between the centres of pixels."""
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


def groups_of(channels: int) -> int:
    """Groups of a group norm: as many as divide ``channels``, at most 32, of eight channels or more.

    Smaller ones would be of one or two values where a map is pooled to one pixel, and their norm would erase them.
    """
    return max(
        groups
        for groups in range(1, _MOST_GROUPS + 1)
        if channels % groups == 0 and (groups == 1 or channels // groups >= _LEAST_OF_GROUP)
    )


class ConvUnit(nn.Module):
    """Convolution without bias, norm "batch" or "group", ReLU; keeps the size."""

    def __init__(self, inputs: int, outputs: int, kernel: int, norm: HeadNorm) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        # The name is Hugging Face's, whichever norm it is.
        self.batch_norm = (
            nn.BatchNorm2d(outputs) if norm == "batch" else nn.GroupNorm(groups_of(outputs), outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.batch_norm(self.conv(x)))


class UPerNetHead(nn.Module):
    """Maps of several resolutions, the finest first -> logits [batch, classes, height, width] of the finest.

    The deepest map is pooled to 1, 2, 3 and 6 cells a side; a feature pyramid brings it down to the finest.

    Args:
        widths: channels of each map.
        channels: of all inner maps.
        dropout: rate of whole channels before the classifier.
    """

    def __init__(
        self, widths: Sequence[int], classes: int, *, channels: int, norm: HeadNorm, dropout: float
    ) -> None:
        super().__init__()
        self.psp_modules = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(cells), ConvUnit(widths[-1], channels, 1, norm))
            for cells in POOLED
        )
        self.bottleneck = ConvUnit(widths[-1] + len(POOLED) * channels, channels, 3, norm)
        self.lateral_convs = nn.ModuleList(ConvUnit(width, channels, 1, norm) for width in widths[:-1])
        self.fpn_convs = nn.ModuleList(ConvUnit(channels, channels, 3, norm) for _ in widths[:-1])
        self.fpn_bottleneck = ConvUnit(len(widths) * channels, channels, 3, norm)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(channels, classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        top = maps[-1]
        pooled = [resize_map(module(top), top.shape[2:]) for module in self.psp_modules]
        levels = [conv(x) for conv, x in zip(self.lateral_convs, maps, strict=False)]
        levels.append(self.bottleneck(torch.cat([top, *pooled], dim=1)))
        for index in range(len(levels) - 1, 0, -1):
            finer = levels[index - 1]
            levels[index - 1] = finer + resize_map(levels[index], finer.shape[2:])
        outputs = [conv(x) for conv, x in zip(self.fpn_convs, levels, strict=False)]
        outputs.append(levels[-1])
        size = outputs[0].shape[2:]
        joined = torch.cat([outputs[0], *(resize_map(x, size) for x in outputs[1:])], dim=1)
        return self.classifier(self.dropout(self.fpn_bottleneck(joined)))


class FCNHead(nn.Module):
    """One map [batch, width, height, width] -> logits of its own resolution."""

    def __init__(self, width: int, classes: int, *, channels: int, norm: HeadNorm, dropout: float) -> None:
        super().__init__()
        self.convs = nn.Sequential(ConvUnit(width, channels, 3, norm))
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(channels, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.dropout(self.convs(x)))
