"""Images: a data specification -> training, validation and test splits, and batches of them."""

from scansearch.data.augment import Augment
from scansearch.data.batches import VALIDATION_STREAMS, EpochBatches, evaluation_batches, training_batches
from scansearch.data.sources import load_data
from scansearch.data.splits import BrokenImage, BrokenImages, ImageData, Sample, Split, stratified

__all__ = [
    "VALIDATION_STREAMS",
    "Augment",
    "BrokenImage",
    "BrokenImages",
    "EpochBatches",
    "ImageData",
    "Sample",
    "Split",
    "evaluation_batches",
    "load_data",
    "stratified",
    "training_batches",
]
