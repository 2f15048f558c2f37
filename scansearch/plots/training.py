"""Pictures of trainings and evaluations, as functions that return a matplotlib Figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from scansearch.errors import InputError
from scansearch.plots.words import shortened
from scansearch.records.heads import FIGURES

if TYPE_CHECKING:
    from scansearch.tasks.protocol import ConfusionRecord


def epoch_numbers(epochs: Sequence[Mapping[str, Any]]) -> list[int]:
    """The number of each ``epoch`` record, counted from 1; earlier versions counted them from 0."""
    return [record["epoch"] - epochs[0]["epoch"] + 1 for record in epochs]


def curves_figure(epochs: Sequence[Mapping[str, Any]], *, best_epoch: int | None = None) -> Figure:
    """Loss and accuracy over the epochs, of training and validation; ``epochs`` are a run's ``epoch`` records.

    Of other tasks also, or only, what they measure: mIoU, and AP of boxes and masks.

    Raises:
        InputError: there are none.
    """
    if not epochs:
        raise InputError("there are no epochs to draw")
    measured = [name for name in FIGURES if all(f"validation_{name}" in record for record in epochs)]
    panels = [("loss", "nats"), *((name, "%") for name in measured)]
    figure = Figure(figsize=(4.5 * len(panels), 3.4), layout="constrained")
    x = epoch_numbers(epochs)
    for axes, (name, unit) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        if all(name in record for record in epochs):
            axes.plot(x, [record[name] for record in epochs], label="training", color="#4878a8")
        axes.plot(x, [record[f"validation_{name}"] for record in epochs], label="validation", color="#ff5a36")
        if best_epoch is not None:
            axes.axvline(best_epoch, color="#888888", linewidth=0.8, linestyle="--", label="best")
        axes.set_xlabel("epoch")
        axes.set_ylabel(f"{FIGURES.get(name, name)} ({unit})")
        axes.grid(alpha=0.3)
        if name == panels[min(1, len(panels) - 1)][0]:
            axes.legend(fontsize=8, frameon=False)
    return figure


def confusion_figure(evaluation: ConfusionRecord) -> Figure:
    """Heat map of labels x predictions, each row as shares of its label's images, or of its pixels."""
    counts = np.asarray(evaluation.confusion, dtype=float)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    classes = len(counts)
    side = float(np.clip(0.42 * classes, 4.2, 12))
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if classes <= 30:
        names = [shortened(name, 24) for name in evaluation.classes]
        axes.set_xticks(range(classes), names, rotation=60, ha="right", fontsize=8)
        axes.set_yticks(range(classes), names, fontsize=8)
        for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
            label.set_parse_math(False)  # a class may be called $5
        for row, column in zip(*np.nonzero(counts), strict=True):
            colour = "white" if shares[row, column] > 0.5 else "black"
            text = (
                f"{int(counts[row, column])}"
                if evaluation.counted == "images"
                else f"{shares[row, column]:.2f}"
            )
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=7)
    axes.set_xlabel("prediction")
    axes.set_ylabel("label")
    title = f"{shortened(evaluation.data, 60)} {evaluation.split}: {evaluation.headline}"
    axes.set_title(title, fontsize=10, parse_math=False)
    figure.colorbar(image, ax=axes, label=f"share of the label's {evaluation.counted}", shrink=0.8)
    return figure


def comparison_figure(rows: Sequence[Mapping[str, Any]], *, cost: str = "flops") -> Figure:
    """Score over cost: one point per row, with a bar of one standard deviation where there are several seeds.

    ``rows`` are dicts with ``name``, ``score``, ``deviation`` (or None) and the measure ``cost``, which must belong to
    what was scored: a supernet's accuracy has no place beside the cost of a genotype that it proposes. Rows of one
    name are told apart by their ``genotype``, where they have one. FLOPs and parameters are in k, M or G. The names
    stand below the picture. A dashed line joins the front: rows that no other row beats in score at their cost or less.
    """
    names = [_row_name(row, rows) for row in rows]
    columns = 2 if len(rows) > 4 and max(map(len, names)) <= 34 else 1
    lines = -(-len(rows) // columns)
    figure = Figure(figsize=(5.2, 3.1 + 0.17 * lines), layout="constrained")
    axes = figure.add_subplot()
    for index, (row, name) in enumerate(zip(rows, names, strict=True)):
        axes.errorbar(
            row[cost],
            row["score"],
            yerr=row["deviation"] or 0.0,
            marker=_MARKERS[index // len(COLOURS) % len(_MARKERS)],
            markersize=5.5,
            linestyle="none",
            color=COLOURS[index % len(COLOURS)],
            capsize=3,
            label=name,
        )
    front = front_of([(float(row[cost]), float(row["score"])) for row in rows])
    if len(front) > 1:
        axes.step(*zip(*front, strict=True), where="post", color="0.6", linestyle="--", linewidth=1, zorder=0)
    unit, what = _COSTS[cost]
    largest = max((abs(row[cost]) for row in rows), default=0.0)
    factor, prefix = (1.0, "")
    if cost != "latency_ms":
        factor, prefix = next((pair for pair in _PREFIXES if largest >= pair[0]), (1.0, ""))
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / factor:.6g}"))
    axes.set_xlabel(what.format(prefix + unit).strip())
    axes.margins(x=0.08, y=0.12)
    axes.set_ylabel("test accuracy (%)")
    axes.yaxis.get_major_formatter().set_useOffset(False)  # type: ignore[attr-defined]
    axes.grid(alpha=0.3)
    legend = figure.legend(loc="outside lower center", ncols=columns, fontsize=7.5, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def front_of(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of (cost, score), those that no other beats in score at their cost or less, the cheapest first."""
    front: list[tuple[float, float]] = []
    for cost, score in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or score > front[-1][1]:
            front.append((cost, score))
    return front


# Okabe and Ito's colours, which colour-blind eyes tell apart.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c6d31")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
_COSTS = {
    "flops": ("FLOPs", "{} an image"),
    "params": ("", "{} parameters"),
    "latency_ms": ("ms", "{} an image"),
}


def _row_name(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """The name of a row as a legend shows it; one that starts with ``_`` would be left out of it."""
    name, hash = str(row["name"]), row.get("genotype")
    short = len(name) <= 4 or sum(other["name"] == row["name"] for other in rows) > 1
    known = f"{name} (genotype {hash})" if hash and short and str(hash) not in name else name
    shown = shortened(known, 64)
    return f" {shown}" if shown.startswith("_") else shown


def samples_figure(images: Sequence[np.ndarray], names: Sequence[str]) -> Figure:
    """Training images as a model sees them, each under its class; images [height, width, channels] in 0..1.

    Of other numbers of channels than 1 and 3, the first is drawn.
    """
    columns = min(8, len(images))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(1.1 * columns, 1.3 * rows), layout="constrained")
    for axes in figure.subplots(rows, columns, squeeze=False).flat:
        axes.set_axis_off()
    for axes, image, name in zip(figure.axes, images, names, strict=False):
        shown = image if image.shape[2] in (1, 3) else image[..., :1]
        axes.imshow(shown.squeeze(2) if shown.shape[2] == 1 else shown, cmap="gray", vmin=0, vmax=1)
        axes.set_title(shortened(name, 14), fontsize=7, parse_math=False)
    return figure
