"""Classes of unequal size: counts, weights, and draws in which they are equally likely."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.planted import made_data

from scansearch.data import EpochBatches, Split, load_data, match_treatment, training_batches
from scansearch.data.arrays import data_from_arrays
from scansearch.data.balance import balanced_draws, class_counts, class_weights, known_counts, unequal_classes
from scansearch.data.translated import with_validation_in_training
from scansearch.errors import InputError
from scansearch.seeding import Stream

UNEQUAL = [0] * 60 + [1] * 30 + [2] * 6


def test_weights_are_inversely_proportional_and_have_mean_1_over_the_images():
    counts = [60, 30, 6]
    weights = class_weights(counts)
    assert weights == pytest.approx([96 / 180, 96 / 90, 96 / 18])
    assert np.average(weights, weights=counts) == pytest.approx(1)


def test_a_class_without_images_has_no_weight():
    assert class_weights([3, 0, 1]) == pytest.approx([4 / 6, 0, 2])


def test_draws_are_equally_likely_in_classes_and_within_them():
    labels = np.random.default_rng(0).permutation(UNEQUAL * 100)
    drawn = balanced_draws(labels, np.random.default_rng(1))
    assert len(drawn) == len(labels)
    shares = np.bincount(labels[drawn]) / len(drawn)
    assert shares == pytest.approx([1 / 3] * 3, abs=0.02)  # 4 standard deviations of 9,600 draws
    rare = np.flatnonzero(labels == 2)
    times = np.bincount(drawn, minlength=len(labels))[rare]
    assert times.mean() == pytest.approx(len(drawn) / 3 / len(rare), rel=0.06)
    assert times.var() == pytest.approx(times.mean(), rel=0.3)  # as of even draws, a Poisson distribution


def batches(seed=0, epoch=0, **options):
    return list(
        EpochBatches(
            len(UNEQUAL),
            12,
            10,
            seed=seed,
            epoch=epoch,
            labels=UNEQUAL,
            stream=Stream.BALANCED_ORDER,
            **options,
        )
    )


def test_the_order_is_a_pure_function_of_seed_and_epoch():
    whole = batches()
    assert whole == batches()
    assert [key[1] for key in whole[0]] != [key[1] for key in batches(epoch=1)[0]]
    assert [key[1] for key in whole[0]] != [key[1] for key in batches(seed=1)[0]]
    assert batches(start=7) == whole[7:]


def test_ranks_together_draw_what_one_draws():
    parts = [batches(rank=rank, ranks=3) for rank in range(3)]
    assert [[key for piece in pieces for key in piece] for pieces in zip(*parts, strict=True)] == batches()


def test_an_image_that_is_drawn_twice_is_augmented_twice():
    noisy = Split(4, lambda i: (torch.rand(1, 2, 2), i), augments=True, labels=[0, 0, 0, 1])
    (batch,) = training_batches(noisy, 16, seed=0, epoch=0, batches=1, balanced=True)
    images, labels = batch
    assert (labels == 3).sum() > 4
    assert len({image.numpy().tobytes() for image in images}) == 16


def test_data_list_the_labels_of_their_images(tmp_path):
    arrays = data_from_arrays(np.zeros((40, 4, 4), np.uint8), [0] * 30 + [1] * 10, name="some")
    digits = load_data("digits", image_size=8)
    every = [arrays, digits, with_validation_in_training(digits), load_data("fake:8x8:3", image_size=8)]
    every.append(match_treatment(arrays, arrays.treatment.model_copy(update={"classes": ("1", "none", "0")})))
    for data in every:
        for split in (data.train, data.validation, data.test):
            if split.count:
                assert list(split.labels[:50]) == [split.read(i)[1] for i in range(min(50, split.count))]
                assert sum(class_counts(split, len(data.classes))) == split.count


def test_data_that_do_not_list_their_labels_are_told_apart():
    silent = Split(3, lambda i: (torch.zeros(1, 2, 2), i))
    assert class_counts(silent, 3) is None
    with pytest.raises(InputError, match="the data 'mine' do not list the labels"):
        known_counts(silent, 3, "mine")
    assert known_counts(made_data(64).train, 4, "bars") == [16] * 4


def test_unequal_classes_are_one_line():
    assert unequal_classes([30, 10], ["cat", "owl"]) is None
    line = unequal_classes([31, 10], ["cat", "owl"])
    assert line.startswith(
        "classes are unequal: 'cat' has 31 training images, 'owl' 10; --balance weights or"
    )
    assert unequal_classes([3, 0], ["cat", "owl"]) is not None
