"""Trainings of detection models: pure functions of their configuration, resumed exactly."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch
from support.detections import detection_task
from support.trainings import drive

from scansearch import engine
from scansearch.errors import InputError
from scansearch.records.heads import DetectionHead, SegmentationHead
from scansearch.training.config import train_config

RESUMED = {
    "moving average, drop path, two micro-batches": {
        "ema": {"decay": 0.9},
        "drop_path": 0.2,
        "accumulate": 2,
        "augment": {"flip": 0.5, "color_jitter": 0.2, "interpolation": "random"},
    },
    "whole pictures": {"augment": {"flip": 0.5, "scale": [1.0, 1.0]}},
}


@pytest.mark.parametrize("options", RESUMED.values(), ids=RESUMED.keys())
def test_a_training_resumed_from_any_checkpoint_ends_bit_identical(options) -> None:
    whole = detection_task(seed=3, **options)
    saved = [event for event in drive(whole) if isinstance(event, engine.CheckpointReady)]
    assert len(saved) == 4
    for checkpoint in (saved[0], saved[2]):  # both in the middle of an epoch
        torch.manual_seed(99)
        random.seed(99)
        np.random.seed(99)
        resumed = detection_task(seed=3, **options)
        drive(resumed, resume=(checkpoint.tensors, json.loads(json.dumps(checkpoint.state))))
        final, expected = resumed.tensors(), whole.tensors()
        assert final.keys() == expected.keys()
        assert all(torch.equal(final[name], tensor) for name, tensor in expected.items())
        assert resumed.state() == whole.state()


def test_epochs_tell_ap_and_no_accuracy_and_the_best_is_by_masks(monkeypatch) -> None:
    task = detection_task(epochs=4)
    scores = iter([(1.0, 90.0, 30.0), (2.0, 80.0, 40.0), (0.1, 99.0, 35.0), (1.5, 70.0, 40.0)])
    names = ("loss", "box_ap", "mask_ap")
    measured = task.score(task.data.validation)
    assert set(measured) == set(names)
    monkeypatch.setattr(task, "score", lambda split: dict(zip(names, next(scores), strict=True)))
    events = drive(task)
    epochs = [event.metrics for event in events if isinstance(event, engine.EpochDone)]
    assert [epoch["best"] for epoch in epochs] == [True, True, False, True]
    assert all("accuracy" not in event.metrics for event in events if isinstance(event, engine.StepDone))
    assert task.best["epoch"] == 3


def test_every_part_of_the_model_learns() -> None:
    task = detection_task(epochs=1)
    before = {name: p.detach().clone() for name, p in task.model.named_parameters()}
    drive(task)
    still = [name for name, p in task.model.named_parameters() if torch.equal(p, before[name])]
    assert still == []


def test_a_head_is_that_of_its_task() -> None:
    assert train_config(model="m", task="detect").head == DetectionHead()
    assert train_config(model="m", task="segment").head == SegmentationHead()
    assert train_config(model="m", task="detect").label_smoothing == 0.0
    with pytest.raises(InputError, match=r"unknown key 'head\.norm'"):
        train_config(model="m", task="detect", head={"norm": "batch"})
    with pytest.raises(
        InputError, match=r"head\.heads: input should be 'standard' or 'small', found 'large'"
    ):
        train_config(model="m", task="detect", head={"heads": "large"})
    for options in ({"mix": {"mixup": 0.2}}, {"balance": "weights"}, {"label_smoothing": 0.1}):
        with pytest.raises(InputError, match=next(iter(options))):
            train_config(model="m", task="detect", **options)
