"""From a genotype's directions to a model with fresh weights."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Sequence
from typing import Any

import torch

from scansearch.errors import InputError
from scansearch.models.backbone import ScanBackbone
from scansearch.models.local_vim import LocalVim
from scansearch.models.local_vmamba import LocalVMamba

FAMILIES: dict[str, type[LocalVim] | type[LocalVMamba]] = {"local_vim": LocalVim, "local_vmamba": LocalVMamba}


def build_model(
    family: str,
    directions: Sequence[Sequence[str]],
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    **kwargs: Any,
) -> ScanBackbone:
    """A model of ``family`` whose layers scan ``directions``; weights are fresh, nothing is inherited.

    Args:
        family: "local_vim" or "local_vmamba".
        directions: one list of direction names per layer.
        device, dtype: of its parameters, instead of torch's defaults.
        kwargs: arguments of the family's class.

    Raises:
        InputError: an unknown family or argument, or layers that do not fit the family's depths.
    """
    if family not in FAMILIES:
        raise InputError(f"model family {family!r} is unknown: use {' or '.join(map(repr, FAMILIES))}")
    model = FAMILIES[family]
    known = set(inspect.signature(model).parameters) - {"directions"}
    unknown = sorted(set(kwargs) - known)
    if unknown:
        raise InputError(f"{model.__name__} has no argument {unknown[0]!r}: use {', '.join(sorted(known))}")
    with contextlib.nullcontext() if device is None else torch.device(device):
        return model(directions, **kwargs).to(dtype=dtype)
