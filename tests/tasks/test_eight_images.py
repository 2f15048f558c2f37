"""Eight images, one epoch, each task: the whole way from data to a scored file, as `make test` can afford it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.trainings import tiny_genotype

from scansearch.evaluation.evaluate import evaluate
from scansearch.runs.train_run import train
from scansearch.tasks import TASKS, find_task

HEADS = {"segment": {"channels": 8}, "detect": {"heads": "small", "anchors": 2.0}}


def data_of(task: str, folder: Path) -> str:
    """Eight training pictures for ``task``."""
    if task != "classify":
        return "shapes:16x16:8:plain"
    rng = np.random.default_rng(0)
    for part, count in (("train", 4), ("val", 1), ("test", 1)):
        for name in ("dark", "light"):
            (folder / part / name).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 100, (16, 16, 3)) + 150 * (name == "light")
                Image.fromarray(pixels.astype(np.uint8)).save(folder / part / name / f"{index}.png")
    return f"folder:{folder}"


@pytest.mark.parametrize("task", TASKS)
def test_eight_images_are_learned_from_scored_and_scored_again(task: str, tmp_path: Path) -> None:
    options = {"head": HEADS[task]} if task in HEADS else {}
    result = train(
        tiny_genotype(),
        task=task,
        data=data_of(task, tmp_path / "data"),
        out=tmp_path / "run",
        epochs=1,
        batch_size=4,
        image_size=16,
        device="cpu",
        progress=False,
        **options,
    )
    kind = find_task(task)
    (epoch,) = result.run.metrics("epoch")
    assert {f"validation_{name}" for name in kind.figures} <= set(epoch)
    again = evaluate(tmp_path / "run", device="cpu")
    assert again.score == pytest.approx(result.test.score, abs=1e-6)
    assert again.images == (2 if task == "classify" else 8)
    kept = json.loads((tmp_path / "run" / "result.json").read_text())["test"]
    assert kept["per_class"].keys() == set(result.test.classes)
