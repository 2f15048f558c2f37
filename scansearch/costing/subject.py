"""What costs are asked for: the model behind a name, with every direction that may be chosen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scansearch.costing.decoders import dense_costs, released_dense_flops, whole_patches
from scansearch.costing.flops import model_costs, released_flops
from scansearch.data.treatment import height_and_width
from scansearch.errors import InputError
from scansearch.models.backbone import ScanBackbone
from scansearch.models.build import build_model
from scansearch.records.costs import Costs
from scansearch.records.equal_scans import describe_merged, same_scans
from scansearch.records.lookup import Kind, look_up
from scansearch.records.weights import read_header
from scansearch.tasks import find_task

SUBJECTS: tuple[Kind, ...] = ("genotype", "search", "training", "weights", "space", "published")


@dataclass(frozen=True)
class CostSubject:
    """A model whose directions have costs.

    Attributes:
        model: without gates; of a space, with all candidates in every layer.
        image_size: height and width in pixels.
        space, variant: of a space only.
        decoder: what is on it, of a model that was trained for masks or objects.
    """

    model: ScanBackbone
    image_size: tuple[int, int]
    space: str | None = None
    variant: str | None = None
    decoder: nn.Module | None = None

    def costs(self) -> Costs:
        """FLOPs and parameters of every direction in every layer, and of the rest."""
        height, width = self.image_size
        if self.decoder is not None:
            return dense_costs(self.model, self.decoder, height, width)
        return model_costs(self.model, height, width, space=self.space, variant=self.variant)

    def released_flops(self) -> int:
        """FLOPs of the whole model as the released code counts."""
        height, width = self.image_size
        if self.decoder is not None:
            return released_dense_flops(self.model, self.decoder, height, width)
        return released_flops(self.model, height, width)

    def repeated_scans(self) -> list[str]:
        """Which directions of a layer are one scan at this size, one line for each run of layers alike."""
        seen = self.image_size if self.decoder is None else whole_patches(self.model, *self.image_size)
        grids = self.model.mixer_grids(*seen)
        merged = [
            same_scans(mixer.directions, grid, mixer.window_padding)
            for mixer, grid in zip(self.model.mixers, grids, strict=True)
        ]
        return describe_merged(merged, grids)


def cost_subject(
    name: str | Path,
    *,
    image_size: int | tuple[int, int] | None = None,
    num_classes: int | None = None,
    variant: str | None = None,
    weightless: bool = True,
) -> CostSubject:
    """The model that ``name`` stands for.

    Args:
        name: a published model, genotype file, run folder, weight file, or search space.
        image_size: side, or (height, width), in pixels; None for the model's own.
        num_classes: None for that of the weights, where there are any, else 1000.
        variant: of a search space; None for its default one.
        weightless: on the meta device, which is enough to count; measuring needs weights.

    Raises:
        InputError: nothing of that name, an unknown variant, or a size below 1.
    """
    head = None
    named = look_up(name, SUBJECTS, command="costs")
    if named.kind == "space":
        space = named.space()
        variant = variant or space.default_variant
        family, layers = space.family, space.layer_candidates(variant)
        arguments = space.model_arguments(variant, "derived")
    else:
        if variant is not None:
            raise InputError("--variant belongs to a search space")
        genotype = named.genotype()
        family, layers, arguments = genotype.family, genotype.layers, dict(genotype.model)
        if named.weight_file is not None:
            header = read_header(named.weight_file)
            arguments |= header.arguments
            head = header.head
    height, width = height_and_width(arguments.get("img_size", 224) if image_size is None else image_size)
    if min(height, width) < 1:
        raise InputError(f"image size must be at least 1, not {min(height, width)}")
    if head is not None and num_classes is not None:
        raise InputError(f"--num-classes belongs to classifiers: {str(name)!r} is of task {head.task}")
    if head is not None and not weightless:
        raise InputError(f"latency is measured of classifiers: {str(name)!r} is of task {head.task}")
    sizes: dict[str, Any] = {"img_size": (height, width), "weighted": False}
    if num_classes is not None:
        sizes["num_classes"] = num_classes
    with torch.device("meta" if weightless else "cpu"):
        model = build_model(family, layers, **(arguments | sizes))
        decoder = None if head is None else find_task(head.task).decoder(model, head.classes, head.options)
    name_of_space = space.name if named.kind == "space" else None
    return CostSubject(model, (height, width), name_of_space, variant, decoder)
