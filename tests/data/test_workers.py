"""Data go to worker processes by pickling: the default of macOS, Windows and newer Pythons."""

from __future__ import annotations

import pickle
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.pictures import made_images

from scansearch.data import Augment, ImageData, data_from_arrays, data_from_dataset, load_data
from scansearch.data.splits import stratified_tenths
from scansearch.data.translated import with_validation_in_training
from scansearch.errors import InputError


def folder(path: Path) -> ImageData:
    made_images(path, ["a", "b"], 5)
    return load_data(f"folder:{path}", image_size=8, augment=Augment(policy="rand-m9-mstd0.5"))


def tar(path: Path) -> ImageData:
    made_images(path / "in", ["a", "b"], 5)
    with tarfile.open(path / "in.tar", "w") as file:
        file.add(path / "in", arcname=".")
    return load_data(f"timm:{path / 'in.tar'}", image_size=8, augment=Augment(policy="augmix-m3"))


def arrays(path: Path) -> ImageData:
    return data_from_arrays(np.zeros((10, 8, 8), np.uint8), np.arange(10) % 2)


def dataset(path: Path) -> ImageData:
    return data_from_dataset(torch.utils.data.TensorDataset(torch.zeros(10, 1, 8, 8), torch.arange(10) % 2))


KINDS: dict[str, Callable[[Path], ImageData]] = {
    "digits": lambda path: load_data("digits", image_size=8),
    "translated-digits": lambda path: load_data("translated-digits", image_size=10),
    "planted": lambda path: load_data("planted:rows", image_size=10),
    "both splits": lambda path: with_validation_in_training(load_data("translated-digits", image_size=10)),
    "fake": lambda path: load_data("fake:8x8:2", image_size=8),
    "colours": lambda path: load_data("fake:8x8:2", image_size=8, augment=Augment(color_jitter=0.4)),
    "folder": folder,
    "tar": tar,
    "arrays": arrays,
    "dataset": dataset,
}


@pytest.mark.parametrize("kind", KINDS)
def test_data_of_every_kind_can_be_pickled(kind: str, tmp_path: Path) -> None:
    data = KINDS[kind](tmp_path)
    copy = pickle.loads(pickle.dumps(data))
    for part in ("train", "validation", "test"):
        own, other = getattr(data, part), getattr(copy, part)
        assert own.count == other.count
        torch.manual_seed(0)
        np.random.seed(0)
        image, label = own.read(0)
        torch.manual_seed(0)
        np.random.seed(0)
        again, same = other.read(0)
        assert label == same
        assert own.augments or torch.equal(image, again)
    if data.baseline is not None:
        assert copy.baseline() == data.baseline()


PROGRAM = """
import sys
import torch
from scansearch.data import evaluation_batches, load_data, training_batches

def batches(data, workers):
    yield from training_batches(data.train, 4, seed=0, epoch=1, batches=2, workers=workers)
    yield from evaluation_batches(data.test, 4, workers=workers)

if __name__ == "__main__":
    torch.multiprocessing.set_start_method(sys.argv[1])
    for spec in sys.argv[2:]:
        data = load_data(spec, image_size=8)
        pairs = zip(batches(data, 0), batches(data, 1), strict=True)
        assert all(torch.equal(a, b) and torch.equal(c, d) for (a, c), (b, d) in pairs), spec
    print("same")
"""


@pytest.mark.parametrize("method", ["spawn", pytest.param("forkserver", marks=pytest.mark.long)])
def test_workers_read_the_same_under_every_way_to_start_them(method: str, tmp_path: Path) -> None:
    if method not in torch.multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {method}")
    made_images(tmp_path / "data", ["a", "b"], 5)
    (tmp_path / "program.py").write_text(PROGRAM)
    spec = f"folder:{tmp_path / 'data'}"
    done = subprocess.run(
        [sys.executable, str(tmp_path / "program.py"), method, spec], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "same\n"), done.stderr


# --- the automatic split ---


@given(
    sizes=st.lists(st.integers(3, 60), min_size=2, max_size=8),
    parts=st.integers(1, 2),
    seed=st.integers(0, 5),
)
@settings(deadline=None)
def test_every_class_is_in_every_split_whatever_the_imbalance(
    sizes: list[int], parts: int, seed: int
) -> None:
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]
    np.random.default_rng(seed).shuffle(labels)
    split = stratified_tenths(labels, parts, seed=seed)
    assert sorted(index for indices in split for index in indices) == list(range(len(labels)))
    assert stratified_tenths(labels, parts, seed=seed) == split
    for indices in split:
        assert indices == sorted(indices)
        assert {labels[i] for i in indices} == set(range(len(sizes)))
    for label, size in enumerate(sizes):
        for held in split[1:]:
            assert abs(sum(labels[i] == label for i in held) - max(1, size / 10)) <= 0.5


def test_a_class_too_small_to_split_is_named(tmp_path: Path) -> None:
    made_images(tmp_path, ["cat", "dog"], 30)
    made_images(tmp_path, ["eel"], 2)
    with pytest.raises(InputError, match="class 'eel' has too few images to split \\(3 are needed") as error:
        load_data(f"folder:{tmp_path}", image_size=8)
    assert "\n" not in str(error.value)
    made_images(tmp_path / "eel", ["more"], 1)
    data = load_data(f"folder:{tmp_path}", image_size=8)
    for split in (data.train, data.validation, data.test):
        assert {split.read(i)[1] for i in range(split.count)} == {0, 1, 2}
