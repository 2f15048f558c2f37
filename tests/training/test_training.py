"""A training is a pure function of its configuration, resumes exactly, and follows its schedule."""

from __future__ import annotations

import json
import math

import pytest
import torch
from support.trainings import drive, make_task, weights

from scansearch import engine
from scansearch.training.optimizer import parameter_groups

FULL = {
    "ema": {"decay": 0.9, "warmup": True},
    "mix": {"mixup": 0.4, "cutmix": 1.0},
    "erase": {"probability": 0.5},
    "drop_path": 0.2,
    "accumulate": 2,
    "optimizer": {"layer_decay": 0.8},
}
RESUMED = {
    "everything on": FULL,
    "sgd": {"optimizer": {"name": "sgd", "momentum": 0.9, "lr": 0.05}},
    "lamb counts steps per group": {"optimizer": {"name": "lamb"}},
    "lookahead keeps slow weights": {"optimizer": {"name": "lookahead_adamw"}},
    "bf16": {"mixed_precision": "bf16"},
}


@pytest.mark.parametrize("options", RESUMED.values(), ids=RESUMED.keys())
def test_a_training_resumed_from_any_checkpoint_ends_bit_identical(options):
    whole = make_task(seed=3, **options)
    events = drive(whole)
    saved = [event for event in events if isinstance(event, engine.CheckpointReady)]
    assert len(saved) == 12  # every tenth of 12 steps is every step, so most are in the middle of an epoch
    records = [event for event in events if not isinstance(event, engine.CheckpointReady)]
    for checkpoint in (saved[0], saved[5], saved[-2]):
        resumed = make_task(seed=3, **options)
        state = json.loads(json.dumps(checkpoint.state))
        rest = drive(resumed, resume=(checkpoint.tensors, state))
        final, expected = resumed.tensors(), whole.tensors()
        assert final.keys() == expected.keys()
        for name, tensor in expected.items():
            assert torch.equal(final[name], tensor), name
        assert resumed.state() == whole.state()
        repeated = [event for event in rest if not isinstance(event, engine.CheckpointReady)]
        assert repeated == records[-len(repeated) :]
    if "ema" in options:
        assert any(name.startswith("ema.") for name in expected)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    def final(seed):
        task = make_task(seed=seed, epochs=1)
        drive(task)
        return weights(task)

    assert torch.equal(final(1), final(1))
    assert not torch.equal(final(1), final(2))


def test_the_moving_average_is_what_its_formula_says_and_is_what_is_scored():
    task = make_task(epochs=1, ema={"decay": 0.7})
    expected = None
    for event in engine.drive(task, seed=0):
        if isinstance(event, engine.StepDone):
            now = weights(task).double()
            expected = now if event.step == 1 else 0.7 * expected + 0.3 * now
    average = torch.cat([p.detach().flatten().double() for p in task.ema.module.parameters()])
    torch.testing.assert_close(average, expected, rtol=1e-5, atol=1e-7)
    assert task.scored_model is task.ema.module


def test_learning_rates_are_those_of_the_released_recipe():
    """Warm-up held within each epoch (5.01e-5 in the first of 20, 1e-3 in the last), then a cosine by step."""
    task = make_task(
        epochs=60,
        optimizer={"lr": 1e-3},
        schedule={"warmup_epochs": 20, "warmup_by": "epoch", "warmup_lr": 1e-7, "min_lr": 1e-6},
    )
    rates = []
    for step in range(task.epochs * task.steps_per_epoch):
        task.set_learning_rate(step // task.steps_per_epoch, step)
        rates.append(task.optimizer.param_groups[0]["lr"])
    each, total = task.steps_per_epoch, len(rates)
    for epoch in range(20):
        expected = 1e-7 + (epoch + 1) / 20 * (1e-3 - 1e-7)
        assert rates[epoch * each : (epoch + 1) * each] == pytest.approx([expected] * each)
    assert rates[0] == pytest.approx(5.01e-5, rel=1e-2)
    for step in range(20 * each, total):
        progress = (step - 20 * each) / (total - 20 * each)
        assert rates[step] == pytest.approx(1e-6 + (1e-3 - 1e-6) * (1 + math.cos(math.pi * progress)) / 2)


def test_milestones_are_epochs_of_the_run():
    schedule = {"name": "multistep", "milestones": [4, 6], "factor": 0.5, "warmup_epochs": 1}
    task = make_task(epochs=8, optimizer={"lr": 1e-3}, schedule=schedule)
    each, rates = task.steps_per_epoch, []
    for step in range(task.epochs * each):
        task.set_learning_rate(step // each, step)
        rates.append(task.optimizer.param_groups[0]["lr"])
    # timm's milestones apply one step before their epoch
    assert rates[each : 4 * each - 1] == pytest.approx([1e-3] * (3 * each - 1))
    assert rates[4 * each : 6 * each - 1] == pytest.approx([5e-4] * (2 * each - 1))
    assert rates[6 * each :] == pytest.approx([2.5e-4] * (2 * each))


def test_weight_decay_and_layer_decay_go_where_they_belong():
    task = make_task(optimizer={"layer_decay": 0.5, "weight_decay": 0.1})
    names = {id(p): name for name, p in task.model.named_parameters()}
    found = {
        names[id(p)]: (group["weight_decay"], group["lr_scale"])
        for group in parameter_groups(task.model, task.config.optimizer)
        for p in group["params"]
    }
    assert found.keys() == set(names.values())
    assert found["head.weight"] == (0.1, 1.0)
    assert found["head.bias"] == (0.0, 1.0)
    assert found["layers.1.mixer.in_proj.weight"] == (0.1, 0.5)
    assert found["layers.0.mixer.in_proj.weight"] == (0.1, 0.25)
    assert found["layers.0.mixer.A_log"] == (0.0, 0.25)
    assert found["pos_embed"] == (0.0, 0.125)
    task.set_learning_rate(0, 0)
    top = max(group["lr"] for group in task.optimizer.param_groups)
    assert min(group["lr"] for group in task.optimizer.param_groups) == pytest.approx(top / 8)


def test_weights_stay_float32_under_bf16():
    task = make_task(epochs=1, mixed_precision="bf16")
    drive(task)
    assert {p.dtype for p in task.model.parameters()} == {torch.float32}


def test_a_training_learns():
    task = make_task(epochs=12, batch_size=8, optimizer={"lr": 1e-2})
    epochs = [event.metrics for event in drive(task) if isinstance(event, engine.EpochDone)]
    assert epochs[-1]["validation_accuracy"] > 60  # of four classes
    assert task.best["accuracy"] == max(epoch["validation_accuracy"] for epoch in epochs)
