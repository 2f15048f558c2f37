"""Rows of a tensor into scan order and back in plain torch: the copies that the kernels do without."""

import torch
import torch.nn.functional as F
from torch import Tensor


def rows_in_order(rows: Tensor, order: Tensor | None) -> Tensor:
    """Gather rows [batch, directions, rows, .] along each order; -1 gives a zero row."""
    if order is None:
        return rows
    padded = F.pad(rows, (0, 0, 0, 1))
    index = torch.where(order < 0, rows.shape[2], order).long()
    return padded.gather(2, index[None, :, :, None].expand(rows.shape[0], -1, -1, rows.shape[3]))


def rows_to_image(rows: Tensor, order: Tensor | None, length: int) -> Tensor:
    """Put step t of each direction at its image position; steps of position -1 are dropped."""
    if order is None:
        return F.pad(rows, (0, 0, 0, length - rows.shape[2]))
    index = torch.where(order < 0, length, order).long()
    index = index[None, :, :, None].expand_as(rows)
    image = rows.new_zeros(rows.shape[0], rows.shape[1], length + 1, rows.shape[3])
    return image.scatter(2, index, rows)[:, :, :length]


def alive(lengths: tuple[int, ...], steps: int, like: Tensor) -> Tensor:
    """1 for the steps of each direction that exist, else 0: [directions, steps, 1]."""
    ends = torch.tensor(lengths, device=like.device)[:, None]
    return (torch.arange(steps, device=like.device) < ends).to(like.dtype)[..., None]
