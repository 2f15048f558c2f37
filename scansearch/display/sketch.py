"""Small pictures of scans as SVG text, and the grid on which a scan is told from others."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from scansearch.directions import ScanDirection, parse_direction
from scansearch.display.html import escape, line

# Dark to light in scan order: matplotlib's viridis without its lightest end, which white paper would swallow.
PATH_COLOURS = ("#440154", "#3f4788", "#2d708e", "#1f968b", "#3dbc74", "#94d840")
START = "#d43d00"  # tells the start apart from every colour of a path, for colour-blind eyes too
MOST_LAYERS = 64  # of a strip; the rest is counted
_WINDOW = re.compile(r"w<K>v?")


def window_side(direction: ScanDirection) -> int | None:
    """The side of the windows that ``direction`` walks, in tokens; None where it walks none."""
    return direction.parameter if _WINDOW.fullmatch(direction.family.pattern) else None


def sketch_side(name: str) -> int:
    """The side of the square grid on which the direction called ``name`` can be told from others: 8, or two windows.

    Raises:
        InputError: an unknown direction.
    """
    side = window_side(parse_direction(name))
    return 8 if side is None or side in (1, 2, 4) else min(2 * side, 32)


def scan_svg(name: str, size: int = 48) -> str:
    """The scan ``name`` on its sketch grid: dark to light in scan order, jumps thin, a ring around the start.

    Args:
        size: width and height in CSS pixels.

    Raises:
        InputError: an unknown direction.
    """
    side = sketch_side(name)
    row, column = np.divmod(parse_direction(name).order(side, side, "skip"), side)
    points = list(zip(column.tolist(), row.tolist(), strict=True))
    width = side / 40
    parts = [f'<rect width="{side}" height="{side}" fill="#fff"/>']
    for colour, steps, jumps in _chunks(points):
        for lines, stroke in ((jumps, width / 2.5), (steps, width * 1.5)):
            if lines:
                path = "".join(f"M{_at(start)}L{_at(end)}" for start, end in lines)
                parts.append(f'<path d="{path}" stroke="{colour}" stroke-width="{stroke:.3g}"/>')
    x, y = points[0]
    parts.append(
        f'<circle cx="{x + 0.5}" cy="{y + 0.5}" r="{side / 20:.3g}" fill="#fff" stroke="{START}" '
        f'stroke-width="{side / 40:.3g}"/>'
    )
    return (
        f'<svg viewBox="0 0 {side} {side}" width="{size}" height="{size}" role="img" fill="none" '
        f'stroke-linecap="round"><title>{escape(name)}</title>{"".join(parts)}</svg>'
    )


def layer_strip(
    layers: Sequence[Sequence[str]], grids: Sequence[tuple[int, int]] = (), *, numbered: bool = True
) -> str:
    """The scans of each layer as HTML, at most 64 layers from left to right, wrapped where the page ends.

    Args:
        layers: the directions of each.
        grids: rows and columns of tokens of each, told where they change; may be empty.
        numbered: whether the number of each layer, from 0, stands above it.
    """
    sketches: dict[str, str] = {}
    boxes = []
    for layer, names in enumerate(layers[:MOST_LAYERS]):
        changed = bool(grids) and (layer == 0 or grids[layer] != grids[layer - 1])
        size = f'<span class="ss-note">{grids[layer][0]} x {grids[layer][1]}</span>' if changed else ""
        scans = []
        for name in names:
            sketches.setdefault(name, scan_svg(name))
            scans.append(f"{sketches[name]}<span>{escape(name)}</span>")
        number = f"<b>{layer}</b>" if numbered else ""
        boxes.append(f'<div class="ss-layer">{number}{size}{"".join(scans)}</div>')
    left_out = len(layers) - len(boxes)
    more = line(f"and {left_out} more layers", "ss-note") if left_out > 0 else ""
    return f'<div class="ss-strip">{"".join(boxes)}</div>{more}'


_Point = tuple[int, int]
_Lines = list[tuple[_Point, _Point]]


def _chunks(points: list[_Point]) -> Iterator[tuple[str, _Lines, _Lines]]:
    """Of each colour: the lines to neighbours, where straight ones are joined, and the jumps."""
    segments = list(pairwise(points))
    count = len(PATH_COLOURS)
    for index, colour in enumerate(PATH_COLOURS):
        steps: _Lines = []
        jumps: _Lines = []
        for start, end in segments[index * len(segments) // count : (index + 1) * len(segments) // count]:
            move = (end[0] - start[0], end[1] - start[1])
            if max(map(abs, move)) > 1:
                jumps.append((start, end))
            elif steps and steps[-1][1] == start and _sign(steps[-1]) == move:
                steps[-1] = (steps[-1][0], end)
            else:
                steps.append((start, end))
        yield colour, steps, jumps


def _sign(line: tuple[_Point, _Point]) -> _Point:
    (x, y), (to_x, to_y) = line
    return (to_x > x) - (to_x < x), (to_y > y) - (to_y < y)


def _at(point: _Point) -> str:
    return f"{point[0] + 0.5} {point[1] + 0.5}"
