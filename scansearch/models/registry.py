"""The published models under their timm names; importing this module registers them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, is_model, register_model
from torch import nn

from scansearch.errors import InputError
from scansearch.models.build import build_model
from scansearch.models.published import PUBLISHED, Layers

__all__: list[str] = []

default_cfgs = generate_default_cfgs(
    {
        name: {
            "first_conv": "patch_embed.proj",
            "classifier": "head",
            "license": "apache-2.0",
            "description": published.summary,
            "paper_name": "LocalMamba: Visual State Space Model with Windowed Selective Scan",
            "paper_ids": "arXiv:2403.09338",
        }
        for name, published in PUBLISHED.items()
    }
)


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


def _create(name: str, pretrained: bool, genotype: Any = None, **kwargs: Any) -> nn.Module:
    published = PUBLISHED[name]
    layers = published.layers if genotype is None else genotype_layers(genotype, name)
    return create(name, published.family, layers, pretrained, **(published.arguments | kwargs))


def _register(name: str) -> Callable[..., nn.Module]:
    if is_model(name):
        raise InputError(f"model name {name!r} is already registered with timm")

    def entrypoint(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        return _create(name, pretrained, **kwargs)

    entrypoint.__name__ = entrypoint.__qualname__ = name
    entrypoint.__doc__ = f"{PUBLISHED[name].summary}; ``genotype`` replaces its directions."
    return register_model(entrypoint)


globals().update({name: _register(name) for name in PUBLISHED})
