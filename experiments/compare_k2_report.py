"""What the strategies' choices at k = 2 are worth when trained from scratch: results/k2.{csv,png,md}.

    python experiments/compare_k2_report.py

Reads results/k2_trainings.csv (from compare_k2.py) and results/strategy_scores.jsonl.
"""

from __future__ import annotations

import numpy as np
import pandas
from baseline_genotypes import CANDIDATES, contains_v, drawn, fixed, text
from compare_k2 import RESULTS, TABLE, choice, layers_of, own_scores, searches
from matplotlib.figure import Figure
from pandas import DataFrame

from scansearch.derivation.agreement import kendall_tau
from scansearch.directions import Layers
from scansearch.files.atomic import write_figure, write_text
from scansearch.searching.strategies import STRATEGIES

Means = dict[Layers, DataFrame]


def trainings() -> Means:
    """Genotype -> its trainings."""
    table = pandas.read_csv(TABLE)
    table["layers"] = [layers_of(row) for row in table.to_dict("records")]
    return dict(list(table.groupby("layers", sort=False)))


def mean_nll(trained: Means, layers: Layers) -> float:
    return float(trained[layers]["test_nll"].mean())


def summed(scores: np.ndarray, layers: Layers) -> float:
    return sum(
        float(row[CANDIDATES.index(name)])
        for row, layer in zip(scores, layers, strict=True)
        for name in layer
    )


SEARCHED = 3  # seeds of every strategy whose choices were trained


def compared(trained: Means) -> DataFrame:
    """One row per genotype that was proposed: by a search, by hand, or by chance."""
    random = drawn()
    truth = [-mean_nll(trained, layers) for layers in random]
    rows = []
    for search in searches():
        if search["seed"] >= SEARCHED:  # came later: those whose choice happens to be trained would flatter
            continue
        scores = own_scores(search)
        tau = kendall_tau([summed(scores, layers) for layers in random], truth)
        rows.append(
            {"source": search["strategy"], "search": search["seed"], "layers": choice(search), "tau": tau}
        )
    rows += [{"source": name, "layers": layers} for name, layers in fixed(2).items()]
    rows += [{"source": "random", "layers": layers} for layers in random]
    rows += [
        {"source": "random with v or v_flip", "layers": layers} for layers in random if contains_v(layers)
    ]
    for row in rows:
        of_it = trained[row["layers"]]
        row |= {"test_nll": of_it["test_nll"].mean(), "test_accuracy": of_it["test_accuracy"].mean()}
        row |= {"deviation_of_seeds": of_it["test_nll"].std(), "trainings": len(of_it)}
        row["genotype"] = text(row.pop("layers"))
    return DataFrame(rows)


def random_search(trained: Means, count: int, *, draws: int = 20_000) -> float:
    """Mean NLL of the genotype of the lowest NLL in one training, among ``count`` of the random ones."""
    losses = np.stack([trained[layers]["test_nll"].to_numpy() for layers in drawn()])
    generator = np.random.default_rng(0)
    order = generator.permuted(np.tile(np.arange(len(losses)), (draws, 1)), axis=1)[:, :count]
    seen = losses[order, generator.integers(0, losses.shape[1], order.shape)]
    return float(losses.mean(1)[order[np.arange(draws), seen.argmin(1)]].mean())


def figure(found: DataFrame) -> Figure:
    """Mean test NLL of every proposed genotype, by where it comes from."""
    names = list(dict.fromkeys(found["source"]))
    picture = Figure(figsize=(8, 4.4), layout="constrained")
    axis = picture.subplots()
    for place, name in enumerate(names):
        rows = found[found["source"] == name]
        colour = "C0" if name in STRATEGIES else "0.4"
        axis.errorbar(
            [place] * len(rows),
            rows["test_nll"],
            rows["deviation_of_seeds"],
            fmt="o",
            color=colour,
            alpha=0.6,
        )
    axis.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axis.set_ylabel("test NLL (nats)")
    axis.set_title("Trained from scratch, k = 2; bars are deviations over seeds", fontsize=10)
    return picture


def _spread(values: pandas.Series, digits: int = 3) -> str:
    known = values.dropna()
    if known.empty:
        return ""
    return f"{known.mean():.{digits}f}" + (f" ± {known.std():.{digits}f}" if len(known) > 1 else "")


def page(found: DataFrame, trained: Means) -> str:
    counts = sorted({len(rows) for rows in trained.values()})
    seeds = np.sqrt(np.mean([rows["test_nll"].var() for rows in trained.values() if len(rows) > 1]))
    lines = [
        "# Strategies at k = 2, trained from scratch",
        "",
        f"Two directions in each of two layers, the task and recipe of [vim8-bench](vim8_bench.md): {len(trained)} "
        f"genotypes, {' to '.join(map(str, counts))} trainings each. The searches are those of "
        "[strategies.md](strategies.md), of which the two best directions of each layer were taken.",
        "",
        "| genotypes from | number | test NLL (nats) | accuracy % | tau | genotypes |",
        "|---|---|---|---|---|---|",
    ]
    order = found.groupby("source")["test_nll"].mean().sort_values().index
    for source in order:
        rows = found[found["source"] == source]
        distinct = "; ".join(dict.fromkeys(rows["genotype"])) if len(rows) <= 3 else "..."
        lines.append(
            f"| {source} | {len(rows)} | {_spread(rows['test_nll'])} | {_spread(rows['test_accuracy'], 1)} "
            f"| {_spread(rows['tau'], 2)} | {distinct} |"
        )
    lines += [
        "",
        f"± is the deviation between the genotypes of a row (each a mean over its trainings). Between trainings of one "
        f"genotype it is {seeds:.3f} nats on average, and between means of {counts[-1]} trainings about "
        f"{seeds / np.sqrt(counts[-1]):.3f}. tau is Kendall's, between the score by which a strategy "
        f"selects, summed over directions, and the truth, over the {len(drawn())} random genotypes. `fair` "
        "selected by perturbation then, and by evolution now.",
        "",
        "Random search, which trains so many of the random genotypes once and keeps the best, gives "
        + ", ".join(f"{random_search(trained, count):.3f} ({count})" for count in (1, 2, 3, 4, 6, 8))
        + " nats. A search costs about as much as 3 to 8 trainings with one direction a layer "
        "([strategies](strategies.md)). With three searches of each strategy, and these deviations, the order of the "
        "strategies is a hint and no result.",
        "",
        "![test NLL by source](k2.png)",
        "",
        "Made by `python experiments/compare_k2.py` and `python experiments/compare_k2_report.py`.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    trained = trainings()
    found = compared(trained)
    write_text(RESULTS / "k2.csv", found.to_csv(index=False, float_format="%.4f"))
    write_figure(RESULTS / "k2.png", figure(found))
    write_text(RESULTS / "k2.md", page(found, trained))


if __name__ == "__main__":
    main()
