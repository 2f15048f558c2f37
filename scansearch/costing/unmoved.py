"""Trying a model out without leaving a trace in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Forward = Callable[[nn.Module, Tensor], Any]


def plain_forward(model: nn.Module, images: Tensor) -> Any:
    """What ``model`` makes of ``images``."""
    return model(images)


@contextmanager
def unmoved(model: nn.Module) -> Iterator[None]:
    """Inside the block, batch norms of ``model`` use their running statistics and do not change them.

    One image alone, which has no statistics where a map is of one pixel, is thus computed too.
    """
    training = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.training]
    for module in training:
        module.eval()
    try:
        yield
    finally:
        for module in training:
            module.train()
