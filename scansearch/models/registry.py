"""What timm's entry points share: a model made from a family, its directions and timm's arguments."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from timm.models import build_model_with_cfg
from torch import nn

from scansearch.directions import Layers
from scansearch.errors import InputError
from scansearch.models.build import build_model
from scansearch.models.published import PUBLISHED

# What a default_cfg says of every model here.
CONFIGURATION: dict[str, Any] = {"first_conv": "patch_embed.proj", "classifier": "head"}


def genotype_layers(genotype: Any, name: str) -> Layers:
    """The directions of a genotype (object, path of its file, or plain lists) that fit the model ``name``.

    Raises:
        InputError: another family, or another number of layers: width is free, depth is not.
    """
    published = PUBLISHED[name]
    if isinstance(genotype, str | PathLike):
        from scansearch.records.genotype import Genotype

        genotype = Genotype.load(Path(genotype))
    family = getattr(genotype, "family", published.family)
    if family != published.family:
        raise InputError(f"the genotype is of family {family!r}, {name} of {published.family!r}")
    layers = tuple(tuple(names) for names in getattr(genotype, "layers", genotype))
    if len(layers) != len(published.layers):
        raise InputError(f"the genotype has {len(layers)} layers, {name} has {len(published.layers)}")
    return layers


def feature_indices(depth: int) -> tuple[int, ...]:
    """The last layer of each quarter of a plain backbone."""
    return tuple(depth * quarter // 4 - 1 for quarter in (1, 2, 3, 4) if depth * quarter >= 4)


def create(name: str, family: str, layers: Layers, pretrained: bool, **arguments: Any) -> nn.Module:
    """A model for timm's entrypoint ``name``: of ``family``, scanning ``layers``, ``arguments`` as timm passes them."""
    plain = family == "local_vim" and not arguments.get("pyramid", False)
    stages = len(arguments.get("depths", range(4)))
    indices = feature_indices(len(layers)) if plain else tuple(range(stages))
    if arguments.get("features_only", False) and "feature_levels" not in arguments:
        wanted: int | Sequence[int] = arguments.get("out_indices", indices)
        wanted = range(-wanted, 0) if isinstance(wanted, int) else wanted
        # Maps get a LayerNorm that learns; the pyramid's are all made from the last layer.
        arguments["feature_levels"] = tuple(wanted) if plain or family == "local_vmamba" else ()

    def make(**rest: Any) -> nn.Module:
        return build_model(family, layers, **rest)

    return build_model_with_cfg(
        make, name, pretrained, feature_cfg={"out_indices": indices, "feature_cls": "getter"}, **arguments
    )
