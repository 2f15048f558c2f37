"""Detection models: a backbone over any directions, and torchvision's Mask R-CNN (arXiv 1703.06870) with a feature
pyramid (arXiv 1612.03144) on its feature maps.

In training torchvision draws which proposals count from torch's global generator: who wants the same losses again seeds
it before every call.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool
from torchvision.ops.poolers import initLevelMapper

from scansearch.errors import InputError
from scansearch.models.backbone import ScanBackbone
from scansearch.models.dense import DenseModel, feature_maps, make_levels
from scansearch.models.merge import LayerGates
from scansearch.models.pyramid import SimplePyramid
from scansearch.seeding import Stream, seed_everything

if TYPE_CHECKING:
    from collections.abc import Iterator

HeadSize = Literal["standard", "small"]
# What the loss adds up, in this order: class and box of proposals, their masks, and what proposes them.
LOSSES = ("loss_classifier", "loss_box_reg", "loss_mask", "loss_objectness", "loss_rpn_box_reg")
Detections = list[dict[str, Tensor]]
_BOX_CELLS, _MASK_CELLS = 7, 28  # rows and columns of what the box head sees, and of a predicted mask


class HeadSizes(NamedTuple):
    """Sizes of the heads. The standard ones are torchvision's, which are the paper's.

    Attributes:
        channels: of all levels of the feature pyramid.
        anchors: side of the anchors of a level, in its strides.
        hidden: of the box head.
        mask_layers: channels of the mask head's convolutions.
        proposals: in training and in evaluation: those kept of each level, and those after suppression.
        sampled: proposals and anchors of an image that the losses count.
        points: a side of a cell of a proposal that maps are read at.
    """

    channels: int
    anchors: float
    hidden: int
    mask_layers: tuple[int, ...]
    proposals: tuple[tuple[int, int], tuple[int, int]]
    sampled: tuple[int, int]
    points: int


SIZES: dict[HeadSize, HeadSizes] = {
    "standard": HeadSizes(256, 8.0, 1024, (256,) * 4, ((2000, 2000), (1000, 1000)), (512, 256), 2),
    "small": HeadSizes(64, 4.0, 128, (64, 64), ((200, 100), (100, 50)), (64, 64), 1),
}


class ObjectTargets(Protocol):
    """What is on one image, as :class:`scansearch.data.instances.targets.ImageObjects` has it."""

    boxes: Tensor
    labels: Tensor
    masks: Tensor
    content: tuple[int, int]
    identity: int


class _Levels(nn.Module):
    """Stands in torchvision's model where its backbone is: the maps come from ours."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.out_channels = channels


class _Anchors(AnchorGenerator):
    """torchvision's anchors, with strides that are known and not guessed from sizes that they do not divide."""

    def __init__(self, strides: Sequence[int], side: float) -> None:
        sides = tuple((max(1, round(side * stride)),) for stride in strides)
        super().__init__(sides, ((0.5, 1.0, 2.0),) * len(sides))
        self.strides = strides

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        like = feature_maps[0]
        # Anew each time: a model that was made without content has none of them yet.
        self.cell_anchors = [
            self.generate_anchors(sides, ratios, like.dtype, like.device)
            for sides, ratios in zip(self.sizes, self.aspect_ratios, strict=True)
        ]
        steps = [[torch.tensor(stride, device=like.device)] * 2 for stride in self.strides]
        grids = [list(x.shape[2:]) for x in feature_maps]
        every = torch.cat(self.grid_anchors(grids, steps))
        return [every] * len(image_list.image_sizes)


def _pool(strides: Sequence[int], cells: int, points: int) -> MultiScaleRoIAlign:
    """torchvision's, with scales that are known and not guessed from the first batch."""
    names = [str(level) for level in range(len(strides))]
    pool = MultiScaleRoIAlign(names, output_size=cells, sampling_ratio=points)
    pool.scales = [1 / stride for stride in strides]
    coarseness = [(stride - 1).bit_length() for stride in (strides[0], strides[-1])]
    pool.map_levels = initLevelMapper(*coarseness, pool.canonical_scale, pool.canonical_level)
    return pool


class DetectionDecoder(nn.Module):
    """Feature maps -> losses, or the objects on each image.

    Args:
        widths, strides: channels and stride (pixels) of each map that the feature pyramid gets, the finest first.
        classes: of objects; torchvision's class 0, the background, is one more.
        pyramid: makes those of one map; None where the backbone gives them.
        heads: "standard" or "small", see :data:`SIZES`.
        anchors: side of the anchors of a level, in its strides; None for that of ``heads``.
    """

    def __init__(
        self,
        widths: Sequence[int],
        strides: Sequence[int],
        classes: int,
        pyramid: SimplePyramid | None = None,
        *,
        heads: HeadSize = "standard",
        anchors: float | None = None,
    ) -> None:
        super().__init__()
        sizes = SIZES[heads]
        every = (*strides, 2 * strides[-1])  # the coarsest level is of proposals alone
        (train_each, train_all), (test_each, test_all) = sizes.proposals
        sampled_boxes, sampled_anchors = sizes.sampled
        hidden = sizes.hidden
        model = MaskRCNN(
            _Levels(sizes.channels),
            rpn_anchor_generator=_Anchors(every, anchors or sizes.anchors),
            rpn_pre_nms_top_n_train=train_each,
            rpn_post_nms_top_n_train=train_all,
            rpn_pre_nms_top_n_test=test_each,
            rpn_post_nms_top_n_test=test_all,
            rpn_batch_size_per_image=sampled_anchors,
            box_batch_size_per_image=sampled_boxes,
            box_roi_pool=_pool(strides, _BOX_CELLS, sizes.points),
            box_head=TwoMLPHead(sizes.channels * _BOX_CELLS**2, hidden),
            box_predictor=FastRCNNPredictor(hidden, classes + 1),
            mask_roi_pool=_pool(strides, _MASK_CELLS // 2, sizes.points),
            mask_head=MaskRCNNHeads(sizes.channels, sizes.mask_layers, 1),
            mask_predictor=MaskRCNNPredictor(sizes.mask_layers[-1], sizes.mask_layers[-1], classes + 1),
        )
        self.pyramid, self.channels = pyramid, sizes.channels
        self.fpn = FeaturePyramidNetwork(list(widths), sizes.channels, extra_blocks=LastLevelMaxPool())
        self.rpn, self.roi_heads = model.rpn, model.roi_heads
        self.proposals, self.objects = (
            test_all,
            int(model.roi_heads.detections_per_img),
        )  # at most, of an image

    def levels(self, maps: Sequence[Tensor]) -> OrderedDict[str, Tensor]:
        """The feature pyramid of a backbone's maps, and a coarser level for proposals alone."""
        if self.pyramid is not None:
            maps = self.pyramid(maps[0])
        levels: OrderedDict[str, Tensor] = self.fpn(OrderedDict((str(i), x) for i, x in enumerate(maps)))
        return levels

    def decode(
        self,
        backbone: ScanBackbone,
        images: Tensor,
        gates: Sequence[LayerGates] | None = None,
        targets: Sequence[ObjectTargets] | None = None,
    ) -> Tensor | Detections | tuple[Detections, Tensor]:
        """As :class:`DetectionModel` has it, of images [batch, channels, height, width] of any size."""
        levels = self.levels(feature_maps(backbone, images, gates))
        sizes = [tuple(images.shape[2:])] * len(images)
        if targets is not None:
            sizes = [target.content for target in targets]
        listed = ImageList(images, sizes)
        if self.training:
            assert targets is not None, "a step of training needs the objects"
            return self._losses(levels, listed, targets)
        proposals, _ = self.rpn(listed, levels)
        found, _ = self.roi_heads(levels, proposals, sizes)
        for one in found:
            one["labels"] -= 1
        if targets is None:
            return found
        losses = []
        for index, target in enumerate(targets):
            seed_everything(Stream.PROPOSALS, target.identity)
            one = OrderedDict((name, x[index : index + 1]) for name, x in levels.items())
            losses.append(
                self._losses(one, ImageList(images[index : index + 1], sizes[index : index + 1]), [target])
            )
        return found, torch.stack(losses)

    def _losses(
        self, levels: OrderedDict[str, Tensor], images: ImageList, targets: Sequence[ObjectTargets]
    ) -> Tensor:
        """The five :data:`LOSSES`, each a mean over the proposals that count."""
        wanted = [
            {"boxes": target.boxes, "labels": target.labels + 1, "masks": target.masks} for target in targets
        ]
        with _training(self.rpn, self.roi_heads):
            proposals, first = self.rpn(images, levels, wanted)
            _, second = self.roi_heads(levels, proposals, images.image_sizes, wanted)
        losses = first | second
        return torch.stack([losses[name] for name in LOSSES])

    def run_full(self, maps: Sequence[Tensor], size: Sequence[int]) -> None:
        """Compute what an image may cost at most, for a count of it: all proposals, and all objects."""
        levels = self.levels(maps)
        self.rpn.head(list(levels.values()))
        channels, device = self.channels, maps[0].device
        heads = self.roi_heads
        cells = torch.empty(self.proposals, channels, _BOX_CELLS, _BOX_CELLS, device=device)
        heads.box_predictor(heads.box_head(cells))
        side = _MASK_CELLS // 2
        heads.mask_predictor(heads.mask_head(torch.empty(self.objects, channels, side, side, device=device)))


@contextmanager
def _training(*modules: nn.Module) -> Iterator[None]:
    """``modules`` in training mode inside the block: torchvision computes losses in no other. They have no dropout and
    no running statistics, so nothing else differs.
    """
    before = [module.training for module in modules]
    for module in modules:
        module.train()
    try:
        yield
    finally:
        for module, training in zip(modules, before, strict=True):
            module.train(training)


def make_detector(backbone: ScanBackbone, classes: int, **options: Any) -> DetectionDecoder:
    """A decoder with fresh weights for the feature maps of ``backbone``; ``options`` are its class's.

    Raises:
        InputError: no class; a width that the pyramid cannot divide.
    """
    if classes < 1:
        raise InputError(f"detection needs at least one class, not {classes}")
    levels = make_levels(backbone)
    return DetectionDecoder(levels.widths, levels.strides, classes, levels.pyramid, **options)


class DetectionModel(DenseModel):
    """Images [batch, in_chans, height, width] of any size -> the objects on each.

    In evaluation a dict for each image: ``boxes`` float [n, 4] (left, top, right, bottom in pixels), ``labels`` int64
    [n] from 0, ``scores`` [n], the likeliest first, and ``masks`` [n, 1, 28, 28], the probability that a part of the
    box belongs to the object. With ``targets`` a pair of that and the :data:`LOSSES` of each image, float [batch,
    5], whose proposals are drawn by the image's number alone. In training, with ``targets``, the losses of all
    together, float [5].
    """

    decoder: DetectionDecoder

    def forward(
        self, images: Tensor, targets: Sequence[ObjectTargets] | None = None
    ) -> Tensor | Detections | tuple[Detections, Tensor]:
        return self.decoder.decode(self.backbone, images, targets=targets)
