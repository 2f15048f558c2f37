"""Trainings of a tiny detection model on drawn shapes, and folders of COCO's form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from support.trainings import tiny_genotype

from scansearch.data.instances.sources import load_objects
from scansearch.engine.devices import make_accelerator
from scansearch.training.config import train_config
from scansearch.training.task import TrainTask

SHAPES = "shapes:16x16:16"
SIZE = (12, 17)  # neither square nor whole patches


def detection_task(**options: Any) -> TrainTask:
    """A training task on drawn shapes; ``options`` are fields of TrainConfig."""
    settings = {
        "model": "tiny",
        "task": "detect",
        "head": {"heads": "small", "anchors": 2.0},
        "data": SHAPES,
        "epochs": 2,
        "batch_size": 8,
        "device": "cpu",
    }
    config = train_config(**(settings | options))
    data = load_objects(SHAPES, image_size=SIZE, augment=config.augment)
    return TrainTask(config, tiny_genotype(), data, make_accelerator("cpu", config.mixed_precision))


def coco_file(images: int, *, seed: int = 0, first: int = 1) -> dict[str, Any]:
    """Pictures of 30 x 20 pixels with polygons, run lengths, and one crowd; the last has no objects."""
    rng = np.random.default_rng(seed)
    annotations: list[dict[str, Any]] = []

    def add(image: int, category: int, box: list[float], segmentation: Any, crowd: int = 0) -> None:
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": image,
                "category_id": category,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": crowd,
                "segmentation": segmentation,
            }
        )

    for image in range(first, first + images - 1):
        left, top = int(rng.integers(1, 12)), int(rng.integers(1, 8))
        wide, high = int(rng.integers(4, 14)), int(rng.integers(4, 10))
        corners = [left, top, left + wide, top, left + wide, top + high, left, top + high]
        add(image, 7, [left, top, wide, high], [[float(value) for value in corners]])
        # Columns first: an object of two columns and all rows at the right edge.
        add(image, 3, [28.0, 0.0, 2.0, 20.0], {"size": [20, 30], "counts": [28 * 20, 40]})
    add(first, 3, [0.0, 0.0, 10.0, 20.0], {"size": [20, 30], "counts": [0, 200, 400]}, crowd=1)
    return {
        "info": {"description": "made"},
        "images": [
            {"id": image, "file_name": f"{image:012d}.jpg", "height": 20, "width": 30}
            for image in range(first, first + images)
        ],
        "annotations": annotations,
        "categories": [
            {"id": 7, "name": "cat", "supercategory": "animal"},
            {"id": 3, "name": "bar", "supercategory": "thing"},
        ],
    }


def coco_folder(root: Path, counts: dict[str, int], *, simple: bool = False) -> Path:
    """``root`` as COCO is distributed, or ``simple``: folders of splits, and a JSON file beside each."""
    rng = np.random.default_rng(1)
    for number, (part, count) in enumerate(counts.items()):
        name = part if simple else f"{part}2017"
        content = coco_file(count, seed=number, first=1 + 1000 * number)
        file = root / f"{part}.json" if simple else root / "annotations" / f"instances_{name}.json"
        (root / name).mkdir(parents=True, exist_ok=True)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))
        for image in content["images"]:
            pixels = rng.integers(0, 255, (20, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / image["file_name"])
    return root
