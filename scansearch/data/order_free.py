"""How well the classes can be told without any order of the pixels: the bar below which a scan direction says nothing.

A scan direction matters only to a model that uses the order of tokens. Features of an image that no order changes, the
quantiles, mean, deviation and skew of each channel's values, go into a logistic regression.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from scansearch.data.batches import Batch, evaluation_batches, training_batches
from scansearch.data.splits import ImageData

TRAIN, VALIDATION = 2000, 1000  # images that are looked at
_QUANTILES = np.linspace(0, 1, 17)


@dataclass(frozen=True)
class OrderFreeBar:
    """What the classifier without order reaches.

    Attributes:
        accuracy: on the validation images, percent.
        images: validation images that it was scored on.
    """

    accuracy: float
    images: int


def order_free_bar(data: ImageData) -> OrderFreeBar:
    """Fit on up to 2,000 training images as they are augmented, score on up to 1,000 validation images.

    The same data give the same bar. Draws from the global generators as reading training images does.

    Raises:
        RunStopped: no image can be read.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    size = min(50, data.train.count)
    batches = training_batches(
        data.train, size, seed=0, epoch=0, batches=min(TRAIN, data.train.count) // size
    )
    features, labels = _table(list(batches), TRAIN)
    seen, truth = _table(list(evaluation_batches(data.validation, 50)), VALIDATION)
    if len(set(labels.tolist())) < 2:
        return OrderFreeBar(100 * float((truth == labels[0]).mean()), len(truth))
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a bar need not converge to the last digit
        classifier.fit(features, labels)
    return OrderFreeBar(100 * float(classifier.score(seen, truth)), len(truth))


def _table(batches: list[Batch], most: int) -> tuple[np.ndarray, np.ndarray]:
    """Features [n, f] and labels [n] of the first ``most`` images."""
    features = np.concatenate([_features(images) for images, _ in batches])
    labels = np.concatenate([numbers.numpy() for _, numbers in batches])
    return features[:most], labels[:most]


def _features(images: Tensor) -> np.ndarray:
    """[n, channels * 20] of images [n, channels, height, width]."""
    values = images.flatten(2).double().numpy()
    quantiles = np.quantile(values, _QUANTILES, axis=2)
    moments = np.stack([values.mean(2), values.std(2), (values**3).mean(2)])
    return np.concatenate([quantiles, moments]).transpose(1, 2, 0).reshape(len(values), -1)
