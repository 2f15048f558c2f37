"""Scan directions: a name, and the order in which it visits the tokens of a grid.

A direction is only an *order*, a list of row-major token indices. The name says everything:
``h`` and ``v`` are rasters, ``w7`` walks 7x7 windows, and the suffix ``_flip`` reverses any of them.
A new direction is one function and one decorator::

    @register_direction("h", summary="rows left to right, top to bottom", source="Vim, arXiv 2401.09417")
    def _horizontal(height, width):
        return np.arange(height * width)
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from scansearch.errors import InputError

Padding = Literal["zero", "skip"]
Order = NDArray[np.int32]
Layers = tuple[tuple[str, ...], ...]  # the names of the directions of each layer

FLIP = "_flip"
_PARAMETER = re.compile(r"<([A-Z]+)>")


@dataclass(frozen=True)
class DirectionFamily:
    """All directions that share one rule, for example ``w<K>`` for every window size K.

    ``build(height, width)``, or ``build(height, width, parameter)`` where the pattern has a parameter,
    returns the order [T] of token indices on that grid; -1 marks a zero row.
    """

    pattern: str
    build: Callable[..., NDArray[np.integer]]
    summary: str
    source: str
    minimum: int = 0

    @property
    def has_parameter(self) -> bool:
        return _PARAMETER.search(self.pattern) is not None

    def name(self, parameter: int | None) -> str:
        """The unflipped name of this family's member with ``parameter``."""
        return _PARAMETER.sub(str(parameter), self.pattern)

    def matches(self, base: str) -> re.Match[str] | None:
        head, _, tail = _PARAMETER.sub("\0", self.pattern).partition("\0")
        number = r"(0|[1-9][0-9]{0,17})" if self.has_parameter else ""
        return re.fullmatch(re.escape(head) + number + re.escape(tail), base)


_FAMILIES: dict[str, DirectionFamily] = {}


def register_direction(
    pattern: str, *, summary: str, source: str, minimum: int = 0
) -> Callable[[Callable[..., NDArray[np.integer]]], Callable[..., NDArray[np.integer]]]:
    """Register ``build`` under ``pattern`` and, reversed, under ``pattern + "_flip"``.

    A pattern is a plain name (``snake``) or holds one integer parameter in angle brackets (``w<K>``),
    whose smallest allowed value is ``minimum``.

    Raises:
        ValueError: the pattern is taken, malformed, or ends in the reserved suffix ``_flip``.
    """
    if not re.fullmatch(r"[a-z]+(<[A-Z]+>)?[a-z]*", pattern):
        raise ValueError(
            f"direction pattern {pattern!r} is malformed: lower-case letters, at most one <PARAMETER>"
        )
    if pattern in _FAMILIES:
        raise ValueError(f"direction {pattern!r} is already registered")

    def register(build: Callable[..., NDArray[np.integer]]) -> Callable[..., NDArray[np.integer]]:
        _FAMILIES[pattern] = DirectionFamily(pattern, build, summary, source, minimum)
        return build

    return register


def direction_families() -> tuple[DirectionFamily, ...]:
    """Every registered family, in the order of registration."""
    return tuple(_FAMILIES.values())


@dataclass(frozen=True)
class ScanDirection:
    """One scan direction. Obtain it with :func:`parse_direction`.

    Attributes:
        name: canonical name, for example ``w7_flip``.
        family: the rule it follows.
        parameter: the integer in its name, or None.
        flipped: whether the order is reversed (padding rows then come first).
    """

    name: str
    family: DirectionFamily
    parameter: int | None
    flipped: bool

    def order(self, height: int, width: int, padding: Padding = "zero") -> Order:
        """Token indices in the order of this scan, int32 [T], read-only.

        Args:
            height, width: the grid in tokens, each at least 1.
            padding: ``zero`` keeps the -1 rows with which ragged windows are filled, as in LocalMamba
                (arXiv 2403.09338); ``skip`` leaves them out, so that T = height * width.

        Raises:
            ValueError: an empty grid or an unknown padding.
        """
        return _cached_order(self.name, height, width, padding)


@lru_cache(maxsize=4096)
def _cached_order(name: str, height: int, width: int, padding: str) -> Order:
    if height < 1 or width < 1:
        raise ValueError(f"a grid of {height}x{width} tokens is empty: height and width must be at least 1")
    if padding not in ("zero", "skip"):
        raise ValueError(f"window padding {padding!r} is unknown: use 'zero' or 'skip'")
    direction = parse_direction(name)
    arguments = () if direction.parameter is None else (direction.parameter,)
    rows = np.asarray(direction.family.build(height, width, *arguments))
    if (
        rows.ndim != 1
        or not np.issubdtype(rows.dtype, np.integer)
        or not np.array_equal(np.sort(rows[rows != -1]), np.arange(height * width))
    ):
        raise ValueError(
            f"direction {name!r} is wrong on a grid of {height}x{width} tokens: it must visit each token exactly once"
        )
    order = np.array(rows, dtype=np.int32)
    if padding == "skip":
        order = order[order >= 0]
    if direction.flipped:
        order = order[::-1]
    order = np.ascontiguousarray(order)
    order.flags.writeable = False
    return order


@lru_cache(maxsize=1024)
def parse_direction(name: str) -> ScanDirection:
    """The direction called ``name``.

    Raises:
        ValueError: the name is unknown or malformed; the message shows the nearest valid name.
    """
    base = name.removesuffix(FLIP)
    for family in _FAMILIES.values():
        match = family.matches(base)
        if match is None:
            continue
        parameter = int(match[1]) if family.has_parameter else None
        if parameter is not None and parameter < family.minimum:
            break
        return ScanDirection(name, family, parameter, base != name)
    shown = repr(name if len(name) <= 40 else name[:37] + "...")
    raise InputError(f"unknown scan direction {shown}; the nearest valid name is {_nearest(name)!r}")


def _nearest(name: str) -> str:
    number = re.search(r"[0-9]+", name)
    bases = []
    for family in _FAMILIES.values():
        parameter = int(number[0]) if number and len(number[0]) < 9 else 7
        bases.append(family.name(max(parameter, family.minimum)) if family.has_parameter else family.pattern)
    valid = bases + [base + FLIP for base in bases]
    return difflib.get_close_matches(name[:40].lower(), valid, n=1, cutoff=0.0)[0]


def check_directions(names: Iterable[str], *, where: str) -> tuple[str, ...]:
    """``names`` as a tuple of distinct valid direction names.

    Raises:
        ValueError: naming ``where`` and the unknown, repeated or missing direction.
    """
    checked: list[str] = []
    for name in names:
        try:
            parse_direction(name)
        except ValueError as error:
            raise InputError(f"{where}: {error}") from None
        if name in checked:
            raise InputError(f"{where}: direction {name!r} is listed twice")
        checked.append(name)
    if not checked:
        raise InputError(f"{where}: at least one direction is needed")
    return tuple(checked)


def stack_orders(
    names: Sequence[str], height: int, width: int, padding: Padding = "zero"
) -> tuple[Order, tuple[int, ...]]:
    """The orders of several directions as one table.

    Returns:
        ``orders`` int32 [K, T] with T the longest order, shorter ones filled with -1 at the end,
        and ``lengths``, the K true lengths.
    """
    orders = [parse_direction(name).order(height, width, padding) for name in names]
    lengths = tuple(len(order) for order in orders)
    table = np.full((len(orders), max(lengths)), -1, dtype=np.int32)
    for row, order in zip(table, orders, strict=True):
        row[: len(order)] = order
    return table, lengths
