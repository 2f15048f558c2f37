"""Train every genotype of the space `vim8-bench` from scratch and append one row per training to a CSV.

    python experiments/vim8_bench.py --processes 2 --seeds 3

Resumable: rows that are there are not trained again. Seeds are the outer loop, so that an interrupted run leaves
whole seeds. Each training uses one thread. `python experiments/vim8_bench_report.py` makes figures and figure text.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import time
from collections.abc import Sequence
from pathlib import Path

from jobs import append_line, one_thread_each, results, whole_lines

TABLE = Path(__file__).resolve().parents[1] / "scansearch" / "analysis" / "tables" / "vim8_bench.csv"
COLUMNS = ("layer_1", "layer_2", "seed", "test_nll", "test_accuracy", "train_loss", "seconds")
Job = tuple[str, str, int]


def all_jobs(seeds: int) -> list[Job]:
    """Every (direction of layer 1, of layer 2, seed), seed by seed."""
    from scansearch.records.space import load_space

    first, second = load_space("vim8-bench").layer_candidates()
    return [(a, b, seed) for seed in range(seeds) for a, b in itertools.product(first, second)]


def done_jobs(table: Path) -> set[Job]:
    """The jobs that the table holds; a torn last line does not count."""
    return {(row["layer_1"], row["layer_2"], int(row["seed"])) for row in csv.DictReader(whole_lines(table))}


def train(job: Job) -> str:
    """One training and its test score as a line of the table."""
    from scansearch.records.space import load_space

    *names, seed = job
    candidates = load_space("vim8-bench").layer_candidates()[0]
    # A seed of its own for every training: rows of one seed share no weights and no order of the images.
    own = 1000 * seed + len(candidates) * candidates.index(names[0]) + candidates.index(names[1])
    return f"{names[0]},{names[1]},{seed},{train_genotype([[name] for name in names], own)}"


def train_genotype(layers: Sequence[Sequence[str]], own_seed: int) -> str:
    """``test_nll,test_accuracy,train_loss,seconds`` of one genotype trained from scratch by the benchmark's recipe."""
    import torch

    from scansearch import engine
    from scansearch.data import load_data
    from scansearch.data.translated import with_validation_in_training
    from scansearch.records.genotype import Genotype
    from scansearch.records.space import load_space
    from scansearch.seeding import Stream, seed_everything
    from scansearch.training.brief import BriefRecipe, train_briefly

    torch.set_num_threads(1)
    started = time.monotonic()
    data = with_validation_in_training(load_data("translated-digits", image_size=10))
    seed_everything(Stream.WEIGHTS, own_seed)
    model = Genotype.of_space(load_space("vim8-bench"), layers).build(num_classes=10, in_chans=1)
    train_loss = train_briefly(model, data.train, BriefRecipe(), seed=own_seed)
    model.eval()
    accelerator = engine.make_accelerator("cpu", "no")
    test = engine.score(model, data.test, batch_size=200, accelerator=accelerator)
    seconds = time.monotonic() - started
    return f"{test['loss']:.5f},{test['accuracy']:.3f},{train_loss:.5f},{seconds:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--table", type=Path, default=TABLE)
    options = parser.parse_args()
    one_thread_each()
    done = done_jobs(options.table)
    jobs = [job for job in all_jobs(options.seeds) if job not in done]
    for row in results(train, jobs, options.processes):
        append_line(options.table, row, ",".join(COLUMNS))
        print(row, flush=True)


if __name__ == "__main__":
    main()
