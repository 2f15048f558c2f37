"""One flipped bit in a binary file of a run or an export is refused, or changes nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from scansearch.errors import InputError
from scansearch.evaluation.hub_folder import load_hub_folder
from scansearch.exporting.read_program import load_program
from scansearch.records.weights import load_weights
from scansearch.runs.folder import Run

Values = dict[str, Tensor]


def weights(path: Path) -> Values:
    return load_weights(path).model.state_dict()


def checkpoint(path: Path) -> Values:
    read = Run(path.parents[1]).load_checkpoint()
    assert read is not None
    return read.tensors


def hub(path: Path) -> Values:
    return load_hub_folder(path.parent).model.state_dict()


def program(path: Path) -> Values:
    return dict(load_program(path).state_dict)


# File below the folder of `finished`, and what reads it.
READERS: dict[str, Callable[[Path], Values]] = {
    "training/best.safetensors": weights,
    "search/checkpoints": checkpoint,
    "training/checkpoints": checkpoint,
    "hub/model.safetensors": hub,
    "model.pt2": program,
}
COUNTS = {"model.pt2": 20}


def copied(finished: Path, name: str, tmp_path: Path) -> Path:
    """A copy of the file ``name`` with what its reader needs beside it; of checkpoints the last alone."""
    source = finished / name
    if source.is_dir():
        target = tmp_path / source.parent.name / source.name / max(path.name for path in source.iterdir())
        source = source / target.name
    else:
        target = tmp_path / name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)
    if name.startswith("hub"):
        shutil.copy(source.parent / "config.json", target.parent)
    return target


def flips(content: bytes, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    rng = np.random.default_rng(seed)
    for position in rng.integers(0, len(content), count).tolist():
        bit = int(rng.integers(8))
        changed = bytearray(content)
        changed[position] ^= 1 << bit
        yield f"bit {bit} of byte {position}", bytes(changed)


def check_flips(finished: Path, name: str, tmp_path: Path, count: int) -> None:
    path, read = copied(finished, name, tmp_path), READERS[name]
    expected = {key: value.clone() for key, value in read(path).items()}
    silent, messages = [], []
    for what, content in flips(path.read_bytes(), count, seed=count):
        path.write_bytes(content)
        try:
            values = read(path)
        except InputError as error:
            messages.append(str(error))
            continue
        # Padding and the dates of an archive's entries are not read.
        same = values.keys() == expected.keys() and all(
            torch.equal(values[key], expected[key]) for key in values
        )
        if not same:
            silent.append(what)
    assert silent == []
    assert messages
    assert not [message for message in messages if "\n" in message]


@pytest.mark.parametrize("name", READERS)
def test_a_flipped_bit_is_never_silent(name: str, finished: Path, tmp_path: Path) -> None:
    check_flips(finished, name, tmp_path, COUNTS.get(name, 60))


@pytest.mark.long
@pytest.mark.parametrize("name", READERS)
def test_a_thousand_flipped_bits_are_never_silent(name: str, finished: Path, tmp_path: Path) -> None:
    check_flips(finished, name, tmp_path, 1000)
