"""FLOPs of models that are more than a backbone: what a decoder costs is counted, not put into a formula."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from scansearch.costing.flops import full_flops
from scansearch.models.backbone import ScanBackbone
from scansearch.models.segmentation import SegmentationDecoder, SegmentationModel, map_shapes


def network_flops(model: nn.Module, height: int, width: int) -> int:
    """FLOPs of one image in the convention ``full``, of a classifier or a segmentation model in evaluation."""
    if isinstance(model, SegmentationModel):
        return segmentation_flops(model.backbone, model.decoder, height, width)
    assert isinstance(model, ScanBackbone)
    return full_flops(model, height, width)


def segmentation_flops(backbone: ScanBackbone, decoder: SegmentationDecoder, height: int, width: int) -> int:
    """FLOPs of one image, sides padded to whole patches as the model pads them."""
    height, width = (side + -side % backbone.patch_size for side in (height, width))
    return full_flops(backbone, height, width) + decoder_flops(backbone, decoder, height, width)


def decoder_flops(backbone: ScanBackbone, decoder: SegmentationDecoder, height: int, width: int) -> int:
    """FLOPs of what follows the backbone's layers, without the auxiliary head; they do not depend on the directions.

    Counted by torch's ``FlopCounterMode`` on tensors without content.
    """
    after = copy.deepcopy(decoder).to("meta").eval()
    maps = [torch.empty(1, *shape, device="meta") for shape in map_shapes(backbone, height, width)]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        after(maps, (height, width))
    return int(counter.get_total_flops())
