"""What each strategy's ranking of `vim8-bench` is worth, by look-up: results/strategies.{csv,png,md}.

    python experiments/strategies_report.py

Reads results/strategy_scores.jsonl (from search_strategies.py) and the benchmark's table. Regret is the mean test NLL
of a genotype over the best mean in the table; tau is Kendall's, between a score and the genotypes' mean NLL.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from baseline_genotypes import V, fixed, text
from matplotlib.figure import Figure
from pandas import DataFrame

from scansearch.analysis.benchmark import bench_table, genotype_means
from scansearch.derivation.agreement import kendall_tau
from scansearch.files.atomic import write_figure, write_text
from scansearch.records.space import load_space
from scansearch.searching.strategies import STRATEGIES

RESULTS = Path(__file__).resolve().parent / "results"
NAMES = load_space("vim8-bench").layer_candidates()[0]
OWN = {"magnitude": "gates", "perturbation": "perturbation", "evolution": "inherited"}


def scores_of(search: dict[str, Any]) -> dict[str, np.ndarray]:
    """[8, 8] scores of all genotypes, a larger one is better, by the name of the score."""
    tables = {name: np.add.outer(*map(np.array, rows)) for name, rows in search["scores"].items()}
    return tables | {"inherited": -np.array(search["inherited_loss"])}


def look_up(searches: list[dict[str, Any]], nll: np.ndarray) -> DataFrame:
    """One row per search and score; ``nll`` [8, 8] holds NaN where the benchmark has nothing."""
    known = np.isfinite(nll)
    best = nll[known].min()
    rows = []
    for search in searches:
        for name, values in scores_of(search).items():
            i, j = np.unravel_index(np.argmax(np.where(known, values, -np.inf)), values.shape)
            rows.append(
                {
                    "strategy": search["strategy"],
                    "seed": search["seed"],
                    "score": name,
                    "own": OWN[STRATEGIES[search["strategy"]].selection] == name,
                    "choice": f"{NAMES[i]}-{NAMES[j]}",
                    "regret": nll[i, j] - best,
                    "tau": kendall_tau(values[known].tolist(), (-nll[known]).tolist()),
                    "search_seconds": search["seconds"],
                }
            )
    return pandas.DataFrame(rows)


def baselines(nll: np.ndarray) -> DataFrame:
    """Mean, deviation and number of genotypes of fixed choices; random ones are averaged exactly."""
    known = np.isfinite(nll)
    best = nll[known].min()
    first, second = np.meshgrid(NAMES, NAMES, indexing="ij")
    sets = {
        "random": known,
        "random with v or v_flip": known & (np.isin(first, V) | np.isin(second, V)),
        "random without v and v_flip": known & ~np.isin(first, V) & ~np.isin(second, V),
    }
    for name, ((one,), (other,)) in fixed(1).items():
        sets[f"{name}, {text(((one,), (other,)))}"] = known & (first == one) & (second == other)
    rows = [
        {
            "baseline": name,
            "regret": nll[mask].mean() - best,
            "deviation": nll[mask].std(),
            "genotypes": mask.sum(),
        }
        for name, mask in sets.items()
        if mask.any()
    ]
    return pandas.DataFrame(rows)


def figure(found: DataFrame, others: DataFrame) -> Figure:
    """Regret and tau of each strategy's own score, one dot per seed, with the random baselines as lines."""
    own = found[found["own"]]
    names = [name for name in STRATEGIES if name in set(own["strategy"])]
    picture = Figure(figsize=(8.5, 3.6), layout="constrained")
    axes = picture.subplots(1, 2)
    for axis, measure in zip(axes, ("regret", "tau"), strict=True):
        for place, name in enumerate(names):
            values = own.loc[own["strategy"] == name, measure]
            axis.plot([place] * len(values), values, "o", color="C0", alpha=0.7)
        axis.set_xticks(range(len(names)), names, rotation=30, ha="right")
        axis.set_ylabel("regret (nats)" if measure == "regret" else "Kendall's tau")
    for name, colour in (("random", "0.4"), ("random with v or v_flip", "C1")):
        level = others.loc[others["baseline"] == name, "regret"]
        for value in level:
            axes[0].axhline(value, color=colour, linestyle="--", label=name)
    axes[0].legend(fontsize=8)
    axes[1].axhline(0, color="0.4", linestyle="--")
    return picture


def _spread(values: pandas.Series) -> str:
    return f"{values.mean():+.2f}" + (f" ± {values.std():.2f}" if len(values) > 1 else "")


def page(found: DataFrame, others: DataFrame, genotypes: int, trainings: int) -> str:
    seconds = found.groupby("strategy")["search_seconds"].min()
    missing = [name for name in STRATEGIES if name not in set(found["strategy"])]
    lines = [
        "# Strategies on vim8-bench, k = 1, by look-up",
        "",
        f"{genotypes} of 64 genotypes are in the table ({trainings} trainings); choices and taus are among those. "
        f"A search took {seconds.min():.0f} to {seconds.max():.0f} seconds on one core (the fastest of each strategy; "
        "`EPOCHS` in the script says why), where a training from scratch takes about 15; "
        "scores come from 400 validation canvases.",
        *(
            [
                "",
                "**Preliminary**: what the table lacks could not be chosen, and even the random baselines are those of "
                "the part that is there. Run both scripts again when `vim8_bench.py` has finished.",
                "",
            ]
            if genotypes < len(NAMES) ** 2
            else []
        ),
        *([f"Not searched: {', '.join(missing)}."] if missing else []),
        "",
        "| strategy | score | | searches | regret (nats) | tau | choices |",
        "|---|---|---|---|---|---|---|",
    ]
    for (strategy, score), rows in found.groupby(["strategy", "score"], sort=False):
        mark = "own" if rows["own"].any() else ""
        choices = ", ".join(rows["choice"])
        lines.append(
            f"| {strategy} | {score} | {mark} | {len(rows)} | {_spread(rows['regret'])} "
            f"| {_spread(rows['tau'])} | {choices} |"
        )
    lines += ["", "| baseline | regret (nats) | deviation | genotypes |", "|---|---|---|---|"]
    lines += [
        f"| {r.baseline} | {r.regret:+.2f} | {r.deviation:.2f} | {r.genotypes} |" for r in others.itertuples()
    ]
    lines += [
        "",
        "`own` marks the score by which the strategy itself selects. Regret is over the best mean in the table, which "
        "is itself picked among noisy means. "
        "Spreads are over searches, at least "
        f"{found.groupby('strategy')['seed'].nunique().min()} of each strategy. What the time buys differs: "
        "2,400 steps of one sampled branch (1,200 of gdas), 600 of all branches, 300 of DARTS.",
        "",
        "![regret and tau](strategies.png)",
        "",
        "Made by `python experiments/search_strategies.py` and `python experiments/strategies_report.py`.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    table = bench_table()
    means = genotype_means(table)
    nll = np.full((len(NAMES), len(NAMES)), np.nan)
    for row in means.itertuples():
        nll[NAMES.index(row.layer_1), NAMES.index(row.layer_2)] = row.mean
    lines = (RESULTS / "strategy_scores.jsonl").read_text(encoding="utf-8").splitlines()
    found, others = look_up([json.loads(line) for line in lines], nll), baselines(nll)
    write_text(RESULTS / "strategies.csv", found.to_csv(index=False, float_format="%.4f"))
    write_figure(RESULTS / "strategies.png", figure(found, others))
    write_text(RESULTS / "strategies.md", page(found, others, len(means), len(table)))


if __name__ == "__main__":
    main()
