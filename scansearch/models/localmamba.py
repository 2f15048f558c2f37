"""The names that timm knows: the published models, and both families over any directions.

Importing this module registers them. timm groups models by the module of their entry point, hence its name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from timm.models import PretrainedCfg, generate_default_cfgs, is_model, register_model
from torch import nn

from scansearch.errors import InputError
from scansearch.models.build import FAMILIES
from scansearch.models.published import PUBLISHED
from scansearch.models.registry import CONFIGURATION, create, genotype_choice

__all__: list[str] = []

# Each family's own name, and the one that the published models' names begin with.
FAMILY_NAMES = {
    "local_vim": "local_vim",
    "localvim": "local_vim",
    "local_vmamba": "local_vmamba",
    "localvmamba": "local_vmamba",
}
PYRAMID = "_pyramid"  # a plain backbone's name with it has four scales, as segmentation models want them
PLAIN = [name for name, published in PUBLISHED.items() if published.family == "local_vim"]

_CONFIGURATIONS: dict[str, dict[str, Any] | PretrainedCfg] = {
    name: {
        **CONFIGURATION,
        "license": "apache-2.0",
        "description": PUBLISHED[name.removesuffix(PYRAMID)].summary,
        "paper_name": "LocalMamba: Visual State Space Model with Windowed Selective Scan",
        "paper_ids": "arXiv:2403.09338",
    }
    for name in [*PUBLISHED, *(name + PYRAMID for name in PLAIN)]
}
_CONFIGURATIONS |= {name: dict(CONFIGURATION) for name in FAMILY_NAMES}
default_cfgs = generate_default_cfgs(_CONFIGURATIONS)


def published_model(name: str, pretrained: bool, genotype: Any = None, **kwargs: Any) -> nn.Module:
    """The published model ``name``; ``genotype`` (object, path of its file, or plain lists) replaces its directions.

    The depth is then the genotype's, the width stays.

    Raises:
        InputError: a genotype of another family; for LocalVMamba also one whose ``depths`` are not known.
    """
    published = PUBLISHED[name.removesuffix(PYRAMID)]
    arguments = {**published.arguments}
    layers = published.layers
    if genotype is not None:
        layers, sizes = genotype_choice(genotype, published.family, name)
        if published.family == "local_vmamba" and len(layers) != len(published.layers):
            depths = kwargs.get("depths", sizes.get("depths"))
            if depths is None or len(depths) != len(kwargs.get("dims", arguments["dims"])):
                raise InputError(
                    f"the genotype has {len(layers)} layers, {name} has {len(published.layers)}: "
                    f"give depths= of {len(arguments['dims'])} stages, or use 'local_vmamba' with this genotype"
                )
            arguments["depths"] = depths
    if name.endswith(PYRAMID):
        arguments["pyramid"] = True
    return create(name, published.family, layers, pretrained, **(arguments | kwargs))


def family_model(
    name: str,
    pretrained: bool,
    directions: Sequence[Sequence[str]] | None = None,
    genotype: Any = None,
    **kwargs: Any,
) -> nn.Module:
    """A model of the family ``name`` that scans ``directions``, or that a ``genotype`` describes, sizes included.

    Raises:
        InputError: neither or both are given, or the genotype is of the other family.
    """
    family = FAMILY_NAMES[name]
    if (directions is None) == (genotype is None):
        raise InputError(
            f'{name} needs directions, one list per layer ([["h", "v"], ["w2"]]), or genotype="genotype.yaml"'
        )
    layers, arguments = genotype_choice(directions if genotype is None else genotype, family, name)
    return create(name, family, layers, pretrained, **(arguments | kwargs))


def register_name(name: str, make: Callable[..., nn.Module], summary: str) -> Callable[..., nn.Module]:
    """Register ``make(name, pretrained, ...)`` with timm.

    Raises:
        InputError: the name is taken.
    """
    if is_model(name):
        raise InputError(f"model name {name!r} is already registered with timm")

    def entrypoint(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        return make(name, pretrained, **kwargs)

    entrypoint.__name__ = entrypoint.__qualname__ = name
    entrypoint.__doc__ = summary
    return register_model(entrypoint)


def _entrypoints() -> dict[str, Callable[..., nn.Module]]:
    replaced = "``genotype`` replaces its directions."
    made = {
        name: register_name(name, published_model, f"{entry.summary}; {replaced}")
        for name, entry in PUBLISHED.items()
    }
    for name in PLAIN:
        summary = f"{PUBLISHED[name].summary}, with a feature pyramid; {replaced}"
        made[name + PYRAMID] = register_name(name + PYRAMID, published_model, summary)
    for name, family in FAMILY_NAMES.items():
        summary = (
            f"{FAMILIES[family].__name__} of any ``directions``, one list per layer, or of a ``genotype``."
        )
        made[name] = register_name(name, family_model, summary)
    return made


globals().update(_entrypoints())  # timm and pickle look an entry point up by name in this module
