"""Pictures that set searches of several seeds, or models, side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from scansearch.derivation.agreement import SeedAgreement
from scansearch.errors import InputError
from scansearch.plots.words import shortened, wrapped
from scansearch.records.preferences import Preferences

_LEAST_SHOWN = 1e-3  # of the largest contribution


def agreement_figure(
    several: Sequence[Preferences], sizes: Sequence[int], agreement: SeedAgreement
) -> Figure:
    """How many searches have each candidate among their best k, and Kendall's tau of each layer.

    Args:
        several: preferences with the same candidates, one per seed.
        sizes: k of each layer.
        agreement: of these, see :func:`scansearch.derivation.agreement.seed_agreement`.

    Raises:
        InputError: other candidates, or another number of layers.
    """
    first, layers = several[0], several[0].layers
    if any(one.candidates != first.candidates for one in several) or len(sizes) != layers:
        raise InputError("the searches have other candidates, so they cannot be compared")
    names = list(dict.fromkeys(name for layer in first.candidates for name in layer))
    counts = np.full((layers, len(names)), np.nan)
    for layer, size in enumerate(sizes):
        for name in first.candidates[layer]:
            best = [{chosen for chosen, _ in one.ranked(layer)[:size]} for one in several]
            counts[layer, names.index(name)] = sum(name in chosen for chosen in best)
    wide = float(np.clip(4.6 / len(names), 0.28, 0.6))
    high = float(np.clip(7.6 / layers, 0.17, 0.4))
    figure = Figure(figsize=(2.9 + wide * len(names), 1.6 + high * layers), layout="constrained")
    axes, bars = figure.subplots(1, 2, sharey=True, width_ratios=(wide * len(names), 1.2))
    axes.imshow(counts, cmap="cividis", aspect="auto", vmin=0, vmax=len(several))
    axes.set_xticks(range(len(names)), [shortened(name, 14) for name in names], rotation=90)
    for label in axes.get_xticklabels():
        label.set_parse_math(False)
    axes.set_yticks(range(0, layers, 1 if layers <= 48 else 5))
    axes.set_ylabel("layer")
    for row, column in zip(*np.nonzero(counts > 0), strict=True):
        dark = counts[row, column] < len(several) / 2
        axes.text(column, row, f"{counts[row, column]:.0f}", ha="center", va="center",
                  color="white" if dark else "black", fontsize=min(8.0, high * 72 / 1.6))  # fmt: skip
    bars.barh(range(layers), np.nan_to_num(agreement.tau), height=0.7, color="#0072b2")
    bars.axvline(0, color="black", linewidth=0.8)
    bars.set_xlim(-1, 1)
    bars.set_xlabel("Kendall's tau")
    for part in (axes, bars):
        part.tick_params(labelsize=8)
    heading = f"{first.space}/{first.variant}: how many of {len(several)} searches have a direction among their best k"
    figure.suptitle(wrapped(heading, 2.7 + wide * len(names), 9), fontsize=9, parse_math=False)
    return figure


def receptive_fields_figure(fields: Sequence[tuple[str, np.ndarray]]) -> Figure:
    """Effective receptive fields side by side, each relative to its largest contribution, in one logarithmic scale.

    Args:
        fields: title and contributions [height, width] of every pixel, see
            :func:`scansearch.evaluation.receptive_field.receptive_field`.

    Raises:
        InputError: nothing to draw, or a field without any contribution.
    """
    if not fields:
        raise InputError("no receptive fields given: at least one is needed")
    figure = Figure(figsize=(2.5 * len(fields) + 0.9, 2.9), layout="constrained")
    row = figure.subplots(1, len(fields), squeeze=False)[0]
    for axes, (title, field) in zip(row, fields, strict=True):
        largest = float(field.max())
        if not largest > 0:
            raise InputError(f"{title}: no pixel contributes to the middle of the last layer")
        shown = np.clip(field / largest, _LEAST_SHOWN, 1)
        picture = axes.imshow(shown, cmap="cividis", norm=LogNorm(_LEAST_SHOWN, 1))
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_title(wrapped(title, 2.4, 8), fontsize=8, parse_math=False)
    bar = figure.colorbar(picture, ax=list(row), fraction=0.06, shrink=0.85)
    bar.set_label("contribution (largest: 1)", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return figure
