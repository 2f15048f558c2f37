"""Trainings of a tiny segmentation model on drawn shapes; run as a script, five steps on each process.

    torchrun --nproc_per_node N segmentations.py OUT

Rank 0 saves the weights as ``OUT``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from safetensors.torch import save_file
from support.trainings import tiny_genotype

from scansearch import engine
from scansearch.data.masks.sources import load_masks
from scansearch.engine.devices import check_equal_on_all_processes, make_accelerator
from scansearch.training.config import train_config
from scansearch.training.task import TrainTask

SHAPES = "shapes:16x16:16"
SIZE = (12, 17)  # neither square nor whole patches


def segmentation_task(**options: Any) -> TrainTask:
    """A training task on drawn shapes; ``options`` are fields of TrainConfig."""
    settings = {
        "model": "tiny",
        "task": "segment",
        "data": SHAPES,
        "epochs": 2,
        "batch_size": 8,
        "device": "cpu",
    }
    config = train_config(**(settings | options))
    data = load_masks(SHAPES, image_size=SIZE)
    return TrainTask(config, tiny_genotype(), data, make_accelerator("cpu", config.mixed_precision))


def masked_folder(
    root: Path, masks: dict[str, np.ndarray], *, inside: tuple[str, str] = ("images", "masks")
) -> Path:
    """``root`` with a random picture, ``NAME.jpg``, for every mask, ``NAME.png``; names may hold folders."""
    rng = np.random.default_rng(0)
    for name, mask in masks.items():
        picture, file = (root / folder / name for folder in inside)
        for path in (picture, file):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (*mask.shape, 3), dtype=np.uint8)).save(f"{picture}.jpg")
        Image.fromarray(mask).save(f"{file}.png")
    return root


def five_steps() -> TrainTask:
    """A task after five steps of plain descent, without dropout."""
    task = segmentation_task(epochs=3, optimizer={"name": "sgd", "lr": 0.1}, head={"dropout": 0.0})
    for event in engine.drive(task, seed=0, rank=task.accelerator.process_index):
        if event.step == 5:
            break
    return task


def main(out: str) -> None:
    task = five_steps()
    check_equal_on_all_processes(task.accelerator, list(task.model.parameters()), "weights")
    if task.accelerator.is_main_process:
        save_file({name: value.detach().contiguous() for name, value in task.model.named_parameters()}, out)
    task.accelerator.wait_for_everyone()


if __name__ == "__main__":
    main(sys.argv[1])
