"""What verification adds to the searches of `vim8-bench` whose scores `search_strategies.py` kept.

    python experiments/verify_searches.py --processes 2

For each search, the five best genotypes by the strategy's own gates and one drawn at random are trained for 400 steps
on the training canvases and judged on the validation canvases, each twice from different seeds. `scansearch run
--verify 5` trains all six once; the page also looks up what a second training of the best would have chosen. One line
per training is appended to results/verification.csv; resumable. `strategies_report.py` makes the page.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from jobs import append_line, one_thread_each, results, whole_lines

FOLDER = Path(__file__).resolve().parent / "results"
SEARCHES, OUT = FOLDER / "strategy_scores.jsonl", FOLDER / "verification.csv"
HEADER = "strategy,seed,source,training,layer_1,layer_2,validation_loss,validation_accuracy,cpu_seconds"
RANKED, STEPS, TRAININGS = 5, 400, 2
Job = tuple[str, int, str, int, str, str]


def wanted(search: dict[str, Any]) -> list[Job]:
    """The trainings of one search: (strategy, seed, source, number, direction of the first layer, of the second)."""
    from scansearch.derivation.ranked import ranked_genotypes
    from scansearch.records.preferences import Preferences
    from scansearch.records.space import load_space
    from scansearch.runs.verification import random_genotype

    space, seed = load_space("vim8-bench"), search["seed"]
    preferences = Preferences(
        space=space.name,
        variant=space.default_variant,
        selection="magnitude",
        candidates=space.layer_candidates(),
        scores=tuple(map(tuple, search["scores"]["gates"])),
    )
    ranked = ranked_genotypes(preferences, RANKED, k=1, space=space)
    control = random_genotype(space, space.default_variant, 1, seed, ranked)
    assert control is not None
    named = [*((f"rank {rank}", one) for rank, one in enumerate(ranked, 1)), ("random", control)]
    return [
        (search["strategy"], seed, source, training, *(layer[0] for layer in one.layers))
        for training in range(1, TRAININGS + 1)
        for source, one in named
    ]


def train(job: Job) -> str:
    """One brief training and its line."""
    import torch

    from scansearch.data import load_data
    from scansearch.engine import make_accelerator
    from scansearch.records.genotype import Genotype
    from scansearch.records.space import load_space
    from scansearch.runs.search_run import VERIFICATION_SEED
    from scansearch.training.brief import BriefRecipe, brief_score

    torch.set_num_threads(1)
    strategy, seed, source, training, first, second = job
    genotype = Genotype.of_space(load_space("vim8-bench"), ((first,), (second,)))
    data = load_data("translated-digits", image_size=10)
    started = time.process_time()
    score = brief_score(
        genotype,
        data,
        BriefRecipe(steps=STEPS),
        seed=VERIFICATION_SEED * (seed + 1) + training - 1,
        accelerator=make_accelerator("cpu", "no"),
    )
    seconds = time.process_time() - started
    scores = f"{score['loss']:.5f},{score['accuracy']:.3f},{seconds:.1f}"
    return f"{strategy},{seed},{source},{training},{first},{second},{scores}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--strategies", nargs="*", default=["localmamba"])
    parser.add_argument("--searches", type=Path, default=SEARCHES)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    one_thread_each()
    done = {tuple(line.split(",")[:4]) for line in whole_lines(options.out)}
    searches = [json.loads(line) for line in whole_lines(options.searches)]
    jobs = [
        job
        for search in sorted(searches, key=lambda search: search["seed"])
        if search["strategy"] in options.strategies
        for job in wanted(search)
        if (job[0], str(job[1]), job[2], str(job[3])) not in done
    ]
    for line in results(train, jobs, options.processes):
        append_line(options.out, line, HEADER)


if __name__ == "__main__":
    main()
