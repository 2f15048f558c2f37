"""What models for masks and for boxes share: a backbone over any directions, and a decoder on its feature maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch.nn.functional as F
from torch import Tensor, nn

from scansearch.models.backbone import ScanBackbone
from scansearch.models.local_vim import LocalVim
from scansearch.models.local_vmamba import LocalVMamba
from scansearch.models.merge import LayerGates
from scansearch.models.pyramid import SCALES, WIDTHS, SimplePyramid

_FINEST = 4  # pixels of the finest level, as everywhere that such decoders are used


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

    Sides of ``images`` are padded with zeros to whole patches at the right and bottom.
    """
    height, width = images.shape[2:]
    patch = backbone.patch_size
    model = cast("LocalVim | LocalVMamba", backbone)
    taken = 1 if isinstance(backbone, LocalVim) else None
    padded = F.pad(images, (0, -width % patch, 0, -height % patch))
    return list(model.forward_intermediates(padded, taken, norm=True, intermediates_only=True, gates=gates))


def map_shapes(backbone: ScanBackbone, height: int, width: int) -> list[tuple[int, int, int]]:
    """Channels, height and width of each of :func:`feature_maps`, for images of whole patches."""
    if isinstance(backbone, LocalVMamba):
        grids = backbone.stage_grids(height, width)
        return [(dim, *grid) for dim, grid in zip(backbone.dims, grids, strict=True)]
    return [(backbone.num_features, *backbone.mixer_grids(height, width)[-1])]


class Levels(NamedTuple):
    """Maps of several resolutions, the finest first: their channels and strides in pixels, and what makes them of one
    map; None where the backbone gives them.
    """

    widths: tuple[int, ...]
    strides: tuple[int, ...]
    pyramid: SimplePyramid | None


def make_levels(backbone: ScanBackbone) -> Levels:
    """The levels of ``backbone``: LocalVMamba's stages; of LocalVim a pyramid with fresh weights, without the levels
    that are finer than 4 pixels and than its patches.

    Raises:
        InputError: a width that the pyramid cannot divide.
    """
    patch = backbone.patch_size
    if isinstance(backbone, LocalVMamba):
        widths = tuple(backbone.dims)
        return Levels(widths, tuple(patch * 2**level for level in range(len(widths))), None)
    taken = [level for level, scale in enumerate(SCALES) if scale * patch >= min(_FINEST, patch)]
    dim = backbone.num_features
    return Levels(
        tuple(dim // WIDTHS[level] for level in taken),
        tuple(int(SCALES[level] * patch) for level in taken),
        SimplePyramid(dim, taken),
    )


class DenseModel(nn.Module):
    """A backbone and a decoder; subclasses say what their outputs are.

    Args:
        backbone: built with :func:`feature_arguments`, and without a classifier.
    """

    def __init__(self, backbone: ScanBackbone, decoder: nn.Module) -> None:
        super().__init__()
        self.backbone, self.decoder = backbone, decoder

    @property
    def in_chans(self) -> int:
        return self.backbone.in_chans

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
