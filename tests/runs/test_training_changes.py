"""A training that goes on is the same experiment: what changed since its start is told; a full disk loses nothing."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support.commands import call
from support.pictures import made_images
from support.trainings import tiny_genotype

import scansearch
from scansearch.records.weights import load_weights

OPTIONS = {"epochs": 2, "batch_size": 8, "device": "cpu", "image_size": 8, "progress": False}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A training on a folder of pictures that was cut off after its first epoch, and a copy of all of it."""
    place, copy = tmp_path_factory.mktemp("original") / "place", tmp_path_factory.mktemp("copy") / "place"
    made_images(place / "images" / "train", ("a", "b"), 20)
    made_images(place / "images" / "val", ("a", "b"), 4)
    made_images(place / "images" / "test", ("a", "b"), 4)
    scansearch.train(tiny_genotype(), data=f"folder:{place / 'images'}", out=place / "run", **OPTIONS)
    shutil.copytree(place / "run", place / "whole")
    sorted((place / "run" / "checkpoints").iterdir())[-1].unlink()
    (place / "run" / "result.json").unlink()
    shutil.copytree(place, copy)
    return place, copy


@pytest.fixture
def run(original: tuple[Path, Path]) -> tuple[Path, Path]:
    """The folder of that training and the folder of its pictures, as they were."""
    place, copy = original
    shutil.rmtree(place)
    shutil.copytree(copy, place)
    return place / "run", place / "images"


def resumed(capsys: pytest.CaptureFixture[str], folder: Path) -> tuple[int, str]:
    code, _, err = call(capsys, "train", "--resume", str(folder), "--quiet")
    assert "Traceback" not in err
    return code, err


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def same_weights(one: Path, other: Path) -> bool:
    tensors, others = (
        load_weights(folder / "best.safetensors").model.state_dict() for folder in (one, other)
    )
    return tensors.keys() == others.keys() and all(torch.equal(tensors[key], others[key]) for key in tensors)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seed: 0", "seed: 5", "seed of config.yaml was changed from 0 to 5"),
        ("epochs: 2", "epochs: 9", "epochs of config.yaml was changed from 2 to 9"),
        ("smoothing: 0.1", "smoothing: 0.3", "label_smoothing of config.yaml was changed from 0.1 to 0.3"),
    ],
)
def test_an_edited_configuration_is_refused(run, old: str, new: str, message: str, capsys) -> None:
    folder, _ = run
    path = folder / "config.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    before = contents(folder)
    code, err = resumed(capsys, folder)
    assert (code, err.count("\n")) == (2, 1)
    assert message in err
    assert contents(folder) == before


def test_another_genotype_is_refused(run, capsys) -> None:
    folder, _ = run
    path = folder / "genotype.yaml"
    lines = path.read_text().replace("v_flip", "h_flip").splitlines()
    path.write_text("\n".join(line for line in lines if not line.startswith("hash:")) + "\n")
    code, err = resumed(capsys, folder)
    assert (code, err.count("\n")) == (2, 1)
    assert "genotype.yaml was changed" in err


def test_a_class_more_is_refused(run, capsys) -> None:
    folder, images = run
    for split in ("train", "val", "test"):
        made_images(images / split, ("c",), 4)
    code, err = resumed(capsys, folder)
    assert (code, err.count("\n")) == (2, 1)
    assert "class 'c' of the data is new" in err


def test_a_renamed_class_is_refused(run, capsys) -> None:
    folder, images = run
    for split in ("train", "val", "test"):
        (images / split / "a").rename(images / split / "z")
    code, err = resumed(capsys, folder)
    assert (code, err.count("\n")) == (2, 1)
    assert "'a'" in err
    assert "'z'" in err


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[1]", b"{", b'{"schema": 1}'])
def test_a_damaged_fingerprint_is_one_line(run, content: bytes, capsys) -> None:
    folder, _ = run
    (folder / "fingerprint.json").write_bytes(content)
    code, err = resumed(capsys, folder)
    assert (code, err.count("\n")) == (2, 1)
    assert "fingerprint.json" in err


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[1]"])
def test_a_damaged_environment_which_nothing_depends_on_stops_nothing(run, content: bytes, capsys) -> None:
    folder, _ = run
    (folder / "environment.json").write_bytes(content)
    code, err = resumed(capsys, folder)
    assert code == 0, err
    assert same_weights(folder, folder.parent / "whole")
    assert (folder / "result.json").is_file()


@pytest.fixture
def largest_file() -> Iterator[object]:
    """Sets how many bytes a file of this process may have: beyond it, writing fails as on a full disk."""
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda most: resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, ignored)


def test_a_disk_that_fills_up_ends_a_training_with_one_line_and_loses_nothing(
    run, largest_file, capsys
) -> None:
    folder, _ = run
    checkpoint = sorted((folder / "checkpoints").iterdir())[-1]
    before = checkpoint.read_bytes()
    largest_file(len(before) // 2)  # the small files can still be written
    try:
        code, err = resumed(capsys, folder)
    finally:
        largest_file(resource.RLIM_INFINITY)
    assert (code, err.count("\n")) == (1, 1), err
    assert "cannot write" in err
    assert checkpoint.read_bytes() == before
    assert not [path for path in folder.rglob("*") if path.name.startswith(".") and "lock" not in path.name]
    assert resumed(capsys, folder)[0] == 0
    assert same_weights(folder, folder.parent / "whole")
    result, whole = (
        json.loads((place / "result.json").read_text()) for place in (folder, folder.parent / "whole")
    )
    assert result["test"]["loss"] == whole["test"]["loss"]


@pytest.mark.long
def test_of_two_trainings_that_start_at_once_in_one_folder_one_goes_on(run, tmp_path: Path) -> None:
    _, images = run
    tiny_genotype().save(tmp_path / "genotype.yaml")
    command = [sys.executable, "-m", "scansearch", "train", str(tmp_path / "genotype.yaml"), "--quiet"]
    command += ["--data", f"folder:{images}", "--epochs", "2", "--batch-size", "8", "--image-size", "8"]
    both = [
        subprocess.Popen([*command, "--out", str(tmp_path / "run")], stderr=subprocess.PIPE, text=True)
        for _ in "ab"
    ]
    errors = [process.communicate(timeout=120)[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 2], errors
    refused = next(error for process, error in zip(both, errors, strict=True) if process.returncode)
    assert refused.count("\n") == 1
    assert str(tmp_path / "run") in refused
    assert (tmp_path / "run" / "result.json").is_file()
