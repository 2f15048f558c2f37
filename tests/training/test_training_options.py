"""Every option of a training counts, and one that does not fit is refused in one line."""

from __future__ import annotations

import pytest
import torch
from support.trainings import drive, make_task, tiny_genotype, weights

import scansearch
from scansearch.costing import memory
from scansearch.errors import InputError
from scansearch.records.lookup import find_genotype
from scansearch.runs.recorder import Started
from scansearch.runs.train_run import train

CHANGING = {
    "optimizer": {"optimizer": {"name": "lion"}},
    "lr": {"optimizer": {"lr": 1e-3}},
    "weight decay": {"optimizer": {"weight_decay": 0.5}},
    "decay policy": {"optimizer": {"decay": "released", "weight_decay": 0.5}},
    "betas": {"optimizer": {"betas": [0.5, 0.9]}},
    "eps": {"optimizer": {"eps": 1e-3}},
    "layer decay": {"optimizer": {"layer_decay": 0.5}},
    "no clipping": {"optimizer": {"clip": None}},
    "clipping by value": {"optimizer": {"clip": 1e-4, "clip_mode": "value"}},
    "adaptive clipping": {"optimizer": {"clip": 1e-4, "clip_mode": "agc"}},
    "schedule": {"schedule": {"name": "linear"}},
    "tanh": {"schedule": {"name": "tanh"}},
    "milestones": {"schedule": {"name": "multistep", "milestones": [1]}},
    "warm-up": {"schedule": {"warmup_epochs": 1}},
    "min lr": {"schedule": {"min_lr": 4e-3}},
    "label smoothing": {"label_smoothing": 0.0},
    "drop path": {"drop_path": 0.9},
    "mixup": {"mix": {"mixup": 1.0}},
    "cutmix": {"mix": {"cutmix": 1.0}},
    "erasing": {"erase": {"probability": 1.0}},
    "bf16": {"mixed_precision": "bf16"},
    "batch size": {"batch_size": 8},
    "model options": {"model_options": {"drop_rate": 0.5}},
}
MIXING = {
    "probability": {"mix": {"cutmix": 1.0, "probability": 0.0}},
    "switch": {"mix": {"cutmix": 1.0, "mixup": 1.0, "switch": 0.0}},
    "mode": {"mix": {"cutmix": 1.0, "mode": "elem"}},
}


def after_two_epochs(options):
    clip = {"clip": 0.1}
    options = dict(options)
    options["optimizer"] = clip | options.get("optimizer", {})
    task = make_task(epochs=2, **options)
    drive(task)
    return weights(task)


@pytest.mark.parametrize("options", CHANGING.values(), ids=CHANGING.keys())
def test_options_change_what_is_learned(options):
    assert not torch.equal(after_two_epochs({}), after_two_epochs(options))


@pytest.mark.parametrize("options", MIXING.values(), ids=MIXING.keys())
def test_options_of_mixing_count(options):
    plain = after_two_epochs({"mix": {"cutmix": 1.0}})
    assert not torch.equal(plain, after_two_epochs(options))


def test_options_of_erasing_count():
    erase = {"probability": 1.0}
    plain = after_two_epochs({"erase": erase})
    for option in ({"mode": "const"}, {"max_count": 4}):
        assert not torch.equal(plain, after_two_epochs({"erase": erase | option}))


@pytest.mark.parametrize(
    "options", [{"channels_last": True}, {"grad_checkpointing": True}, {"accumulate": 2}], ids=str
)
def test_how_a_step_is_computed_does_not_change_what_is_learned(options):
    plain = make_task(epochs=1, optimizer={"name": "sgd", "lr": 0.1})
    other = make_task(epochs=1, optimizer={"name": "sgd", "lr": 0.1}, **options)
    drive(plain)
    drive(other)
    torch.testing.assert_close(weights(other), weights(plain), rtol=1e-4, atol=1e-6)


# --- bad input ---

BAD = {
    "unknown optimizer": ({"optimizer": {"name": "adamv"}}, "allowed: adam"),
    "option that the optimizer lacks": (
        {"optimizer": {"name": "sgd", "betas": [0.9, 0.99]}},
        "optimizer 'sgd'",
    ),
    "batch too large": ({"batch_size": 65}, "larger than the 64 training images"),
    "batch not divisible": ({"batch_size": 6, "accumulate": 4}, "not a multiple of accumulate 4"),
    "odd batch to mix": ({"batch_size": 9, "mix": {"mixup": 1.0}}, "even number"),
    "warm-up too long": ({"schedule": {"warmup_epochs": 3}}, "leaves nothing of 3 epochs"),
    "rates upside down": ({"schedule": {"min_lr": 1.0}}, "must not be above optimizer.lr"),
    "no milestones": ({"schedule": {"name": "multistep"}}, "milestones goes with"),
    "milestones of a cosine": ({"schedule": {"milestones": [1]}}, "milestones goes with"),
    "a factor of a cosine": ({"schedule": {"factor": 0.5}}, "factor goes with"),
    "late milestones": ({"schedule": {"name": "multistep", "milestones": [1, 3]}}, "before epoch 3"),
    "unknown field": ({"optimizer": {"lrr": 1}}, "unknown key 'optimizer.lrr'"),
    "size as model option": ({"model_options": {"num_classes": 3}}, "model_options.num_classes"),
    "unknown model option": ({"model_options": {"colour": 3}}, "no argument 'colour'"),
}


@pytest.mark.parametrize(("options", "message"), BAD.values(), ids=BAD.keys())
def test_options_that_do_not_fit_are_one_clear_line(options, message):
    with pytest.raises(InputError) as found:
        make_task(**options)
    assert message in str(found.value)
    assert "\n" not in str(found.value)


def test_augmentation_is_refused_where_the_data_have_their_own(tmp_path):
    with pytest.raises(InputError, match="augmentation of its own"):
        train(tiny_genotype(), data="digits", out=tmp_path / "run", augment={"flip": 0.0})
    assert not (tmp_path / "run").exists()


def test_models_are_found_by_name_file_and_folder(tmp_path):
    genotype = tiny_genotype()
    genotype.save(tmp_path / "genotype.yaml")
    assert find_genotype(str(tmp_path)) == find_genotype(str(tmp_path / "genotype.yaml")) == genotype
    published = find_genotype("localvim_tiny")
    assert sum(p.numel() for p in published.build().parameters()) == 7_994_152
    with pytest.raises(InputError, match="localvim_small"):
        find_genotype("localvim_huge")


def test_a_training_that_cannot_fit_in_memory_is_refused_before_it_writes(tmp_path, monkeypatch):
    options = {"data": "fake:8x8:2", "epochs": 1, "batch_size": 16, "device": "cpu"}
    monkeypatch.setattr(memory, "available_bytes", lambda device: 200_000)
    with pytest.raises(InputError, match=r"about \d+ images at a time fit: a smaller --batch-size"):
        scansearch.train(tiny_genotype(), out=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()
    monkeypatch.undo()
    events: list[object] = []
    result = scansearch.train(tiny_genotype(), out=tmp_path / "run", observe=events.append, **options)
    assert "of memory a step" in next(event for event in events if isinstance(event, Started)).needs
    assert scansearch.evaluate(result.run.folder, device="cpu").top1 == pytest.approx(result.test.top1)
