"""Search `vim8-bench` with every named strategy and keep how each search scores directions and genotypes.

    python experiments/search_strategies.py --processes 2 --seeds 3

One line per search is appended to results/strategy_scores.jsonl: the gates, the perturbation scores and the validation
loss of all 64 sub-networks with inherited weights. Strategies that sample compute one branch at a time. Resumable;
seeds are the outer loop. `strategies_report.py` looks up in the benchmark what the scores are worth, and
`compare_k2.py` trains what they choose at k = 2.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs import append_line, one_thread_each, results, whole_lines

if TYPE_CHECKING:
    from scansearch.searching.task import SearchTask

RESULTS = Path(__file__).resolve().parent / "results" / "strategy_scores.jsonl"
# Of 300 steps each. Roughly equal computing time: a step of all eight branches costs as much as four of one branch,
# a second step for the alphas doubles it, and darts2 makes three more, which leaves it a step above its share.
EPOCHS = {
    "topk": 8,
    "spos": 8,
    "gdas": 4,
    "localmamba": 2,
    "narrowing": 2,
    "fair": 2,
    "darts": 1,
    "darts2": 1,
}
VALIDATION_STRIDE = 6  # scores use every sixth of the 2,400 validation canvases
# Cheap searches first, so that an interrupted run holds as many strategies as possible.
ORDER = ("topk", "spos", "gdas", "narrowing", "localmamba", "fair", "darts", "darts2")
Job = tuple[str, int]


def all_jobs(seeds: int, strategies: list[str]) -> list[Job]:
    """Every (strategy, seed), seed by seed."""
    return [(name, seed) for seed, name in itertools.product(range(seeds), strategies)]


def done_jobs(path: Path) -> set[Job]:
    """The searches that the file holds; a torn last line does not count."""
    return {(row["strategy"], row["seed"]) for row in map(json.loads, whole_lines(path))}


def task_of(strategy: str, seed: int) -> SearchTask:
    """The search of one job, at its first step."""
    from scansearch.records.space import load_space
    from scansearch.searching.assembly import assemble_search
    from scansearch.searching.config import search_config

    config = search_config(
        space="vim8-bench",
        data="translated-digits",
        k=1,
        strategy=strategy,
        epochs=EPOCHS[strategy],
        seed=seed,
        device="cpu",
        weights={"warmup_epochs": 0.2, "label_smoothing": 0.0},
        alphas={"warmup_epochs": 0},
    )
    return assemble_search(config, load_space("vim8-bench"))


def search(job: Job) -> str:
    """One search and the scores after it, as a line of JSON."""
    from dataclasses import replace

    import torch

    from scansearch import engine
    from scansearch.data import Split
    from scansearch.searching.selection import gate_scores, perturbation

    torch.set_num_threads(1)
    strategy, seed = job
    task = task_of(strategy, seed)
    data = task.data
    read = data.validation.read
    fewer = Split(data.validation.count // VALIDATION_STRIDE, lambda i: read(VALIDATION_STRIDE * i))
    started = time.monotonic()
    for event in engine.drive(task, seed=seed):
        if isinstance(event, engine.EpochDone):
            print(*job, event.epoch, event.metrics["validation_accuracy"], flush=True)
    seconds = time.monotonic() - started
    supernet = task.score_validation()
    task.data = replace(data, validation=fewer)
    learns = task.relaxation.learns_alphas
    scores: dict[str, Any] = {
        "perturbation": perturbation(
            task.relaxation, task.supernet.alphas, task.validation_loss, task.temperature
        )
    }
    if learns:
        scores["gates"] = gate_scores(task)
    first, second = task.supernet.candidates
    inherited = [[task.validation_loss(task.subnetwork([[a], [b]])) for b in second] for a in first]
    found = {
        "strategy": strategy,
        "seed": seed,
        "seconds": round(seconds, 1),
        "validation_accuracy": round(supernet["accuracy"], 3),
        "scores": {name: _rounded(rows) for name, rows in scores.items()},
        "inherited_loss": _rounded(inherited),
    }
    return json.dumps(found)


def _rounded(rows: Any) -> list[list[float]]:
    return [[round(float(value), 6) for value in row] for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--strategies", nargs="*", default=ORDER)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    one_thread_each()
    done = done_jobs(options.out)
    jobs = [job for job in all_jobs(options.seeds, options.strategies) if job not in done]
    for line in results(search, jobs, options.processes):
        append_line(options.out, line)


if __name__ == "__main__":
    main()
