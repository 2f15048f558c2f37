"""Train from scratch what each strategy chooses at k = 2 on the task of `vim8-bench`, and what no search chose.

    python experiments/search_strategies.py --processes 2 --seeds 3
    python experiments/compare_k2.py --processes 2 --seeds 3

One row per training is appended to results/k2_trainings.csv. A genotype that several searches chose is trained once
for each seed. Resumable; seeds are the outer loop. `python experiments/compare_k2_report.py` makes the page.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
from baseline_genotypes import CANDIDATES, drawn, fixed
from jobs import append_line, one_thread_each, results, whole_lines
from vim8_bench import train_genotype

from scansearch.directions import Layers

RESULTS = Path(__file__).resolve().parent / "results"
SCORES, TABLE = RESULTS / "strategy_scores.jsonl", RESULTS / "k2_trainings.csv"
COLUMNS = ("layer_1", "layer_2", "seed", "test_nll", "test_accuracy", "train_loss", "seconds")
SELECTED_BEFORE = {"fair": "perturbation"}  # when these genotypes were trained
Job = tuple[Layers, int]


def own_scores(search: dict[str, Any]) -> np.ndarray:
    """[layers, candidates]: the scores by which the strategy itself selects.

    For evolution what each direction adds to the score of a sub-network with inherited weights, the other layer
    being averaged over, which is the additive model of :meth:`Evolution.marginal_scores`.
    """
    from scansearch.searching.strategies import STRATEGIES

    strategy = search["strategy"]
    selection = SELECTED_BEFORE.get(strategy, STRATEGIES[strategy].selection)
    if selection == "evolution":
        losses = np.array(search["inherited_loss"])
        return -np.stack([losses.mean(1), losses.mean(0)])
    return np.array(search["scores"]["gates" if selection == "magnitude" else selection])


def choice(search: dict[str, Any]) -> Layers:
    """The two best directions of each layer."""
    best = np.sort(np.argsort(own_scores(search), axis=1)[:, -2:])
    return tuple(tuple(CANDIDATES[i] for i in layer) for layer in best)


def searches(path: Path = SCORES) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def all_jobs(seeds: int, scores: Path) -> list[Job]:
    """Every (genotype, seed), seed by seed; no genotype twice."""
    genotypes = [*fixed(2).values(), *map(choice, searches(scores)), *drawn()]
    return [(layers, seed) for seed, layers in itertools.product(range(seeds), dict.fromkeys(genotypes))]


def done_jobs(table: Path) -> set[Job]:
    """The jobs that the table holds; a torn last line does not count."""
    return {(layers_of(row), int(row["seed"])) for row in csv.DictReader(whole_lines(table))}


def layers_of(row: dict[str, Any]) -> Layers:
    return tuple(row["layer_1"].split("+")), tuple(row["layer_2"].split("+"))


def train(job: Job) -> str:
    """One training and its test score as a line of the table."""
    layers, seed = job
    pairs = list(itertools.combinations(CANDIDATES, 2))
    # A seed of its own for every training, none of which the trainings at k = 1 use.
    own = 1_000_000 + 1000 * seed + len(pairs) * pairs.index(layers[0]) + pairs.index(layers[1])
    return f"{'+'.join(layers[0])},{'+'.join(layers[1])},{seed},{train_genotype(layers, own)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--scores", type=Path, default=SCORES)
    parser.add_argument("--table", type=Path, default=TABLE)
    options = parser.parse_args()
    one_thread_each()
    done = done_jobs(options.table)
    jobs = [job for job in all_jobs(options.seeds, options.scores) if job not in done]
    print(f"{len(jobs)} trainings", flush=True)
    for row in results(train, jobs, options.processes):
        append_line(options.table, row, ",".join(COLUMNS))
        print(row, flush=True)


if __name__ == "__main__":
    main()
