"""Two-dimensional rotary position embedding over a whole token (Vim, EVA-02), for any grid."""

from __future__ import annotations

from operator import index
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from scansearch.models.constants import constant
from scansearch.models.orders import middle_position

RopeResize = Literal["angles", "tables"]
REFERENCE_GRID = 14


def rope_tables(height: int, width: int, dim: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines, float32 [height * width, dim // 2], one column per pair of channels.

    The first half of the pairs turns by the row, the second by the column; positions are scaled so that any
    grid spans the 14 steps of the reference grid.
    """
    quarter = torch.arange(0, dim // 2, 2)[: dim // 4].float()
    frequencies = 1.0 / (10000 ** (quarter / (dim // 2)))
    rows, columns = (
        torch.einsum("i,f->if", torch.arange(size) / size * REFERENCE_GRID, frequencies)
        for size in (height, width)
    )
    angles = torch.cat(
        [rows[:, None].expand(-1, width, -1), columns[None].expand(height, -1, -1)], dim=-1
    ).flatten(0, 1)
    return angles.cos(), angles.sin()


def resize_grid(table: Tensor, source: tuple[int, int], target: tuple[int, int]) -> Tensor:
    """Bicubic resampling of ``table`` [..., source tokens, dim] to [..., target tokens, dim]."""
    image = table.reshape(-1, *source, table.shape[-1]).permute(0, 3, 1, 2)
    image = F.interpolate(image, size=target, mode="bicubic", align_corners=False)
    return image.permute(0, 2, 3, 1).reshape(*table.shape[:-2], target[0] * target[1], table.shape[-1])


def resize_positions(
    table: Tensor, source: tuple[int, int], target: tuple[int, int], class_token: bool
) -> Tensor:
    """A position embedding [1, tokens, dim] of the grid ``source``, for another; a middle class token keeps its own."""
    target = (index(target[0]), index(target[1]))
    if source == target:
        return table
    if not class_token:
        return resize_grid(table, source, target)
    middle, split = middle_position(source[0] * source[1]), middle_position(target[0] * target[1])
    patches = resize_grid(torch.cat([table[:, :middle], table[:, middle + 1 :]], dim=1), source, target)
    return torch.cat([patches[:, :split], table[:, middle : middle + 1], patches[:, split:]], dim=1)


def grid_rope(
    height: int,
    width: int,
    dim: int,
    *,
    resize: RopeResize,
    trained: tuple[int, int],
    device: torch.device,
    dtype: torch.dtype,
    class_token: bool = False,
) -> tuple[Tensor, Tensor]:
    """The tables of one grid, [tokens, dim // 2], computed in float32 and kept.

    ``resize`` says what happens on a grid other than ``trained``: "angles" interpolates the positions, so that the
    result is still a rotation; "tables" resamples cosine and sine themselves, as the released code does. A middle
    class token has no position: it is not rotated.
    """
    target = (index(height), index(width))
    source = trained if resize == "tables" else target
    return constant(_device_rope, *target, *source, dim, class_token, device, dtype)


def _device_rope(
    height: int,
    width: int,
    source_height: int,
    source_width: int,
    dim: int,
    class_token: bool,
    device: torch.device,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    source, target = (source_height, source_width), (height, width)
    cos, sin = (table.to(device, dtype) for table in rope_tables(*source, dim))
    if source != target:
        cos, sin = resize_grid(cos, source, target), resize_grid(sin, source, target)
    if class_token:
        middle = middle_position(height * width)
        cos = torch.cat([cos[:middle], torch.ones_like(cos[:1]), cos[middle:]])
        sin = torch.cat([sin[:middle], torch.zeros_like(sin[:1]), sin[middle:]])
    return cos, sin


def rotate(x: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate the channel pairs of ``x`` [batch, length, dim]; the result has the same shape."""
    cos, sin = tables
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1).flatten(-2)
