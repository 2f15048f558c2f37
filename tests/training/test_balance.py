"""Rare classes that count as much as frequent ones, by weights of the loss or by sampling."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support.commands import call
from support.trainings import drive, make_task, tiny_genotype, weights
from torch import nn

from scansearch.data import ImageData, Split
from scansearch.engine.loop import CheckpointReady
from scansearch.errors import InputError
from scansearch.runs.recorder import Started
from scansearch.runs.train_run import train
from scansearch.training.loss import WeightedCrossEntropy


def overlapping(frequent: int, rare: int, seed: int = 0) -> Split:
    """Two classes that differ by the height of a bar in noise, which overlaps: the likelier is often the wrong one."""
    generator = torch.Generator().manual_seed(seed)
    labels = [0] * frequent + [1] * rare
    heights = torch.randn(len(labels), generator=generator) + 1.6 * torch.tensor(labels)
    images = 0.1 * torch.randn(len(labels), 1, 8, 8, generator=generator)
    images[:, 0, 3] += heights[:, None]
    return Split(len(labels), lambda i: (images[i], labels[i]), labels=labels)


def unequal() -> ImageData:
    return ImageData(
        "unequal",
        ("often", "rarely"),
        1,
        (8, 8),
        overlapping(180, 12),
        overlapping(40, 40, 1),
        overlapping(40, 40, 2),
    )


# --- the loss ---


def test_equal_weights_are_torchs_own_loss():
    logits, labels = torch.randn(8, 3), torch.arange(8) % 3
    ours = WeightedCrossEntropy([1.0, 1.0, 1.0], 0.1)(logits, labels)
    torch.testing.assert_close(ours, nn.functional.cross_entropy(logits, labels, label_smoothing=0.1))
    shares = torch.rand(8, 3).softmax(1)
    ours = WeightedCrossEntropy([1.0, 1.0, 1.0])(logits, shares)
    torch.testing.assert_close(ours, nn.functional.cross_entropy(logits, shares))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_every_image_weighs_as_its_class(smoothing):
    given = [0.5, 1.0, 3.0]
    logits, labels = torch.randn(9, 3), torch.tensor([0, 0, 0, 0, 0, 1, 1, 2, 2])
    each = nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
    expected = (torch.tensor(given)[labels] * each).mean()
    torch.testing.assert_close(WeightedCrossEntropy(given, smoothing)(logits, labels), expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_a_mixed_image_is_the_sum_of_its_parts(smoothing):
    loss = WeightedCrossEntropy([0.5, 1.0, 3.0], smoothing)
    logits = torch.randn(4, 3)
    one, other = torch.tensor([0, 1, 2, 0]), torch.tensor([2, 2, 2, 1])
    shares = 0.3 * nn.functional.one_hot(one, 3) + 0.7 * nn.functional.one_hot(other, 3)
    torch.testing.assert_close(loss(logits, shares), 0.3 * loss(logits, one) + 0.7 * loss(logits, other))


# --- trainings ---


def after(**options):
    task = make_task(data=unequal(), epochs=1, **options)
    drive(task)
    return weights(task)


def test_balance_changes_what_is_learned_with_mixing_too():
    for mix in ({}, {"mixup": 0.5}, {"cutmix": 1.0}):
        plain, weighted, sampled = (
            after(mix=mix, balance=balance) for balance in ("none", "weights", "sampling")
        )
        assert not torch.equal(plain, weighted)
        assert not torch.equal(plain, sampled)
        assert weighted.isfinite().all()


def test_mixed_images_are_smoothed_once():
    for balance, expected in (("weights", 0.0), ("none", 0.1), ("sampling", 0.1)):
        task = make_task(data=unequal(), mix={"mixup": 1.0}, balance=balance, label_smoothing=0.1)
        assert task.mix.label_smoothing == expected
        assert getattr(task.criterion, "smoothing", 0.1) == 0.1


def test_weights_do_not_depend_on_micro_batches():
    options = {"balance": "weights", "optimizer": {"name": "sgd", "lr": 0.1}}
    torch.testing.assert_close(after(accumulate=4, **options), after(**options), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("balance", ["weights", "sampling"])
def test_a_balanced_training_resumes_bit_identical(balance):
    options = {"balance": balance, "epochs": 2, "seed": 3}
    whole = make_task(data=unequal(), **options)
    checkpoints = [event for event in drive(whole) if isinstance(event, CheckpointReady)]
    middle = next(event for event in checkpoints if event.step % whole.steps_per_epoch)
    # Checkpoints share memory with the weights, so the interrupted one is driven anew.
    broken = make_task(data=unequal(), **options)
    from scansearch.engine import drive as steps

    for event in steps(broken, seed=3):
        if isinstance(event, CheckpointReady) and event.step == middle.step:
            saved = {name: tensor.clone() for name, tensor in event.tensors.items()}, event.state
            break
    resumed = make_task(data=unequal(), **options)
    drive(resumed, resume=saved)
    assert torch.equal(weights(resumed), weights(whole))


def recall(balance: str, seed: int) -> float:
    """Percent of the rare class that is found in validation images."""
    data, options = unequal(), {"epochs": 12, "optimizer": {"lr": 1e-2}, "label_smoothing": 0.0}
    task = make_task(data=data, balance=balance, seed=seed, **options)
    drive(task)
    rare = replace(data.test, count=40, read=lambda i: data.test.read(40 + i))
    return task.score(rare)["accuracy"]


def test_a_rare_class_is_found_more_often():
    # Over four seeds: none of it without, 50 % and more with either.
    plain = recall("none", 0)
    assert plain < 10
    assert recall("weights", 0) > plain + 30
    assert recall("sampling", 0) > plain + 30


def test_data_without_a_list_of_labels_cannot_be_balanced():
    data = unequal()
    data = replace(data, train=replace(data.train, labels=()))
    for balance in ("weights", "sampling"):
        with pytest.raises(InputError, match="'unequal' do not list the labels"):
            make_task(data=data, balance=balance)


# --- what the user sees ---


def test_an_unknown_balance_is_one_line(capsys, tmp_path):
    tiny_genotype().save(tmp_path / "genotype.yaml")
    code, out, error = call(
        capsys, "train", str(tmp_path / "genotype.yaml"), "--data", "digits", "--balance", "classes"
    )
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert "balance" in error
    assert "'none', 'weights' or 'sampling'" in error


@pytest.mark.parametrize("balance", ["none", "weights"])
def test_a_run_says_that_classes_are_unequal(tmp_path, balance):
    events: list[object] = []
    result = train(
        tiny_genotype(), data=unequal(), out=tmp_path / "run", epochs=1, batch_size=16, device="cpu", balance=balance,
        observe=events.append,
    )  # fmt: skip
    started = next(event for event in events if isinstance(event, Started))
    told = [line for line in started.origin if line.startswith("data: classes are unequal")]
    assert len(told) == (balance == "none")
    assert result.test.images == 80  # never rebalanced
    assert sum(result.validation.confusion[0]) == 40
