"""What each search of `search_strategies.py` costs, in trainings of one genotype for 600 steps.

    python experiments/strategy_costs.py

CPU seconds on one thread of some steps of every strategy, of scoring a sub-network, and of steps of a training, in one
process, in turns; the least of several rounds counts. Writes results/strategy_costs.json, by strategy.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from search_strategies import EPOCHS, ORDER, VALIDATION_STRIDE, task_of

from scansearch.files.atomic import write_text
from scansearch.records.genotype import Genotype
from scansearch.searching.strategies import STRATEGIES
from scansearch.training.brief import BriefRecipe, train_briefly

OUT = Path(__file__).resolve().parent / "results" / "strategy_costs.json"
STEPS, ROUNDS = 10, 4
# Sub-networks, or supernets without one branch, that a strategy scores to choose.
NARROWED = "narrowing, second half"
SCORED = {"magnitude": 0, "narrowing": 0, "perturbation": 17, "evolution": 64}


def seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def main() -> None:
    torch.set_num_threads(1)
    tasks = {name: task_of(name, seed=0) for name in ORDER}
    tasks[NARROWED] = task_of("narrowing", seed=0)
    tasks[NARROWED].narrowing.advance(tasks[NARROWED].supernet.alphas, 0.5)  # type: ignore[union-attr]
    for task in tasks.values():
        task.start_epoch(0, 0)
    first = next(iter(tasks.values()))
    genotype, recipe = Genotype.of_space(first.space, (("h",), ("v",))), BriefRecipe(steps=STEPS)
    sizes = {"num_classes": 10, "in_chans": 1, "img_size": 10}
    step = 0

    def search_steps(name: str) -> None:
        for number in range(step, step + STEPS):
            tasks[name].step(0, number)

    def training() -> None:
        train_briefly(genotype.build(**sizes), first.data.train, recipe, seed=0)  # type: ignore[arg-type]

    def scoring() -> None:
        first.validation_loss(first.subnetwork([["h"], ["v"]]))

    least: dict[str, float] = {}
    for round_ in range(ROUNDS + 1):
        taken = {name: seconds(lambda name=name: search_steps(name)) for name in tasks}  # type: ignore[misc]
        taken |= {"training": seconds(training), "scoring": seconds(scoring)}
        step += STEPS
        if round_:  # the first compiles
            least = {name: min(value, least.get(name, value)) for name, value in taken.items()}
    least["narrowing"] = (least["narrowing"] + least[NARROWED]) / 2
    whole = 600 * least["training"] / STEPS
    costs = {}
    for name in ORDER:
        steps = EPOCHS[name] * first.steps_per_epoch * least[name] / STEPS
        scored = SCORED[STRATEGIES[name].selection] * least["scoring"] / VALIDATION_STRIDE
        costs[name] = round((steps + scored) / whole, 2)
    write_text(
        OUT, json.dumps({"training_cpu_seconds": round(whole, 1), "trainings": costs}, indent=1) + "\n"
    )
    print(OUT.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
