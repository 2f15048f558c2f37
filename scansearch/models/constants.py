"""Tensors that depend on shapes alone, made once and kept."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch
from torch import Tensor

LIMIT = 4096
_kept: dict[Hashable, tuple[Tensor, ...]] = {}


def constant(key: Hashable, make: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """``make()``, from memory where it was made before under ``key``.

    Tensors made in inference mode could not be used in training later, so that mode is left; a tracer's
    stand-ins must not outlive its trace, so they are not kept.
    """
    found = _kept.get(key)
    if found is None:
        with torch.inference_mode(False):
            found = make()
        if all(type(tensor) is Tensor for tensor in found):
            if len(_kept) >= LIMIT:
                _kept.clear()
            _kept[key] = found
    return found
