"""The scan orders of a mixer as tensors, with the middle class token as one more index."""

from __future__ import annotations

from functools import lru_cache
from operator import index

import numpy as np
import torch
from torch import Tensor

from scansearch.directions import Order, Padding, stack_orders
from scansearch.models.constants import constant


def middle_position(tokens: int) -> int:
    """Index of the middle class token in a sequence of ``tokens`` patches: tokens // 2."""
    return tokens // 2


@lru_cache(maxsize=1024)
def order_table(
    directions: tuple[str, ...], height: int, width: int, padding: Padding, class_token: bool
) -> tuple[Order, tuple[int, ...]]:
    """Orders int32 [directions, T], which cannot be written to, and their lengths.

    With a class token the image holds height * width + 1 rows, the token at ``middle_position`` of the
    row-major sequence; every direction also visits it at that step of its own sequence, after any flip and
    counted in patches even where padding made the sequence longer (LocalMamba, released code).
    """
    orders, lengths = stack_orders(directions, height, width, padding)
    if class_token:
        middle = middle_position(height * width)
        orders = np.insert(np.where(orders >= middle, orders + 1, orders), middle, middle, axis=1)
        lengths = tuple(length + 1 for length in lengths)
    orders = np.ascontiguousarray(orders, dtype=np.int32)
    orders.setflags(write=False)  # kept, and shared by all who ask
    return orders, lengths


def _device_orders(
    directions: tuple[str, ...],
    height: int,
    width: int,
    padding: Padding,
    class_token: bool,
    device: torch.device,
) -> tuple[Tensor, tuple[int, ...]]:
    orders, lengths = order_table(directions, height, width, padding, class_token)
    return torch.tensor(orders, device=device), lengths


def scan_orders(
    directions: tuple[str, ...],
    height: int,
    width: int,
    *,
    padding: Padding,
    class_token: bool,
    device: torch.device,
) -> tuple[Tensor, tuple[int, ...]]:
    """``order_table`` on ``device``; every grid is computed and copied once, and is a constant to a compiler."""
    # A grid is always a constant, also where a tracer makes its sides symbols.
    grid = (index(height), index(width))
    return constant(_device_orders, directions, *grid, padding, class_token, device)
