"""A genotype as a diagram: its layers from left to right, in each a sketch of the scans of its directions."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from scansearch.display.sketch import sketch_side
from scansearch.errors import InputError
from scansearch.plots.paths import draw_path
from scansearch.plots.words import shortened, wrapped
from scansearch.records.genotype import Genotype

MOST_LAYERS = 128
_WIDTH = 7.0  # inches: both columns of a paper
_MARGIN, _GAP, _HEAD, _LABEL = 0.1, 0.13, 0.34, 0.15
_NAME, _SMALL = 6.0, 6.5  # points


def genotype_figure(
    genotype: Genotype, *, title: str | None = None, layers_per_row: int | None = None
) -> Figure:
    """A diagram of ``genotype``: a column for each layer, with a small picture of each of its scans above its name.

    A sketch shows the order on 8 x 8 tokens, or on two by two windows; dark to light is the order, a ring the
    start, thin lines are jumps. Above a column stand the layer's number and its real grid of tokens, the latter
    where it changes.

    Args:
        title: instead of family, space and hash.
        layers_per_row: how many layers stand beside each other; None for as many as stay legible, at most 11.

    Raises:
        InputError: more than 128 layers, or a ``layers_per_row`` below 1.
    """
    count = len(genotype.layers)
    if count > MOST_LAYERS:
        raise InputError(f"a genotype of {count} layers cannot be drawn (allowed: 1 to {MOST_LAYERS})")
    if layers_per_row is not None and layers_per_row < 1:
        raise InputError(f"layers_per_row must be at least 1, not {layers_per_row}")
    rows = -(-count // min(layers_per_row or 11, count))
    columns = layers_per_row or -(-count // rows)  # rows of about the same length
    columns = min(columns, count)
    box = min(0.95, (_WIDTH - 2 * _MARGIN + _GAP) / max(columns, 7) - _GAP)
    sketch = box - 0.09
    heading = title if title is not None else _heading(genotype)
    width = 2 * _MARGIN + columns * (box + _GAP) - _GAP
    width = max(width, 3.4)
    lines = wrapped(heading, width - 2 * _MARGIN, 8.0)
    top = 2 * _MARGIN + 0.15 * (lines.count("\n") + 1)
    deepest = [max(map(len, genotype.layers[row * columns : (row + 1) * columns])) for row in range(rows)]
    heights = [_HEAD + most * (sketch + _LABEL) + 0.22 for most in deepest]
    height = top + sum(heights) + 0.02

    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.text(_MARGIN, _MARGIN, lines, fontsize=8, va="top", parse_math=False)
    grids = genotype.known_grids()
    for layer, names in enumerate(genotype.layers):
        row, column = divmod(layer, columns)
        left = _MARGIN + column * (box + _GAP)
        upper = top + sum(heights[:row])
        middle = left + box / 2
        axes.text(middle, upper + 0.12, str(layer), fontsize=7.5, weight="bold", ha="center", va="center")
        if grids and (layer == 0 or column == 0 or grids[layer] != grids[layer - 1]):
            size = f"{grids[layer][0]} x {grids[layer][1]}"
            axes.text(middle, upper + 0.25, size, fontsize=_NAME, color="#555555", ha="center", va="center")
        frame = FancyBboxPatch(
            (left, upper + _HEAD),
            box,
            len(names) * (sketch + _LABEL) + 0.06,
            boxstyle="round,pad=0,rounding_size=0.05",
            facecolor="#f2f2f2",
            edgecolor="#888888",
            linewidth=0.6,
        )
        axes.add_patch(frame)
        if layer + 1 < count:
            _arrow(axes, left + box, upper + _HEAD + 0.12 + sketch / 2)
        for row, name in enumerate(names):
            at = (left + 0.045, upper + _HEAD + 0.045 + row * (sketch + _LABEL))
            side = sketch_side(name)
            axes.add_patch(
                Rectangle(at, sketch, sketch, facecolor="white", edgecolor="#cccccc", linewidth=0.4)
            )
            thin = sketch / side * 72
            draw_path(
                axes,
                name,
                side,
                side,
                corner=at,
                cell=sketch / side,
                linewidth=min(1.1, 0.28 * thin),
                ring=3.0,
            )
            shown = shortened(name, int(box * 72 / (_NAME * 0.6)))
            axes.text(
                middle,
                at[1] + sketch + _LABEL / 2,
                shown,
                fontsize=_NAME,
                family="monospace",
                ha="center",
                va="center",
                parse_math=False,
            )
    return figure


def _arrow(axes, left: float, y: float) -> None:  # type: ignore[no-untyped-def]
    """From one layer to the next; the last of a row points out of it."""
    axes.annotate(
        "",
        (left + _GAP, y),
        (left, y),
        arrowprops={"arrowstyle": "-|>", "color": "#555555", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 0.5,
                    "mutation_scale": 5},
    )  # fmt: skip


def _heading(genotype: Genotype) -> str:
    origin = f"{genotype.space}/{genotype.variant}" if genotype.space else genotype.family
    return f"{origin}, {len(genotype.layers)} layers, genotype {genotype.hash}"
