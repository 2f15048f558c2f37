"""Streams of random numbers: equal keys of two streams have nothing in common; a key always gives the same."""

from __future__ import annotations

import random

import numpy as np
import torch

from scansearch.seeding import Stream, generate, seed_everything, seed_host, torch_generator


def test_streams_have_numbers_of_their_own() -> None:
    assert len(set(Stream)) == len(Stream.__members__)


def test_equal_keys_of_two_streams_give_other_numbers() -> None:
    """Step 3 of seed 0 and image 3 of seed 0 once were one stream."""
    key = (0, 0, 3)
    drawn = {tuple(generate(stream, *key).integers(0, 2**62, 4).tolist()) for stream in Stream}
    assert len(drawn) == len(Stream)
    torchs = {tuple(torch.randn(4, generator=torch_generator(stream, *key)).tolist()) for stream in Stream}
    assert len(torchs) == len(Stream)


def globals_after(stream: Stream, *key: int) -> tuple[float, float, float]:
    seed_everything(stream, *key)
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_all_global_generators_follow_the_key() -> None:
    keys = [
        (Stream.STEP, 0, 0, 3),
        (Stream.STEP, 0, 1, 2),
        (Stream.STEP, 1, 0, 3),
        (Stream.TRAINING_IMAGE, 0, 0, 3),
    ]
    drawn = [globals_after(*key) for key in keys]
    assert [globals_after(*key) for key in keys] == drawn
    for numbers in zip(*drawn, strict=True):
        assert len(set(numbers)) == len(keys)


def test_what_draws_on_the_cpu_alone_draws_the_same() -> None:
    key = (Stream.TRAINING_IMAGE, 3, 1, 7)
    expected = globals_after(*key)
    assert globals_after(Stream.STEP, 0, 0, 0) != expected
    seed_host(*key)
    assert (random.random(), float(np.random.rand()), float(torch.rand(()))) == expected


def test_the_seeds_of_many_keys_differ() -> None:
    words = {
        int(np.random.SeedSequence([int(stream), seed, rank, step]).generate_state(3)[2])
        for stream in (Stream.STEP, Stream.TRAINING_IMAGE)
        for seed in range(4)
        for rank in range(2)
        for step in range(500)
    }
    assert len(words) == 2 * 4 * 2 * 500
