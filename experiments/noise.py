"""Do the warnings of a search catch noise, and keep silent where a direction was planted? results/noise.{csv,md}.

    python experiments/noise.py --processes 2 --seeds 5

Short searches (`localmamba`, k = 1, `vim8-bench`) of data in which no direction can be better (labels drawn at random,
pixels of every image shuffled by one permutation, or each image by its own) and of data in which some are.
One line per search is appended; resumable. The page is written anew at the end.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas
import torch
from jobs import append_line, one_thread_each, results, whole_lines

from scansearch.data import ImageData, Split, load_data
from scansearch.data.digits import Images
from scansearch.files.atomic import write_text

FOLDER = Path(__file__).resolve().parent / "results"
TABLE, PAGE = FOLDER / "noise.csv", FOLDER / "noise.md"
HEADER = "data,seed,accuracy,bar,spread_1,spread_2,warned,choice"
IMAGES, EPOCHS = 2000, 4  # training images of a search, and how often it sees them
SCORED = 500  # images of the other splits
Change = Callable[[torch.Tensor, list[int], np.random.Generator], tuple[torch.Tensor, list[int]]]
Job = tuple[str, int]


def unchanged(
    images: torch.Tensor, labels: list[int], generator: np.random.Generator
) -> tuple[torch.Tensor, list[int]]:
    return images, labels


def relabelled(
    images: torch.Tensor, labels: list[int], generator: np.random.Generator
) -> tuple[torch.Tensor, list[int]]:
    return images, generator.permutation(labels).tolist()


def permuted(
    images: torch.Tensor, labels: list[int], generator: np.random.Generator
) -> tuple[torch.Tensor, list[int]]:
    order = torch.from_numpy(generator.permutation(images[0, 0].numel()))
    return images.flatten(2)[:, :, order].reshape(images.shape), labels


def shuffled(
    images: torch.Tensor, labels: list[int], generator: np.random.Generator
) -> tuple[torch.Tensor, list[int]]:
    flat = images.flatten(2).numpy()
    return torch.from_numpy(generator.permuted(flat, axis=2)).reshape(images.shape), labels


DATA: dict[str, tuple[str, Change]] = {
    "labels at random": ("translated-digits", relabelled),
    "one permutation of pixels": ("translated-digits", permuted),
    "a permutation for each image": ("translated-digits", shuffled),
    "planted:nothing": ("planted:nothing", unchanged),
    "planted:columns": ("planted:columns", unchanged),
    "planted:blocks": ("planted:blocks", unchanged),
    "translated-digits": ("translated-digits", unchanged),
}
NOISE = tuple(DATA)[:4]


def changed(data: ImageData, change: Change, seed: int) -> ImageData:
    """``data`` cut to ``IMAGES`` training images, with ``change`` drawn from ``seed`` for each split."""

    def split(part: Split, most: int = SCORED) -> Split:
        count = min(part.count, most)
        samples = [part.read(index * part.count // count) for index in range(count)]
        images, labels = torch.stack([image for image, _ in samples]), [label for _, label in samples]
        images, labels = change(images, labels, np.random.default_rng(seed))
        return Split(count, Images(images, labels), labels=labels)

    return replace(
        data, train=split(data.train, IMAGES), validation=split(data.validation), test=split(data.test)
    )


def search(job: Job) -> str:
    """One search and what its diagnosis says, as a line."""
    from scansearch.data.order_free import order_free_bar
    from scansearch.derivation.derive import derive
    from scansearch.engine import EpochDone, drive, make_accelerator
    from scansearch.records.space import load_space
    from scansearch.searching.config import search_config
    from scansearch.searching.diagnostics import diagnose, random_walk
    from scansearch.searching.selection import as_preferences, select
    from scansearch.searching.task import SearchTask

    torch.set_num_threads(1)
    name, seed = job
    spec, change = DATA[name]
    data = changed(load_data(spec, image_size=10), change, seed)
    config = search_config(
        space="vim8-bench",
        data=spec,
        k=1,
        epochs=EPOCHS,
        seed=seed,
        device="cpu",
        alphas={"warmup_epochs": 0},
    )
    task = SearchTask(config, load_space("vim8-bench"), data, make_accelerator("cpu", "no"))
    epochs = [dict(event.metrics) for event in drive(task, seed=seed) if isinstance(event, EpochDone)]
    preferences = as_preferences(task, "magnitude", select(task).scores, run="noise")
    genotype = derive(preferences, k=1)
    bar, validation = order_free_bar(data), task.score_validation()
    diagnosis = diagnose(
        preferences,
        genotype,
        epochs,
        supernet=validation,
        subnetwork=validation,
        order_free=bar,
        walk=random_walk(config.alphas.lr, EPOCHS * task.steps_per_epoch),
    )
    texts = diagnosis.warnings
    layers = {text.split(":")[0] for text in texts if text.startswith("layer ")}
    warned = len(genotype.layers) if any("in no order" in text for text in texts) else len(layers)
    first, second = (layer.spread for layer in diagnosis.layers)
    choice = " - ".join(names[0] for names in genotype.layers)
    return f"{name},{seed},{validation['accuracy']:.2f},{bar.accuracy:.2f},{first:.3f},{second:.3f},{warned},{choice}"


def page(rows: pandas.DataFrame) -> str:
    lines = [
        "# Warnings on noise",
        "",
        f"Searches by `localmamba` with k = 1 in `vim8-bench`, {IMAGES} training images, {EPOCHS} epochs. Accuracy is "
        "the supernet's on validation images, the bar that of a classifier which sees their values in no order; spread "
        "is the deviation of a layer's alphas over that of a random walk. A layer is warned of when the supernet is "
        "not above the bar by two standard errors, when its spread is below 1, or when its choice changed hands in the "
        "last epochs between two directions that are not each other's reverse.",
        "",
        "| data | searches | accuracy % | bar % | spread | layers warned of |",
        "|---|---|---|---|---|---|",
    ]
    for name in DATA:
        own = rows[rows["data"] == name]
        if not len(own):
            continue
        spreads = own[["spread_1", "spread_2"]].to_numpy()
        lines.append(
            f"| {name} | {len(own)} | {own['accuracy'].min():.1f} to {own['accuracy'].max():.1f} "
            f"| {own['bar'].min():.1f} to {own['bar'].max():.1f} | {spreads.min():.2f} to {spreads.max():.2f} "
            f"| {own['warned'].sum()} of {2 * len(own)} |"
        )
    noise = rows[rows["data"].isin(NOISE)]
    planted = rows[rows["data"].str.startswith("planted:") & ~rows["data"].isin(NOISE)]
    lines += [
        "",
        f"Noise: {noise['warned'].sum()} of {2 * len(noise)} layers are warned of. Planted directions: "
        f"{planted['warned'].sum()} of {2 * len(planted)}.",
        "",
        "Made by `python experiments/noise.py`.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    one_thread_each()
    done = {tuple(line.split(",")[:2]) for line in whole_lines(TABLE)}
    jobs = [(name, seed) for seed in range(options.seeds) for name in DATA if (name, str(seed)) not in done]
    for line in results(search, jobs, options.processes):
        append_line(TABLE, line, HEADER)
    write_text(PAGE, page(pandas.read_csv(TABLE)))


if __name__ == "__main__":
    main()
