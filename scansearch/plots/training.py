"""Pictures of trainings and evaluations, as functions that return a matplotlib Figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from scansearch.evaluation.evaluate import Evaluation


def epoch_numbers(epochs: Sequence[Mapping[str, Any]]) -> list[int]:
    """The number of each ``epoch`` record, counted from 1; earlier versions counted them from 0."""
    return [record["epoch"] - epochs[0]["epoch"] + 1 for record in epochs]


def curves_figure(epochs: Sequence[Mapping[str, Any]], *, best_epoch: int | None = None) -> Figure:
    """Loss and accuracy over the epochs, of training and validation; ``epochs`` are a run's ``epoch`` records."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    x = epoch_numbers(epochs)
    for axes, name, unit in ((loss, "loss", "nats"), (accuracy, "accuracy", "%")):
        axes.plot(x, [record[name] for record in epochs], label="training", color="#4878a8")
        axes.plot(x, [record[f"validation_{name}"] for record in epochs], label="validation", color="#ff5a36")
        if best_epoch is not None:
            axes.axvline(best_epoch, color="#888888", linewidth=0.8, linestyle="--", label="best")
        axes.set_xlabel("epoch")
        axes.set_ylabel(f"{name} ({unit})")
        axes.grid(alpha=0.3)
    accuracy.legend(fontsize=8, frameon=False)
    return figure


def confusion_figure(evaluation: Evaluation) -> Figure:
    """Heat map of labels x predictions, each row as shares of its label's images."""
    counts = np.asarray(evaluation.confusion, dtype=float)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    classes = len(counts)
    side = float(np.clip(0.42 * classes, 4.2, 12))
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if classes <= 30:
        axes.set_xticks(range(classes), evaluation.classes, rotation=60, ha="right", fontsize=8)
        axes.set_yticks(range(classes), evaluation.classes, fontsize=8)
        for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
            label.set_parse_math(False)  # a class may be called $5
        for row, column in zip(*np.nonzero(counts), strict=True):
            colour = "white" if shares[row, column] > 0.5 else "black"
            text = f"{int(counts[row, column])}"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=7)
    axes.set_xlabel("prediction")
    axes.set_ylabel("label")
    title = f"{evaluation.data} {evaluation.split}: {evaluation.top1:.2f} % right"
    axes.set_title(title, fontsize=10, parse_math=False)
    figure.colorbar(image, ax=axes, label="share of the label's images", shrink=0.8)
    return figure


def comparison_figure(rows: Sequence[Mapping[str, Any]], *, cost: str = "flops") -> Figure:
    """Score over cost: one point per row, with a bar of one standard deviation where there are several seeds.

    ``rows`` are dicts with ``name``, ``score``, ``deviation`` (or None) and the measure ``cost``, which must belong to
    what was scored: a supernet's accuracy has no place beside the cost of a genotype that it proposes.
    """
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for row in rows:
        axes.errorbar(
            row[cost], row["score"], yerr=row["deviation"] or 0.0, marker="o", capsize=3, label=row["name"]
        )
    units = {"flops": "FLOPs an image", "params": "parameters", "latency_ms": "milliseconds an image"}
    axes.set_xlabel(units[cost])
    axes.set_ylabel("test accuracy (%)")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, frameon=False, loc="best")
    return figure


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
        axes.set_title(name if len(name) <= 14 else name[:13] + "…", fontsize=7, parse_math=False)
    return figure
