"""Weights of one model as the start of another: other classes, another image size, other channels; nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from scansearch.errors import InputError
from scansearch.models.backbone import ScanBackbone
from scansearch.models.local_vim import LocalVim
from scansearch.models.rope import resize_positions

_HEAD, _CONVOLUTION, _POSITIONS = "head.", "patch_embed.proj.weight", "pos_embed"
# Of feature maps alone, which a classifier has none of.
_FEATURES = "feature_norms."


@dataclass(frozen=True)
class Transfer:
    """What weights give a model.

    Attributes:
        tensors: entries of the model's state dict; of what is fresh there are none.
        changed: what was resampled or adapted, one line each.
        fresh: names of the entries that keep the model's own values.
    """

    tensors: dict[str, Tensor]
    changed: tuple[str, ...]
    fresh: tuple[str, ...]


def transfer(
    model: ScanBackbone,
    state: Mapping[str, Tensor],
    *,
    head: bool = True,
    image_size: tuple[int, int] | None = None,
) -> Transfer:
    """Fit ``state``, of a model that differs in classes, image size, channels and feature maps alone, to ``model``.

    A position embedding is resampled (bicubic) to the model's grid. A first convolution gives its sum over channels
    to grey images, as for a grey image repeated, and else its channels in turn, scaled to keep the sum: timm's rule.

    Args:
        head: whether the classifier is taken; of another size it never is.
        image_size: height and width in pixels that ``state`` was made for; None where it is not known, which means a
            square.

    Raises:
        InputError: any other difference; names the first.
    """
    own = model.state_dict()
    taken = {name: value for name, value in state.items() if head or not name.startswith(_HEAD)}
    if any(
        name not in taken or taken[name].shape != value.shape
        for name, value in own.items()
        if name.startswith(_HEAD)
    ):
        taken = {name: value for name, value in taken.items() if not name.startswith(_HEAD)}
    taken = {name: value for name, value in taken.items() if name in own or not name.startswith(_FEATURES)}
    changed = []
    table, positions = taken.get(_POSITIONS), own.get(_POSITIONS)
    if isinstance(model, LocalVim) and table is not None and positions is not None and table.ndim == 3:
        # Of an unknown size, a table of the model's own length is taken for one of its own grid.
        known = image_size is not None or table.shape != positions.shape
        source = position_grid(table, model, image_size) if known else model.grid_size
        if source != model.grid_size and table.shape[2] == positions.shape[2]:
            token = model.cls_token is not None
            taken[_POSITIONS] = resize_positions(table.float(), source, model.grid_size, token)
            changed.append(
                f"position embedding resampled from {_grid(source)} to {_grid(model.grid_size)} patches"
            )
    weight = taken.get(_CONVOLUTION)
    if weight is not None and weight.ndim == 4 and weight.shape[1] not in (0, model.in_chans):
        taken[_CONVOLUTION] = adapt_channels(weight, model.in_chans)
        changed.append(f"first convolution adapted from {weight.shape[1]} to {model.in_chans} channels")
    _check(own, taken)
    fresh = tuple(name for name in own if name not in taken)
    return Transfer(taken, tuple(changed), fresh)


def _check(own: Mapping[str, Tensor], taken: Mapping[str, Tensor]) -> None:
    for name, value in own.items():
        if name not in taken and not name.startswith((_HEAD, _FEATURES)):
            raise InputError(f"they lack {name}")
        if name in taken and taken[name].shape != value.shape:
            raise InputError(f"{name} is {list(taken[name].shape)}, the model needs {list(value.shape)}")
    unknown = sorted(name for name in set(taken) - set(own) if not name.startswith(_HEAD))
    if unknown:
        raise InputError(f"they hold {unknown[0]}, which the model lacks")


def position_grid(table: Tensor, model: LocalVim, image_size: tuple[int, int] | None) -> tuple[int, int]:
    """Rows and columns of patches that a position embedding [1, tokens, dim] was made for.

    That of images of ``image_size`` pixels where it fits, else a square.

    Raises:
        InputError: neither fits.
    """
    patches = table.shape[1] - (model.cls_token is not None)
    height, width = image_size or (0, 0)
    declared = (height // model.patch_size, width // model.patch_size)
    side = math.isqrt(max(0, patches))
    source = declared if declared[0] * declared[1] == patches else (side, side)
    if patches < 1 or source[0] * source[1] != patches:
        raise InputError(f"the position embedding of {patches} patches fits no square image")
    return source


def adapt_channels(weight: Tensor, channels: int) -> Tensor:
    """A convolution's weight [out, in, height, width] for another number of input channels."""
    before = weight.shape[1]
    if channels == 1:
        return weight.float().sum(1, keepdim=True)
    repeated = weight.float().repeat(1, -(-channels // before), 1, 1)[:, :channels]
    return repeated * (before / channels)


def _grid(grid: tuple[int, int]) -> str:
    return f"{grid[0]}x{grid[1]}"


def load_transfer(model: ScanBackbone, given: Transfer) -> None:
    """Write ``given`` into ``model``, in place."""
    with torch.no_grad():
        own = model.state_dict()
        for name, value in given.tensors.items():
            own[name].copy_(value)
