"""Scan directions: a name, and the order in which it visits the tokens of a grid.

The name says everything: ``h`` and ``v`` are rasters, ``w7`` walks 7x7 windows, and the suffix ``_flip`` reverses
any of them. Importing this package registers the directions that come with it.
"""

from scansearch.directions.registry import (
    FLIP,
    DirectionFamily,
    Layers,
    Order,
    Padding,
    ScanDirection,
    check_directions,
    direction_families,
    parse_direction,
    register_direction,
    stack_orders,
)
from scansearch.directions.windows import build_windows

from scansearch.directions import curves as curves  # isort: skip - registered after the windows
from scansearch.directions import radial as radial  # isort: skip - and these last

__all__ = [
    "FLIP",
    "DirectionFamily",
    "Layers",
    "Order",
    "Padding",
    "ScanDirection",
    "build_windows",
    "check_directions",
    "direction_families",
    "parse_direction",
    "register_direction",
    "stack_orders",
]
