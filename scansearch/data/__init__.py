"""Images: a data specification -> training, validation and test splits, and batches of them.

Importing this loads nothing: names come from their modules on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scansearch.data.arrays import data_from_arrays as data_from_arrays
    from scansearch.data.arrays import data_from_dataset as data_from_dataset
    from scansearch.data.augment import Augment as Augment
    from scansearch.data.batches import VALIDATION_STREAMS as VALIDATION_STREAMS
    from scansearch.data.batches import EpochBatches as EpochBatches
    from scansearch.data.batches import evaluation_batches as evaluation_batches
    from scansearch.data.batches import training_batches as training_batches
    from scansearch.data.matched import match_treatment as match_treatment
    from scansearch.data.sources import load_data as load_data
    from scansearch.data.sources import takes_pictures as takes_pictures
    from scansearch.data.splits import BrokenImage as BrokenImage
    from scansearch.data.splits import BrokenImages as BrokenImages
    from scansearch.data.splits import ImageData as ImageData
    from scansearch.data.splits import Sample as Sample
    from scansearch.data.splits import Split as Split
    from scansearch.data.splits import stratified as stratified

_HOMES = {
    "VALIDATION_STREAMS": "batches",
    "Augment": "augment",
    "BrokenImage": "splits",
    "BrokenImages": "splits",
    "EpochBatches": "batches",
    "ImageData": "splits",
    "Sample": "splits",
    "Split": "splits",
    "data_from_arrays": "arrays",
    "data_from_dataset": "arrays",
    "evaluation_batches": "batches",
    "load_data": "sources",
    "match_treatment": "matched",
    "stratified": "splits",
    "takes_pictures": "sources",
    "training_batches": "batches",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'scansearch.data' has no attribute {name!r}")
    value = getattr(import_module(f"scansearch.data.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
