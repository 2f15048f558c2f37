"""FLOPs of models that are more than a backbone: what a decoder costs is counted, not put into a formula."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from scansearch.costing.flops import full_flops, model_costs, released_flops, space_costs
from scansearch.models.backbone import ScanBackbone
from scansearch.models.build import build_model
from scansearch.models.dense import DenseModel, map_shapes
from scansearch.records.costs import Costs
from scansearch.records.heads import TaskHead, TaskName
from scansearch.records.space import SearchSpace
from scansearch.tasks import find_task


def task_costs(
    space: SearchSpace,
    variant: str | None,
    *,
    task: TaskName,
    head: TaskHead | None,
    image_size: tuple[int, int],
    classes: int,
    in_chans: int,
) -> Costs:
    """Costs of the derived models of ``space`` with the head of ``task``, which every choice pays alike.

    FLOPs are those of evaluation; parameters include the auxiliary head's, which training alone uses.
    """
    kind = find_task(task)
    arguments = space.model_arguments(variant, "derived")
    more = kind.arguments(space.family, arguments, classes)
    if task == "classify":
        return space_costs(space, variant, image_size=image_size, in_chans=in_chans, **more)
    arguments |= more | {"in_chans": in_chans, "img_size": image_size}
    with torch.device("meta"):
        backbone = build_model(space.family, space.layer_candidates(variant), **arguments)
        decoder = kind.decoder(backbone, classes, head)
    assert decoder is not None
    # The position embedding is that of the images, and what is computed that of whole patches.
    own, padded = (
        space_costs(space, variant, image_size=size, in_chans=in_chans, **more)
        for size in (image_size, whole_patches(backbone, *image_size))
    )
    return _with_decoder(own, padded, backbone, decoder)


def dense_costs(backbone: ScanBackbone, decoder: nn.Module, height: int, width: int) -> Costs:
    """Costs of any choice among the directions of ``backbone``, built without gates, with ``decoder`` on it."""
    padded = model_costs(backbone, *whole_patches(backbone, height, width))
    own = padded.model_copy(update={"image_size": (height, width)})
    return _with_decoder(own, padded, backbone, decoder)


def _with_decoder(own: Costs, padded: Costs, backbone: ScanBackbone, decoder: nn.Module) -> Costs:
    """Parameters of ``own`` and FLOPs of ``padded``, whose images are of whole patches, with those of ``decoder``."""
    height, width = padded.image_size
    flops = padded.flops.fixed + decoder_flops(backbone, decoder, height, width)
    params = own.params.fixed + sum(parameter.numel() for parameter in decoder.parameters())
    return own.model_copy(
        update={
            "flops": padded.flops.model_copy(update={"fixed": float(flops)}),
            "params": own.params.model_copy(update={"fixed": float(params)}),
        }
    )


def whole_patches(backbone: ScanBackbone, height: int, width: int) -> tuple[int, int]:
    """``height`` and ``width`` as a decoder's model pads them."""
    patch = backbone.patch_size
    return height + -height % patch, width + -width % patch


def network_flops(model: nn.Module, height: int, width: int, *, in_chans: int = 3) -> int:
    """FLOPs of one image in the convention ``full``, of any task's model in evaluation.

    Of other classifiers than scansearch's they are what torch's ``FlopCounterMode`` counts, which is that convention.
    """
    if isinstance(model, DenseModel):
        return dense_flops(model.backbone, model.decoder, height, width)
    if isinstance(model, ScanBackbone):
        return full_flops(model, height, width)
    return counted_flops(model, (in_chans, height, width))


def counted_flops(model: nn.Module, image: tuple[int, int, int]) -> int:
    """FLOPs of one image (channels, height, width) as counted in one pass; the model is left as it was.

    Fused attention is taken apart for the count: not every form of it is counted.
    """
    training, device = model.training, next(model.parameters()).device
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.eval()(torch.zeros(1, *image, device=device))
    model.train(training)
    return int(counter.get_total_flops())


def dense_flops(backbone: ScanBackbone, decoder: nn.Module, height: int, width: int) -> int:
    """FLOPs of one image, sides padded to whole patches as the model pads them."""
    height, width = whole_patches(backbone, height, width)
    return full_flops(backbone, height, width) + decoder_flops(backbone, decoder, height, width)


def released_dense_flops(backbone: ScanBackbone, decoder: nn.Module, height: int, width: int) -> int:
    """The same in the convention of the released code and the paper, where a multiply-add is one."""
    height, width = whole_patches(backbone, height, width)
    return released_flops(backbone, height, width) + decoder_flops(backbone, decoder, height, width) // 2


def decoder_flops(backbone: ScanBackbone, decoder: nn.Module, height: int, width: int) -> int:
    """FLOPs of what follows the backbone's layers, without what training alone uses; they do not depend on the
    directions.

    Counted by torch's ``FlopCounterMode`` on tensors without content. Of a detector, the heads see as many proposals
    and find as many objects as they may at most.
    """
    after: Any = copy.deepcopy(decoder).to("meta").eval()
    maps = [torch.empty(1, *shape, device="meta") for shape in map_shapes(backbone, height, width)]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        after.run_full(maps, (height, width))
    return int(counter.get_total_flops())
