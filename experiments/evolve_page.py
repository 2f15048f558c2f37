"""The page of evolve_synthetic.py, from its table."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Rows = list[dict[str, str]]
WORDS = {
    "model": "model (the default)",
    "nsga2": "NSGA-II",
    "swap": "one-swap local search",
    "additive": "additive model of random genotypes",
    "random": "random",
}


def _values(rows: Rows, column: str) -> np.ndarray:
    return np.array([float(row[column]) for row in rows if row[column]])


def _spread(values: np.ndarray) -> str:
    """Mean, standard error, median and 90 % quantile."""
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    return f"{values.mean():.3f} ± {error:.3f} | {np.median(values):.3f} | {np.quantile(values, 0.9):.3f}"


def _table(rows: Rows, losses: list[str], evaluations: str, cells: Callable[[Rows], str]) -> list[str]:
    lines = []
    for loss in losses:
        for way, words in WORDS.items():
            part = [
                row
                for row in rows
                if (row["loss"], row["way"], row["evaluations"]) == (loss, way, evaluations)
            ]
            if part:
                lines.append(f"| {loss} | {words} | {len(part)} | {cells(part)} |")
    return lines


def page(rows: Rows) -> str:
    names = list(dict.fromkeys(row["loss"] for row in rows))
    quiet = [n for n in names if "noise" not in n and "costs" not in n and "x" in n and n != "vim8-bench"]
    noisy = [name for name in names if "noise" in name]
    head = "| loss | proposals | searches | mean regret | median | 90 % |"
    rule = "|---|---|---:|---:|---:|---:|"

    def lowest(part: Rows) -> str:
        return _spread(_values(part, "lowest"))

    def three(part: Rows) -> str:
        columns = ("lowest", "expected", "reached")
        return " | ".join(
            f"{_values(part, column).mean():.3f}, {np.quantile(_values(part, column), 0.9):.3f}"
            for column in columns
        )

    lines = [
        "# Which proposals find good genotypes in few evaluations",
        "",
        "Regret of the genotype with the lowest loss, over the best one there is: in standard deviations of a random "
        "genotype for made losses, in nats for `vim8-bench`. Made losses are sums of normal effects of single "
        "directions, with `pairs` also of any two directions in neighbouring layers (half of the variance); the best "
        "genotype is computed exactly. `additive model of random genotypes` scores random ones, fits the additive "
        "model of `Evolution.marginal_scores` and tells that model's optimum, which is one evaluation more.",
        "",
        "## 100 evaluations, losses without noise",
        "",
        "Wanted beforehand: at most .05 without pairs and .25 with them.",
        "",
        head,
        rule,
        *_table(rows, quiet, "100", lowest),
        "",
        "## 16 and 50 evaluations",
        "",
        head,
        rule,
        *_table(rows, ["vim8-bench"], "16", lowest),
        *[line for name in quiet for line in _table(rows, [name], "50", lowest)],
        "",
        "## 100 evaluations, noise of .3 deviations",
        "",
        "Mean and 90 % quantile of three regrets, all of true losses: of the genotype with the lowest noisy loss, "
        "which is what `evolve` calls the best; of the one with the lowest of `Evolution.expected_losses()`; and of "
        "the best one that was scored at all, which no one can tell apart without more evaluations of it.",
        "",
        "| loss | proposals | searches | lowest loss | lowest expected loss | best scored |",
        "|---|---|---:|---:|---:|---:|",
        *_table(rows, noisy, "100", three),
        "",
        "## Loss and cost",
        "",
        "Hypervolume of the front (larger is better): losses below 3 deviations, in deviations, times costs below the "
        "highest possible one, as a share of it. Four layers, one to three directions each, random costs.",
        "",
        "| evaluations | proposals | searches | mean hypervolume | median | 90 % |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for count in ("16", "50", "100"):
        for name in names:
            if "costs" in name:
                lines += [
                    line.replace(f"| {name} |", f"| {count} |")
                    for line in _table(
                        rows, [name], count, lambda part: _spread(_values(part, "hypervolume"))
                    )
                ]
    spent = {way: _values([row for row in rows if row["way"] == way], "ms") for way in ("model", "nsga2")}
    lines += [
        "",
        "Median time of one evaluation, proposal, study and made loss together: "
        + ", ".join(f"{WORDS[way]} {np.median(ms):.0f} ms" for way, ms in spent.items() if len(ms))
        + ", on one core.",
        "",
        *NOTES,
        "",
        "Made by `python experiments/evolve_synthetic.py`.",
        "",
    ]
    return "\n".join(lines)


NOTES = ("## What this says", "")
