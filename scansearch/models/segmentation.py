"""Segmentation models: a backbone over any directions, and UPerNet on its feature maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from scansearch.errors import InputError
from scansearch.models.backbone import ScanBackbone
from scansearch.models.dense import DenseModel, feature_maps, make_levels
from scansearch.models.merge import LayerGates
from scansearch.models.pyramid import SimplePyramid
from scansearch.models.upernet import FCNHead, HeadNorm, UPerNetHead, resize_map

MOST_CLASSES = 255  # of a mask of bytes, whose largest value is ignored
PAPER_CHANNELS, PAPER_AUXILIARY_CHANNELS = 512, 256


class SegmentationDecoder(nn.Module):
    """Feature maps -> logits of every pixel.

    Args:
        widths: channels of each map that UPerNet gets, the finest first.
        pyramid: makes those of one map; None where the backbone gives them.
        norm: "batch" or "group".
        channels: of UPerNet's inner maps; None for those of the widest map, at most the paper's 512.
        dropout: rate of whole channels before the classifiers.
        auxiliary: whether there is an FCN head on the last map but one, for training alone.
        auxiliary_channels: of that; None for those of its map, at most the paper's 256.
    """

    def __init__(
        self,
        widths: Sequence[int],
        classes: int,
        pyramid: SimplePyramid | None = None,
        *,
        norm: HeadNorm = "group",
        channels: int | None = None,
        dropout: float = 0.1,
        auxiliary: bool = True,
        auxiliary_channels: int | None = None,
    ) -> None:
        super().__init__()
        self.pyramid = pyramid
        inner = channels or min(PAPER_CHANNELS, max(widths))
        self.decode_head = UPerNetHead(widths, classes, channels=inner, norm=norm, dropout=dropout)
        self.level = max(0, len(widths) - 2)
        self.auxiliary_head = None
        if auxiliary:
            width = widths[self.level]
            inner = auxiliary_channels or min(PAPER_AUXILIARY_CHANNELS, width)
            self.auxiliary_head = FCNHead(width, classes, channels=inner, norm=norm, dropout=dropout)

    def forward(self, maps: Sequence[Tensor], size: Sequence[int]) -> Tensor | tuple[Tensor, Tensor]:
        """Logits [batch, classes, *size]; in training mode a pair with those of the auxiliary head, if there is one."""
        if self.pyramid is not None:
            maps = self.pyramid(maps[0])
        logits = resize_map(self.decode_head(maps), size)
        if self.auxiliary_head is None or not self.training:
            return logits
        return logits, resize_map(self.auxiliary_head(maps[self.level]), size)

    def run_full(self, maps: Sequence[Tensor], size: Sequence[int]) -> None:
        """Compute what an image may cost at most, for a count of it."""
        self(maps, size)

    def decode(
        self,
        backbone: ScanBackbone,
        images: Tensor,
        gates: Sequence[LayerGates] | None = None,
        targets: Any = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Logits of ``images`` [batch, channels, height, width] of any size, as :meth:`forward` gives them.

        Sides are padded to whole patches, and the logits cut back, so that every pixel lies under its own logit.
        """
        height, width = images.shape[2:]
        patch = backbone.patch_size
        whole = (height + -height % patch, width + -width % patch)
        outputs = self(feature_maps(backbone, images, gates), whole)
        if isinstance(outputs, tuple):
            return outputs[0][..., :height, :width], outputs[1][..., :height, :width]
        logits: Tensor = outputs
        return logits[..., :height, :width]


def make_decoder(backbone: ScanBackbone, classes: int, **options: Any) -> SegmentationDecoder:
    """A decoder with fresh weights for the feature maps of ``backbone``; ``options`` are its class's.

    Raises:
        InputError: too many classes for a mask, or fewer than two; a width that the pyramid cannot divide.
    """
    if not 2 <= classes <= MOST_CLASSES:
        raise InputError(f"masks tell 2 to {MOST_CLASSES} classes apart, not {classes}")
    levels = make_levels(backbone)
    return SegmentationDecoder(levels.widths, classes, levels.pyramid, **options)


class SegmentationModel(DenseModel):
    """Images [batch, in_chans, height, width] of any size -> logits [batch, classes, height, width].

    In training mode the result is a pair with the auxiliary head's logits, where there is such a head.
    """

    decoder: SegmentationDecoder

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        return self.decoder.decode(self.backbone, images)
