"""Segmentation models: a backbone over any directions, and UPerNet on its feature maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from scansearch.errors import InputError
from scansearch.models.backbone import ScanBackbone
from scansearch.models.local_vim import LocalVim
from scansearch.models.local_vmamba import LocalVMamba
from scansearch.models.merge import LayerGates
from scansearch.models.pyramid import SCALES, WIDTHS, SimplePyramid
from scansearch.models.upernet import FCNHead, HeadNorm, UPerNetHead, resize_map

MOST_CLASSES = 255  # of a mask of bytes, whose largest value is ignored
PAPER_CHANNELS, PAPER_AUXILIARY_CHANNELS = 512, 256
_FINEST = 4  # pixels of the finest level, as everywhere that UPerNet is used


def feature_arguments(family: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """What a backbone's class needs beside ``arguments`` for feature maps: a learned LayerNorm on each of LocalVMamba's
    stages but the last, which has the backbone's own.
    """
    if family == "local_vim":
        return {}
    depths = arguments.get("depths")
    return {"feature_levels": tuple(range((4 if depths is None else len(depths)) - 1))}


def feature_maps(
    backbone: ScanBackbone, images: Tensor, gates: Sequence[LayerGates] | None = None
) -> list[Tensor]:
    """Normalised maps [batch, channels, height, width]: of LocalVMamba's stages, the finest first, or of LocalVim's
    last layer alone.
    """
    model = cast("LocalVim | LocalVMamba", backbone)
    taken = 1 if isinstance(backbone, LocalVim) else None
    return list(model.forward_intermediates(images, taken, norm=True, intermediates_only=True, gates=gates))


def map_shapes(backbone: ScanBackbone, height: int, width: int) -> list[tuple[int, int, int]]:
    """Channels, height and width of each of :func:`feature_maps`, for images of whole patches."""
    if isinstance(backbone, LocalVMamba):
        grids = backbone.stage_grids(height, width)
        return [(dim, *grid) for dim, grid in zip(backbone.dims, grids, strict=True)]
    return [(backbone.num_features, *backbone.mixer_grids(height, width)[-1])]


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


def make_decoder(backbone: ScanBackbone, classes: int, **options: Any) -> SegmentationDecoder:
    """A decoder with fresh weights for the feature maps of ``backbone``; ``options`` are its class's.

    LocalVim gets a pyramid, without the levels that are finer than 4 pixels and than its patches.

    Raises:
        InputError: too many classes for a mask, or fewer than two; a width that the pyramid cannot divide.
    """
    if not 2 <= classes <= MOST_CLASSES:
        raise InputError(f"masks tell 2 to {MOST_CLASSES} classes apart, not {classes}")
    if isinstance(backbone, LocalVMamba):
        return SegmentationDecoder(backbone.dims, classes, **options)
    patch, dim = backbone.patch_size, backbone.num_features
    taken = [level for level, scale in enumerate(SCALES) if scale * patch >= min(_FINEST, patch)]
    widths = [dim // WIDTHS[level] for level in taken]
    return SegmentationDecoder(widths, classes, SimplePyramid(dim, taken), **options)


def decode(
    backbone: ScanBackbone,
    decoder: SegmentationDecoder,
    images: Tensor,
    gates: Sequence[LayerGates] | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Logits of ``images`` [batch, channels, height, width] of any size, as the decoder gives them.

    Sides are padded with zeros to whole patches at the right and bottom, and the logits cut back, so that every pixel
    lies under its own logit.
    """
    height, width = images.shape[2:]
    patch = backbone.patch_size
    padded = F.pad(images, (0, -width % patch, 0, -height % patch))
    outputs = decoder(feature_maps(backbone, padded, gates), padded.shape[2:])
    if isinstance(outputs, tuple):
        return outputs[0][..., :height, :width], outputs[1][..., :height, :width]
    return outputs[..., :height, :width]


class SegmentationModel(nn.Module):
    """Images [batch, in_chans, height, width] of any size -> logits [batch, classes, height, width].

    In training mode the result is a pair with the auxiliary head's logits, where there is such a head.

    Args:
        backbone: built with :func:`feature_arguments`, and without a classifier.
    """

    def __init__(self, backbone: ScanBackbone, decoder: SegmentationDecoder) -> None:
        super().__init__()
        self.backbone, self.decoder = backbone, decoder

    @property
    def in_chans(self) -> int:
        return self.backbone.in_chans

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        return decode(self.backbone, self.decoder, images)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.backbone.set_grad_checkpointing(enable)

    def no_weight_decay(self) -> set[str]:
        return {f"backbone.{name}" for name in self.backbone.no_weight_decay()}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """The backbone's groups; what no pattern names, the decoder, is timm's last group."""
        groups: dict[str, Any] = cast(Any, self.backbone).group_matcher(coarse=coarse)
        return {name: _below_backbone(patterns) for name, patterns in groups.items()}


def _below_backbone(patterns: Any) -> Any:
    if isinstance(patterns, str):
        return patterns.replace("^", r"^backbone\.")
    return [(pattern.replace("^", r"^backbone\."), order) for pattern, order in patterns]
