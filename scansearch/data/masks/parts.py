"""Pictures without one class -> training, validation and test sets, whatever folders there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np

from scansearch.data.names import PartName, counted, listed
from scansearch.errors import InputError

Key = TypeVar("Key")
_SPLIT_SEED = 2024


def parts_to_score(given: Mapping[PartName, list[Key]], notes: list[str]) -> dict[PartName, list[Key]]:
    """The splits of pictures that are only scored: none are held out. Adds to ``notes``."""
    test = given.get("test") or given.get("validation") or given["train"]
    if "test" not in given:
        notes.append(f"all {counted(len(test), 'picture')} are scored")
    return {"train": [], "validation": given.get("validation") or test, "test": test}


def parts_to_train(
    given: Mapping[PartName, list[Key]], notes: list[str], spec: str
) -> dict[PartName, list[Key]]:
    """Splits that are missing, made as of pictures in folders; what is on a picture has no one class to keep in
    proportion. Adds to ``notes``.

    Raises:
        InputError: no pictures to train on, or too few to hold some out.
    """
    given = dict(given)
    if "train" not in given:
        raise InputError(
            f"{spec!r} holds pictures for {listed(given)} alone: they can be scored, not trained on"
        )
    if "test" not in given and "validation" in given:
        given["test"] = given.pop("validation")
        notes.append("there is no test set, so the validation pictures are it")
    missing: list[PartName] = [part for part in ("test", "validation") if part not in given]
    if missing:
        train = given["train"]
        each = max(1, (len(train) + 5) // 10)
        if len(train) <= len(missing) * each:
            raise InputError(
                f"{spec!r} has {counted(len(train), 'picture')}, too few to hold some out for {' and '.join(missing)}"
            )
        notes.append(f"a tenth of the training pictures is held out for {' and for '.join(missing)}")
        order = np.random.default_rng([_SPLIT_SEED]).permutation(len(train)).tolist()
        for number, part in enumerate(missing):
            given[part] = [train[i] for i in sorted(order[number * each : (number + 1) * each])]
        given["train"] = [train[i] for i in sorted(order[len(missing) * each :])]
    return {part: given[part] for part in ("train", "validation", "test")}
