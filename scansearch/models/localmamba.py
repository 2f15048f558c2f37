"""The names that timm knows: the published models, and both families over any directions.

Importing this module registers them. timm groups models by the module of their entry point, hence its name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from timm.models import generate_default_cfgs, is_model, register_model
from torch import nn

from scansearch.errors import InputError
from scansearch.models.build import FAMILIES
from scansearch.models.published import PUBLISHED
from scansearch.models.registry import CONFIGURATION, create, genotype_layers

__all__: list[str] = []

default_cfgs = generate_default_cfgs(
    {
        name: {
            **CONFIGURATION,
            "license": "apache-2.0",
            "description": published.summary,
            "paper_name": "LocalMamba: Visual State Space Model with Windowed Selective Scan",
            "paper_ids": "arXiv:2403.09338",
        }
        for name, published in PUBLISHED.items()
    }
    | {name: dict(CONFIGURATION) for name in FAMILIES}
)


def published_model(name: str, pretrained: bool, genotype: Any = None, **kwargs: Any) -> nn.Module:
    """The published model ``name``; ``genotype`` (object, path of its file, or plain lists) replaces its directions."""
    published = PUBLISHED[name]
    layers = published.layers if genotype is None else genotype_layers(genotype, name)
    return create(name, published.family, layers, pretrained, **(published.arguments | kwargs))


def family_model(
    name: str, pretrained: bool, *, directions: Sequence[Sequence[str]], **kwargs: Any
) -> nn.Module:
    """A model of the family ``name`` that scans ``directions``, one list per layer."""
    return create(name, name, tuple(tuple(names) for names in directions), pretrained, **kwargs)


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


# By name in this module, because timm and pickle look an entry point up there.
globals().update(
    {
        name: register_name(name, published_model, f"{entry.summary}; ``genotype`` replaces its directions.")
        for name, entry in PUBLISHED.items()
    }
    | {
        name: register_name(name, family_model, f"{kind.__name__} of any ``directions``, one list per layer.")
        for name, kind in FAMILIES.items()
    }
)
