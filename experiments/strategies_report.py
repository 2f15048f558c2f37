"""What each strategy's ranking of `vim8-bench` is worth, by look-up: results/strategies.{csv,png,md}.

    python experiments/strategies_report.py

Reads results/strategy_scores.jsonl (from search_strategies.py), strategy_costs.json (from strategy_costs.py),
verification.csv (from verify_searches.py) and the benchmark's table. Regret is the mean test NLL of a genotype over
the best mean in the table; tau is Kendall's, between a score and the genotypes' mean NLL.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from baseline_genotypes import V, fixed, text
from matplotlib.figure import Figure
from pandas import DataFrame
from verify_searches import RANKED, STEPS, TRAININGS

from scansearch.analysis.benchmark import bench_table, genotype_means
from scansearch.derivation.agreement import kendall_tau
from scansearch.files.atomic import write_figure, write_text
from scansearch.records.space import load_space
from scansearch.searching.strategies import STRATEGIES

RESULTS = Path(__file__).resolve().parent / "results"
NAMES = load_space("vim8-bench").layer_candidates()[0]
OWN = {"magnitude": "gates", "narrowing": "gates", "perturbation": "perturbation", "evolution": "inherited"}


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


def random_search(nll: np.ndarray, trainings: np.ndarray, *, draws: int = 20_000) -> np.ndarray:
    """Regret [draws, 64] of the genotype of the lowest NLL in one training, among the first n of a random order.

    ``nll`` [64] are the genotypes' means, ``trainings`` [64, seeds] the single ones.
    """
    generator = np.random.default_rng(0)
    order = generator.permuted(np.tile(np.arange(len(nll)), (draws, 1)), axis=1)
    seen = trainings[order, generator.integers(0, trainings.shape[1], order.shape)]
    best = np.maximum.accumulate(np.where(seen == np.minimum.accumulate(seen, 1), np.arange(len(nll)), 0), 1)
    return nll[np.take_along_axis(order, best, 1)] - nll.min()


def at_cost(curve: np.ndarray, cost: float) -> float:
    """Mean regret of a random search of ``cost`` trainings, between whole numbers of them on a line."""
    return float(np.interp(cost, np.arange(1, curve.shape[1] + 1), curve.mean(0)))


def verified(rows: DataFrame, nll: np.ndarray, costs: dict[str, float], share: float) -> DataFrame:
    """One row per search, number of verified genotypes and of finalists: the regret of what is kept.

    Finalists are those of the lowest validation loss, which are trained once more from another seed and judged by the
    mean of both losses; without any, one training decides. ``share`` is what one brief training costs of a whole one;
    the random one is counted and may win.
    """
    kept = []
    for (strategy, seed), own in rows.groupby(["strategy", "seed"]):
        losses = own.pivot_table(
            index=["source", "layer_1", "layer_2"], columns="training", values="validation_loss"
        )
        if losses.shape != (RANKED + 1, TRAININGS) or losses.isna().any(
            axis=None
        ):  # not all of it is trained yet
            continue
        losses = losses.sort_index(level="source", key=lambda names: names.str.replace("random", "rank 0"))
        regrets = np.array([nll[NAMES.index(a), NAMES.index(b)] - nll.min() for _, a, b in losses.index])
        first, again = losses[1].to_numpy(), losses[2].to_numpy()
        for count, finalists in itertools.product(range(1, RANKED + 1), (0, 2, 3)):
            if finalists > count:
                continue
            judged = first[: count + 1].copy()
            if finalists:
                best = np.argsort(judged, kind="stable")[:finalists]
                means = (first[best] + again[best]) / 2
                judged = np.full(count + 1, np.inf)
                judged[best] = means
            row = {"strategy": strategy, "seed": seed, "verify": count, "finalists": finalists}
            row |= {"cost": costs[str(strategy)] + share * (count + 1 + finalists)}
            kept.append(row | {"regret": regrets[judged.argmin()], "best": regrets[: count + 1].min()})
    return pandas.DataFrame(kept)


def figure(found: DataFrame, curve: np.ndarray, costs: dict[str, float], checked: DataFrame) -> Figure:
    """Regret against cost: random search with its quartiles, every strategy's searches, and verified ones."""
    picture = Figure(figsize=(7.0, 4.0), layout="constrained")
    axes = picture.subplots()
    steps = np.arange(1, 17)
    low, high = np.quantile(curve[:, :16], [0.25, 0.75], axis=0)
    axes.fill_between(steps, low, high, color="0.85", label="random search, middle half")
    axes.plot(steps, curve[:, :16].mean(0), color="0.4", label="random search, mean")
    own = found[found["own"]]
    for place, (name, rows) in enumerate(own.groupby("strategy")):
        cost, regrets = costs[str(name)], rows["regret"]
        axes.plot([cost] * len(rows), regrets, ".", color=f"C{place}", alpha=0.35)
        axes.plot(cost, regrets.mean(), "D", color=f"C{place}", label=f"{name} ({len(rows)})")
    if len(checked):
        means = checked[checked["finalists"] == 0].groupby("verify")[["cost", "regret"]].mean()
        axes.plot(means["cost"], means["regret"], "k.-", label="localmamba, verified")
        for count, row in means.iterrows():
            axes.annotate(f"{count}", (row["cost"], row["regret"]), textcoords="offset points", xytext=(3, 5))
    axes.set_xlabel("cost in trainings of 600 steps")
    axes.set_ylabel("regret (nats)")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=7, ncols=2)
    return picture


def _quantiles(values: pandas.Series) -> str:
    low, middle, high = values.quantile([0.25, 0.5, 0.75])
    return f"{values.mean():.3f} | {middle:.3f} | {low:.3f} to {high:.3f}"


def page(
    found: DataFrame,
    others: DataFrame,
    curve: np.ndarray,
    costs: dict[str, float],
    checked: DataFrame,
) -> str:
    own = found[found["own"]]
    lines = [
        "# Strategies on vim8-bench, k = 1, by look-up",
        "",
        "What a search chooses by its own score is looked up in the table of all 64 genotypes "
        "([vim8-bench](vim8_bench.md), three trainings each). Cost counts CPU time in trainings of one genotype for "
        "600 steps; random search trains so many genotypes once each and keeps the best. Regret is in nats of test "
        "loss over the best mean in the table, which is itself picked among noisy means.",
        "",
        "| strategy | searches | cost | mean regret | median | middle half | random search at that cost | tau |",
        "|---|---|---|---|---|---|---|---|",
    ]
    ranked = own.groupby("strategy")["regret"].mean().sort_values().index
    for name in ranked:
        rows = own[own["strategy"] == name]
        lines.append(
            f"| {name} | {len(rows)} | {costs[name]:.1f} | {_quantiles(rows['regret'])} "
            f"| {at_cost(curve, costs[name]):.3f} | {rows['tau'].mean():+.2f} ± {rows['tau'].std():.2f} |"
        )
    few = own.groupby("strategy")["seed"].nunique()
    if (few < 10).any():
        lines += [
            "",
            f"Fewer than ten searches say little: {', '.join(f'{n} has {c}' for n, c in few[few < 10].items())}. "
            "Three lucky seeds of localmamba once gave 0.05 here.",
        ]
    if len(checked):
        lines += [
            "",
            "## With verification",
            "",
            "`scansearch run --verify M` trains the M best-ranked genotypes for two thirds of the steps, and one drawn "
            "at random, and keeps the one of the lowest validation loss. The searches are those of localmamba above. "
            "Finalists are those of the lowest losses, trained a second time and judged by the mean of both: that "
            "costs more and chose no better, so `--verify` has none.",
            "",
            "| M | finalists | searches | cost | mean regret | median | middle half | best trained | random search at "
            "that cost |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for (count, finalists), rows in checked.groupby(["verify", "finalists"]):
            cost = rows["cost"].mean()
            lines.append(
                f"| {count} | {finalists} | {len(rows)} | {cost:.1f} | {_quantiles(rows['regret'])} "
                f"| {rows['best'].mean():.3f} | {at_cost(curve, cost):.3f} |"
            )
        lines += [
            "",
            "`best trained` is the mean regret of the best genotype among those trained, had it been known. Wanted "
            "beforehand was at most 0.04 for at most 8 trainings.",
        ]
    lines += [
        "",
        "![regret against cost](strategies.png)",
        "",
        "## Other scores of the same searches",
        "",
        "| strategy | score | searches | mean regret | median | middle half | tau |",
        "|---|---|---|---|---|---|---|",
    ]
    for (strategy, score), rows in found[~found["own"]].groupby(["strategy", "score"], sort=False):
        lines.append(
            f"| {strategy} | {score} | {len(rows)} | {_quantiles(rows['regret'])} "
            f"| {rows['tau'].mean():+.2f} ± {rows['tau'].std():.2f} |"
        )
    lines += [
        "",
        "## Without a search",
        "",
        "| genotype | mean regret | deviation | genotypes |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {r.baseline} | {r.regret:.2f} | {r.deviation:.2f} | {r.genotypes} |" for r in others.itertuples()
    ]
    lines += [
        "",
        "A search has 2,400 steps of one sampled branch (1,200 of gdas), 600 of all branches, 300 of DARTS: `EPOCHS` "
        "in `search_strategies.py`. The searches of localmamba, and seeds 1 and 2 of all others but narrowing, were "
        "made by an earlier version with other random streams. All use the settings of this project, not those of the "
        "papers: [strategies](../../docs/strategies.md) says where they differ.",
        "",
        "Made by `python experiments/search_strategies.py`, `strategy_costs.py`, `verify_searches.py` and "
        "`strategies_report.py`.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    table = bench_table()
    means = genotype_means(table)
    nll = np.full((len(NAMES), len(NAMES)), np.nan)
    for row in means.itertuples():
        nll[NAMES.index(row.layer_1), NAMES.index(row.layer_2)] = row.mean
    single = np.stack([rows["test_nll"].to_numpy() for _, rows in table.groupby(["layer_1", "layer_2"])])
    curve = random_search(single.mean(1), single)
    lines = (RESULTS / "strategy_scores.jsonl").read_text(encoding="utf-8").splitlines()
    found, others = look_up([json.loads(line) for line in lines], nll), baselines(nll)
    costs = json.loads((RESULTS / "strategy_costs.json").read_text(encoding="utf-8"))["trainings"]
    trainings = pandas.read_csv(RESULTS / "verification.csv")
    checked = verified(trainings, nll, costs, share=STEPS / 600)
    write_text(RESULTS / "strategies.csv", found.to_csv(index=False, float_format="%.4f"))
    write_figure(RESULTS / "strategies.png", figure(found, curve, costs, checked))
    write_text(RESULTS / "strategies.md", page(found, others, curve, costs, checked))


if __name__ == "__main__":
    main()
