"""Published scores against FLOPs, as a function that returns a matplotlib Figure."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

# Kinds of model as they are told apart: label, marker, colour (Okabe and Ito), and the groups of the table.
KINDS: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("searched directions", "*", "#d55e00", ("scan search",)),
    ("scans", "o", "#0072b2", ("scan", "learned scan", "scan (Hilbert)", "scan (rings)")),
    ("other state-space models", "s", "#009e73", ("hybrid", "2D state", "non-causal")),
    ("no state space", "^", "#777777", ("ViT", "CNN", "no SSM")),
)

TICKS = (0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)


def published_figure(points: Sequence[tuple[str, str, float | None, float | None]], score: str) -> Figure:
    """Scatter of score over FLOPs on a logarithmic axis; models that lack either are left out.

    Args:
        points: name, group, FLOPs and score of each model.
        score: label of the score's axis.

    Raises:
        ValueError: a group that no kind has.
    """
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    left = {group for _, group, _, _ in points} - {group for *_, groups in KINDS for group in groups}
    if left:
        raise ValueError(f"groups without a kind: {', '.join(sorted(left))}")
    drawn_flops = [flops / 1e9 for _, _, flops, value in points if flops is not None and value is not None]
    for label, marker, colour, groups in KINDS:
        drawn = [(n, f / 1e9, s) for n, g, f, s in points if g in groups and f is not None and s is not None]
        if not drawn:
            continue
        first = marker == "*"
        axes.scatter(
            [flops for _, flops, _ in drawn],
            [score for _, _, score in drawn],
            s=120 if first else 26,
            marker=marker,
            color=colour,
            edgecolors="white",
            linewidths=0.5,
            label=label,
            zorder=3 if first else 2,
        )
        if first:
            for name, flops, value in drawn:
                axes.annotate(
                    name, (flops, value), xytext=(6, -9), textcoords="offset points", fontsize=7, color=colour
                )
    axes.set_xscale("log")
    axes.set_xlabel("GFLOPs as published (a multiply-add is one)")
    axes.set_ylabel(score)
    axes.set_xticks(
        [x for x in TICKS if not drawn_flops or 0.7 * min(drawn_flops) < x < 1.4 * max(drawn_flops)]
    )
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    return figure
