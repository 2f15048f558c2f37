"""Trainings of segmentation models: pure functions of their configuration, resumed exactly, on one process or two."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.processes import torchrun
from support.segmentations import five_steps, segmentation_task
from support.trainings import drive, weights

from scansearch import engine
from scansearch.errors import InputError
from scansearch.training.config import train_config
from scansearch.training.optimizer import parameter_groups

RESUMED = {
    "moving average, drop path, two micro-batches": {
        "ema": {"decay": 0.9},
        "drop_path": 0.2,
        "accumulate": 2,
        "erase": {"probability": 0.5},
        "augment": {"flip": 0.5, "color_jitter": 0.2, "interpolation": "random"},
    },
    "batch norm": {"head": {"norm": "batch", "auxiliary": 0.0}},
}


@pytest.mark.parametrize("options", RESUMED.values(), ids=RESUMED.keys())
def test_a_training_resumed_from_any_checkpoint_ends_bit_identical(options) -> None:
    whole = segmentation_task(seed=3, **options)
    saved = [event for event in drive(whole) if isinstance(event, engine.CheckpointReady)]
    assert len(saved) == 4
    for checkpoint in (saved[0], saved[2]):  # both in the middle of an epoch
        resumed = segmentation_task(seed=3, **options)
        drive(resumed, resume=(checkpoint.tensors, json.loads(json.dumps(checkpoint.state))))
        final, expected = resumed.tensors(), whole.tensors()
        assert final.keys() == expected.keys()
        assert all(torch.equal(final[name], tensor) for name, tensor in expected.items())
        assert resumed.state() == whole.state()


def test_micro_batches_are_the_whole_batch() -> None:
    options = {"epochs": 1, "optimizer": {"name": "sgd", "lr": 0.1}, "head": {"dropout": 0.0}}
    one, four = segmentation_task(**options), segmentation_task(accumulate=4, **options)
    drive(one)
    drive(four)
    torch.testing.assert_close(weights(one), weights(four), atol=1e-5, rtol=0)


# That micro-batches add up to the batch is tried above; starting two processes is slow.
@pytest.mark.long
def test_two_processes_learn_what_one_does(tmp_path: Path) -> None:
    script, out = Path(__file__).parents[1] / "support" / "segmentations.py", tmp_path / "weights"
    done = torchrun(2, str(script), str(out))
    assert done.returncode == 0, done.stderr[-3000:]
    two, one = load_file(out), dict(five_steps().model.named_parameters())
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(
            two[name], value.detach(), atol=1e-5, rtol=0, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_the_best_weights_are_those_of_the_best_miou(monkeypatch) -> None:
    task = segmentation_task(epochs=4)
    scores = iter([(1.0, 90.0, 30.0), (2.0, 80.0, 40.0), (0.1, 99.0, 35.0), (1.5, 70.0, 40.0)])
    monkeypatch.setattr(
        task, "score", lambda split: dict(zip(("loss", "accuracy", "miou"), next(scores), strict=True))
    )
    epochs = [event.metrics for event in drive(task) if isinstance(event, engine.EpochDone)]
    assert [epoch["best"] for epoch in epochs] == [True, True, False, True]  # of equal ones, the lower loss
    assert task.best == {"epoch": 3, "loss": 1.5, "accuracy": 70.0, "miou": 40.0}
    assert {"validation_loss", "validation_accuracy", "validation_miou"} <= set(epochs[0])


def test_weight_decay_and_layer_decay_go_where_they_belong() -> None:
    task = segmentation_task(optimizer={"layer_decay": 0.5, "weight_decay": 0.1})
    names = {id(p): name for name, p in task.model.named_parameters()}
    found = {
        names[id(p)]: (group["weight_decay"], group["lr_scale"])
        for group in parameter_groups(task.model, task.config.optimizer)
        for p in group["params"]
    }
    assert found.keys() == set(names.values())
    assert found["decoder.decode_head.classifier.weight"] == (0.1, 1.0)
    assert found["decoder.decode_head.bottleneck.batch_norm.weight"] == (0.0, 1.0)
    assert found["backbone.layers.1.mixer.in_proj.weight"] == (0.1, 0.5)
    assert found["backbone.layers.0.mixer.A_log"] == (0.0, 0.25)
    assert found["backbone.pos_embed"] == (0.0, 0.125)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mix.mixup": "0.2"}, "mix is of task classify"),
        ({"balance": "weights"}, "balance is of task classify"),
        ({"task": "classify", "head.norm": "group"}, "head goes with the other tasks only"),
        ({"head": "null"}, "task segment needs a head"),
        ({"head.norm": "layer"}, "norm"),
        ({"task": "count"}, "task"),
    ],
)
def test_options_of_the_other_task_are_refused(options, message: str) -> None:
    with pytest.raises(InputError, match=message):
        train_config(
            settings=[f"{name}={value}" for name, value in options.items()], model="m", task="segment"
        )


def test_settings_that_a_task_cannot_train_with_are_one_line() -> None:
    with pytest.raises(InputError, match="two images or more at once"):
        segmentation_task(head={"norm": "batch"}, batch_size=1)
    with pytest.raises(InputError, match="released classifiers"):
        segmentation_task(optimizer={"decay": "released"})
    with pytest.raises(InputError, match=r"model_options\.num_classes: the task"):
        segmentation_task(model_options={"num_classes": 3})


def test_a_classifier_s_configuration_is_as_it_was() -> None:
    config = train_config(model="m")
    assert (config.task, config.head, config.label_smoothing) == ("classify", None, 0.1)
    assert train_config(model="m", task="segment").label_smoothing == 0.0
