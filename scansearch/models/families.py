"""Each family under one timm name that takes any directions; what exported models are found by in timm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from timm.models import generate_default_cfgs, is_model, register_model
from torch import nn

from scansearch.errors import InputError
from scansearch.models.build import FAMILIES
from scansearch.models.registry import create

__all__: list[str] = []

CONFIGURATION = {"first_conv": "patch_embed.proj", "classifier": "head"}

default_cfgs = generate_default_cfgs({name: dict(CONFIGURATION) for name in FAMILIES})


def _register(name: str) -> Callable[..., nn.Module]:
    if is_model(name):
        raise InputError(f"model name {name!r} is already registered with timm")

    def entrypoint(
        pretrained: bool = False, *, directions: Sequence[Sequence[str]], **kwargs: Any
    ) -> nn.Module:
        layers = tuple(tuple(names) for names in directions)
        return create(name, name, layers, pretrained, **kwargs)

    entrypoint.__name__ = entrypoint.__qualname__ = name
    entrypoint.__doc__ = f"{FAMILIES[name].__name__} of any ``directions``, one list per layer."
    return register_model(entrypoint)


globals().update({name: _register(name) for name in FAMILIES})
