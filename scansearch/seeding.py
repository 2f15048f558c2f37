"""Random numbers as a pure function of a named stream and a key, so that every draw can be made again.

The stream is the first word of what a seed is made of, so equal keys of two streams give unrelated numbers. Python's
and torch's global generators take 32 bits of it: by chance alone, one pair of keys in four billion shares them.
"""

from __future__ import annotations

import random
from enum import IntEnum

import numpy as np
import torch


class Stream(IntEnum):
    """What random numbers are for. The values are part of every result: never renumber them."""

    WEIGHTS = 1  # key: seed. Initial weights
    STEP = 2  # key: seed, rank, step. Dropout, drop path, mixing, erasing
    GATES = 3  # key: seed, step. Sampled gates, the same on every rank
    TRAINING_ORDER = 4  # key: seed, epoch, cycle. The order of training images
    TRAINING_IMAGE = 5  # key: seed, epoch, image. Augmentation
    VALIDATION_ORDER = 6  # as above, for the batches that alphas learn from
    VALIDATION_IMAGE = 7
    GENOTYPES = 8  # key: seed. Genotypes drawn at random
    EVOLUTION = 9  # key: seed, proposals so far
    BALANCED_ORDER = 10  # key: seed, epoch, cycle. Training images drawn so that classes are equally likely
    PROPOSALS = 11  # key: image. Which proposals count in the loss of an image that is scored


def generate(stream: Stream, *key: int) -> np.random.Generator:
    """NumPy's generator at the start of ``stream`` for a key of non-negative integers."""
    return np.random.default_rng([int(stream), *key])


def torch_generator(stream: Stream, *key: int) -> torch.Generator:
    """The same as a generator of torch, on the CPU."""
    words = np.random.SeedSequence([int(stream), *key]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(words[0] >> np.uint64(1)))


def seed_everything(stream: Stream, *key: int) -> None:
    """Seed Python's, NumPy's and torch's global generators, those of all devices, from ``stream`` and a key of
    non-negative integers."""
    torch.manual_seed(seed_host(stream, *key))


def seed_host(stream: Stream, *key: int) -> int:
    """The same for what draws on the CPU alone, such as the reading of one image; returns torch's seed.

    torch.manual_seed formats the stack for each kind of device that it has not initialised yet: up to a
    millisecond, where an image of the digits takes a tenth of that.
    """
    words = [int(word) for word in np.random.SeedSequence([int(stream), *key]).generate_state(3)]
    random.seed(words[0])
    np.random.seed(words[1])
    torch.default_generator.manual_seed(words[2])
    return words[2]
