"""What costs are asked for: the model behind a name, with every direction that may be chosen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from scansearch.data.treatment import height_and_width
from scansearch.errors import InputError
from scansearch.models.backbone import ScanBackbone
from scansearch.models.build import build_model
from scansearch.records.equal_scans import describe_merged, same_scans
from scansearch.records.lookup import Kind, look_up
from scansearch.records.weights import read_header

SUBJECTS: tuple[Kind, ...] = ("genotype", "search", "training", "weights", "space", "published")


@dataclass(frozen=True)
class CostSubject:
    """A model whose directions have costs.

    Attributes:
        model: without gates; of a space, with all candidates in every layer.
        image_size: height and width in pixels.
        space, variant: of a space only.
    """

    model: ScanBackbone
    image_size: tuple[int, int]
    space: str | None = None
    variant: str | None = None

    def repeated_scans(self) -> list[str]:
        """Which directions of a layer are one scan at this size, one line for each run of layers alike."""
        grids = self.model.mixer_grids(*self.image_size)
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
            arguments |= read_header(named.weight_file).arguments
    height, width = height_and_width(arguments.get("img_size", 224) if image_size is None else image_size)
    if min(height, width) < 1:
        raise InputError(f"image size must be at least 1, not {min(height, width)}")
    sizes: dict[str, Any] = {"img_size": (height, width), "weighted": False}
    if num_classes is not None:
        sizes["num_classes"] = num_classes
    with torch.device("meta" if weightless else "cpu"):
        model = build_model(family, layers, **(arguments | sizes))
    return CostSubject(model, (height, width), space.name if named.kind == "space" else None, variant)
