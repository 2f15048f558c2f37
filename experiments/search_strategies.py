"""Search `vim8-bench` with every named strategy and keep how each search ranks all 64 genotypes.

    python experiments/search_strategies.py --seeds 3

One line per (strategy, seed) is appended to results/strategy_scores.jsonl: the gates, the perturbation scores, and
the validation loss of all 64 sub-networks with inherited weights. Resumable; seeds are the outer loop. What the
rankings are worth is looked up in the benchmark by `strategies_report.py`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results" / "strategy_scores.jsonl"
EPOCHS = 2  # of 300 steps: as many images as one training from scratch
VALIDATION_STRIDE = 3  # scores use every third of the 2,400 validation canvases
# Cheap searches first, so that an interrupted run holds as many strategies as possible.
ORDER = ("topk", "spos", "gdas", "localmamba", "fair", "darts", "darts2")


def done_pairs(path: Path) -> set[tuple[str, int]]:
    """The (strategy, seed) that the file holds; a torn last line does not count."""
    if not path.exists():
        return set()
    whole = path.read_text(encoding="utf-8").rpartition("\n")[0]
    return {(row["strategy"], row["seed"]) for row in map(json.loads, whole.splitlines())}


def search(strategy: str, seed: int) -> dict[str, Any]:
    """One search, and the scores of all candidates and genotypes after it."""
    from dataclasses import replace

    import torch

    from scansearch import engine
    from scansearch.data import Split, load_data
    from scansearch.search.config import search_config
    from scansearch.search.loop import SearchTask
    from scansearch.selection import magnitude, perturbation
    from scansearch.spaces import load_space

    torch.set_num_threads(1)
    data = load_data("translated-digits", image_size=10)
    config = search_config(
        space="vim8-bench",
        data="translated-digits",
        k=1,
        strategy=strategy,
        epochs=EPOCHS,
        seed=seed,
        weights={"warmup_epochs": 0.2, "label_smoothing": 0.0},
        alphas={"warmup_epochs": 0},
    )
    task = SearchTask(config, load_space("vim8-bench"), data, engine.make_accelerator("cpu", "no"))
    read = data.validation.read
    fewer = Split(data.validation.count // VALIDATION_STRIDE, lambda i: read(VALIDATION_STRIDE * i))
    started = time.monotonic()
    for event in engine.drive(task, seed=seed):
        if isinstance(event, engine.EpochDone):
            print(strategy, seed, event.epoch, event.metrics["validation_accuracy"], flush=True)
    seconds = time.monotonic() - started
    supernet = task.score_validation()
    task.data = replace(data, validation=fewer)
    learns = task.relaxation.learns_alphas
    scores = {"perturbation": perturbation(task.relaxation, task.supernet.alphas, task.validation_loss)}
    if learns:
        scores["gates"] = magnitude(task.relaxation, task.supernet.alphas)
    first, second = task.supernet.candidates
    inherited = [[task.validation_loss(task.supernet.subnetwork([[a], [b]])) for b in second] for a in first]
    return {
        "strategy": strategy,
        "seed": seed,
        "seconds": round(seconds, 1),
        "validation_accuracy": round(supernet["accuracy"], 3),
        "scores": {name: _rounded(engine.jsonable(rows)) for name, rows in scores.items()},
        "inherited_loss": _rounded(inherited),
    }


def _rounded(rows: list[list[float]]) -> list[list[float]]:
    return [[round(value, 6) for value in row] for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--strategies", nargs="*", default=ORDER)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = "1"
    for seed, strategy in itertools.product(range(options.seeds), options.strategies):
        if (strategy, seed) in done_pairs(options.out):
            continue
        line = json.dumps(search(strategy, seed)) + "\n"
        with open(options.out, "a", encoding="utf-8") as file:
            file.write(line)


if __name__ == "__main__":
    main()
