"""Figure and page of the benchmark `vim8-bench` from whatever its table holds: results/vim8_bench.{png,md}.

python experiments/vim8_bench_report.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from pandas import DataFrame

from scansearch.analysis.benchmark import bench_table, genotype_means, noise
from scansearch.errors import InputError
from scansearch.files.atomic import write_figure, write_text
from scansearch.records.space import load_space

RESULTS = Path(__file__).resolve().parent / "results"
NAMES = load_space("vim8-bench").layer_candidates()[0]
TRAINED = f"{len(NAMES) ** 2} genotypes"


def heat_map(means: DataFrame) -> Figure:
    """Mean test NLL by the directions of both layers; blank where nothing was trained."""
    values = np.full((len(NAMES), len(NAMES)), np.nan)
    for row in means.itertuples():
        values[NAMES.index(row.layer_1), NAMES.index(row.layer_2)] = row.mean
    figure = Figure(figsize=(6.4, 5.4), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(values, cmap="viridis_r")
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value):
            dark = value > np.nanmean(values)
            axes.text(j, i, f"{value:.2f}", ha="center", va="center", color="w" if dark else "k", fontsize=8)
    axes.set_xticks(range(len(NAMES)), NAMES, rotation=30, ha="right")
    axes.set_yticks(range(len(NAMES)), NAMES)
    axes.set_xlabel("layer 2")
    axes.set_ylabel("layer 1")
    axes.set_title("vim8-bench: mean test NLL (nats), lower is better")
    figure.colorbar(image, ax=axes)
    return figure


def explained_by_v(means: DataFrame) -> float:
    """Share of the variance of genotype means that the rule "contains v or v_flip" explains."""
    has_v = means["layer_1"].isin(["v", "v_flip"]) | means["layer_2"].isin(["v", "v_flip"])
    if has_v.all() or not has_v.any():
        return float("nan")
    inside = means.groupby(has_v)["mean"].transform("mean")
    return float(inside.var() / means["mean"].var())


def noise_lines(table: DataFrame) -> list[str]:
    """Variance components of both measures, or what is missing to tell them."""
    lines = [
        "| measure | between genotypes | between seeds | ICC | 90 % interval | genotypes |",
        "|---|---|---|---|---|---|",
    ]
    try:
        for measure, unit in (("test_nll", "nats"), ("test_accuracy", "points")):
            found = noise(table, measure)
            low, high = found.icc_interval
            lines.append(
                f"| `{measure}` | {found.between:.3f} {unit} | {found.seeds:.3f} {unit} | {found.icc:.2f} "
                f"| {low:.2f} to {high:.2f} | {found.genotypes} |"
            )
    except InputError:
        return ["Not known yet: fewer than two genotypes were trained with more than one seed."]
    return lines


def row_line(row: Any, table: DataFrame) -> str:
    own = table[(table["layer_1"] == row.layer_1) & (table["layer_2"] == row.layer_2)].sort_values("seed")
    each = ", ".join(f"{loss:.3f}" for loss in own["test_nll"])
    return f"| {row.layer_1} - {row.layer_2} | {row.mean:.3f} | {each} | {row.accuracy:.1f} |"


def page(table: DataFrame) -> str:
    means = genotype_means(table)
    accuracy = table.groupby(["layer_1", "layer_2"])["test_accuracy"].mean().rename("accuracy")
    means = means.join(accuracy, on=["layer_1", "layer_2"])
    seeds = table.groupby("seed").size()
    complete = len(means) == len(NAMES) ** 2
    head = ["| genotype | mean test NLL | each training | accuracy % |", "|---|---|---|---|"]
    lines = [
        "# vim8-bench: what a tabular benchmark of scan genotypes says",
        "",
        f"{len(table)} trainings: {len(means)} of {TRAINED}; per seed "
        + ", ".join(f"{seed}: {count}" for seed, count in seeds.items())
        + ". "
        + (
            "Every genotype is there."
            if complete
            else "**The table is not complete**: `python experiments/vim8_bench.py` goes on where it stopped, "
            "layer 1 in the order of the space's candidates. Best, worst and the figures below are those of the "
            "genotypes that are there."
        ),
        "",
        "Task: `translated-digits` (native 8x8 digits anywhere on 10x10 canvases), two LocalVim layers of one "
        "direction each, patch 1, dim 32, 8 states, no position embedding, no branch attention, "
        "`window_padding: skip` (zero rows would leak the position), "
        "17,258 parameters; 600 steps of 32 on the 12,000 training and validation canvases, "
        "AdamW, peak rate 5e-3, scored on 4,000 test canvases. Each training has its own seed for weights and order.",
        "",
        "![mean NLL of each genotype](vim8_bench.png)",
        "",
        "## Best and worst",
        "",
        *head,
        *(row_line(row, table) for row in means.head(8).itertuples()),
        "| ... | | | |",
        *(row_line(row, table) for row in means.tail(4).itertuples()),
        "",
        "Three trainings that lie close together are luck: pooled over all genotypes, trainings of one differ by the "
        "deviation below, and a mean of three by that over 1.7. Which of the best few is best is not known.",
        "",
        "## Noise",
        "",
        *noise_lines(table),
        "",
        f'The rule "contains `v` or `v_flip`" explains {100 * explained_by_v(means):.0f} % of the variance of the '
        "genotypes' mean NLL, so a comparison needs a random baseline that must contain `v`.",
        "",
        "Task and hyperparameters were chosen beforehand with an eye on test results of one split, and the 4,000 "
        "canvases show 797 digits: differences of a few tenths of a point mean nothing.",
        "",
        f"Training one took {table['seconds'].median():.0f} s (median) on one thread of a machine with two busy cores.",
        "",
        "Made by `python experiments/vim8_bench.py` and `python experiments/vim8_bench_report.py`; read with "
        "`scansearch.bench_table()`.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    table = bench_table()
    write_figure(RESULTS / "vim8_bench.png", heat_map(genotype_means(table)))
    write_text(RESULTS / "vim8_bench.md", page(table))


if __name__ == "__main__":
    main()
