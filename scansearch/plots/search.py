"""Pictures of a search: what each layer prefers, and how that came about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import matplotlib.patheffects as effects
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from scansearch.directions import FLIP
from scansearch.errors import InputError
from scansearch.plots.training import COLOURS, epoch_numbers
from scansearch.plots.words import shortened, wrapped
from scansearch.records.genotype import Genotype
from scansearch.records.preferences import Preferences

_FRAME = "#ff5a36"
_SIGNS = 14  # of the name of a direction


def preferences_figure(
    preferences: Preferences, genotype: Genotype | None = None, *, title: str | None = None
) -> Figure:
    """Heat map of layers x candidate directions; the directions of ``genotype`` are framed.

    Layers may have different candidates; a direction that a layer lacks is left blank. The scores stand in their
    cells where they fit legibly; where they do not, the colour bar tells them.

    Raises:
        InputError: ``genotype`` has another number of layers.
    """
    _check_layers(preferences.layers, genotype)
    names = list(dict.fromkeys(name for layer in preferences.candidates for name in layer))
    values = np.full((preferences.layers, len(names)), np.nan)
    for row, (candidates, scores) in enumerate(zip(preferences.candidates, preferences.scores, strict=True)):
        for name, score in zip(candidates, scores, strict=True):
            values[row, names.index(name)] = score

    # Both columns of a paper are about 7 inches wide, and a page 9.5 high.
    wide = float(np.clip(5.6 / len(names), 0.34, 0.72))
    high = float(np.clip(7.6 / preferences.layers, 0.16, 0.42))
    width = 1.8 + wide * len(names)
    figure = Figure(figsize=(width, 1.7 + high * preferences.layers), layout="constrained")
    axes = figure.add_subplot()
    finite = values[np.isfinite(values)]
    image = axes.imshow(
        values, cmap="viridis", aspect="auto", vmin=float(finite.min()), vmax=float(finite.max())
    )
    axes.set_xticks(range(len(names)), [shortened(name, _SIGNS) for name in names])
    for label in axes.get_xticklabels():
        label.set(rotation=90 if wide < 0.5 else 30, ha="center" if wide < 0.5 else "right", parse_math=False)
    every = 1 if preferences.layers <= 48 else 5
    axes.set_yticks(range(0, preferences.layers, every))
    axes.tick_params(labelsize=8)
    axes.set_ylabel("layer")
    middle = (finite.min() + finite.max()) / 2
    digits = 2 if np.abs(finite).max() >= 0.1 else 3
    longest = max(len(f"{value:.{digits}f}") for value in finite)
    points = min(8.0, wide * 0.86 * 72 / (0.6 * longest), high * 72 / 1.5)
    if points >= 5.5:
        for row, column in zip(*np.nonzero(np.isfinite(values)), strict=True):
            colour = "white" if values[row, column] < middle else "black"
            text = f"{values[row, column]:.{digits}f}"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=points)
    if genotype is not None:
        line = 2.2 if min(wide, high) > 0.3 else 1.3
        for row, layer in enumerate(genotype.layers):
            for name in (name for name in layer if name in names):
                corner = (names.index(name) - 0.46, row - 0.44)
                frame = Rectangle(corner, 0.92, 0.88, fill=False, edgecolor=_FRAME, linewidth=line)
                # White around it, so that it stands out of every colour of the map.
                frame.set_path_effects([effects.withStroke(linewidth=1.7 * line, foreground="white")])
                axes.add_patch(frame)
    unit = (
        "gate probability"
        if preferences.selection == "magnitude"
        else "rise of the validation loss when removed"
    )
    figure.colorbar(image, ax=axes, fraction=min(0.15, 0.35 / width), aspect=30).set_label(unit, fontsize=9)
    heading = title or f"{preferences.space}/{preferences.variant}: preference of each layer"
    heading += " (framed: chosen)" if genotype is not None else ""
    figure.suptitle(wrapped(heading, width - 0.3, 10), fontsize=10, parse_math=False)
    return figure


def trajectories_figure(
    epochs: Sequence[Mapping[str, Any]],
    candidates: Sequence[Sequence[str]],
    genotype: Genotype | None = None,
    *,
    layers: Sequence[int] | None = None,
) -> Figure:
    """How the gate probabilities moved: one panel per layer, one line per candidate, over the epochs.

    The directions of ``genotype`` are strong and named at the end of their lines, those backwards dashed; the others
    are thin and grey. Without a genotype the candidate of each layer that ends highest is.

    Args:
        epochs: the ``epoch`` records of a run's metrics.
        candidates: of each layer.
        layers: which layers, from 0; None for all. About 12 fill a page.

    Raises:
        InputError: no epochs, epochs without gate probabilities, a layer that there is not, or a ``genotype`` with
            another number of layers.
    """
    _check_layers(len(candidates), genotype)
    if not epochs or any("probabilities" not in record for record in epochs):
        raise InputError("there are no gate probabilities over the epochs to draw")
    shown = list(range(len(candidates)) if layers is None else layers)
    for layer in shown:
        if not 0 <= layer < len(candidates):
            raise InputError(f"the search has no layer {layer} (allowed: 0 to {len(candidates) - 1})")
    columns = min(len(shown), 3)
    rows = -(-len(shown) // columns)
    width = 3.4 if columns == 1 else 7.0
    figure = Figure(figsize=(width, 1.75 * rows + 0.25), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    x = epoch_numbers(epochs)
    bases = list(dict.fromkeys(name.removesuffix(FLIP) for layer in candidates for name in layer))
    highest = max(value for record in epochs for layer in shown for value in record["probabilities"][layer])
    top = 1.06 * highest or 1.0
    ticks = MaxNLocator(5, integer=True).tick_values(x[0], x[-1]) if len(x) > 1 else x
    for axes in panels.flat[len(shown) :]:
        axes.set_axis_off()
    for layer, axes in zip(shown, panels.flat, strict=False):
        lines = {
            name: [record["probabilities"][layer][index] for record in epochs]
            for index, name in enumerate(candidates[layer])
        }
        best = max(lines, key=lambda name: lines[name][-1])
        chosen = (best,) if genotype is None else genotype.layers[layer]
        ends = []
        for name in sorted(lines, key=lambda name: name in chosen):  # the chosen ones on top
            if name not in chosen:
                axes.plot(x, lines[name], label=name, color="#b0b0b0", linewidth=0.7)
                continue
            colour = COLOURS[bases.index(name.removesuffix(FLIP)) % len(COLOURS)]
            style = "--" if name.endswith(FLIP) else "-"
            marker = "o" if len(x) == 1 else ""
            axes.plot(
                x, lines[name], style, label=name, color=colour, linewidth=1.7, marker=marker, markersize=3
            )
            ends.append((lines[name][-1], name, colour))
        _name_ends(axes, sorted(ends), x[-1], top)
        axes.set_title(f"layer {layer}", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.25)
        axes.set_xlim(x[0] - 0.02, x[-1] + max(0.52 * (x[-1] - x[0]), 0.5))
        axes.set_ylim(0, top)
        axes.set_xticks([tick for tick in ticks if x[0] <= tick <= x[-1]])
    for axes in panels[-1]:
        axes.set_xlabel("epoch", fontsize=8)
    figure.supylabel("gate probability", fontsize=8)
    return figure


def _name_ends(axes: Axes, ends: Sequence[tuple[float, str, str]], x: float, top: float) -> None:
    """Names beside the ends of lines (height, name, colour; lowest first), moved apart where they would overlap."""
    points = 6.0 if len(ends) <= 11 else 66.0 / len(ends)
    line = 0.085 * top * points / 6  # of a panel 1.2 inches high
    for (height, name, colour), moved in zip(ends, _apart([end[0] for end in ends], line, top), strict=True):
        axes.annotate(
            shortened(name, _SIGNS),
            (x, height),
            xytext=(9, moved),
            textcoords=("offset points", "data"),
            fontsize=points,
            family="monospace",
            color=colour,
            va="center",
            parse_math=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.4, "shrinkA": 0, "shrinkB": 1,
                        "relpos": (0, 0.5)},
        )  # fmt: skip


def _apart(heights: Sequence[float], line: float, top: float) -> list[float]:
    """The places nearest to ``heights`` (rising) that lie a ``line`` apart, between 0 and ``top``."""
    groups: list[list[float]] = []  # heights less the lines below them: means of groups must rise
    for index, height in enumerate(heights):
        groups.append([height - index * line])
        while len(groups) > 1 and fmean(groups[-2]) > fmean(groups[-1]):
            groups[-2:] = [groups[-2] + groups[-1]]
    bases = [fmean(group) for group in groups for _ in group]
    highest = top - line * (len(heights) - 0.5)
    return [max(line / 2, min(base, highest)) + index * line for index, base in enumerate(bases)]


def _check_layers(count: int, genotype: Genotype | None) -> None:
    if genotype is not None and len(genotype.layers) != count:
        raise InputError(f"the genotype has {len(genotype.layers)} layers, the search has {count}")
